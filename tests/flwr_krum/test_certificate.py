from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.certificate import (
    Certificate,
    certify,
    least_kappa,
    limit_of,
    rounding_to,
)
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.kernel.enclosure import Points
from flwr_krum.kernel.pairwise import gram_distances, squared_distances
from flwr_krum.kernel.student import student
from flwr_krum.kernel.threads import one_blas_thread
from flwr_krum.rules import (
    Average,
    Bucketing,
    ClientUpdates,
    Clipping,
    FLTrust,
    GeometricMedian,
    Krum,
    Median,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
)
from tests.flwr_krum.every_set import Round, exactly

KINDS = ("cloud", "far", "copies", "twins", "line", "balanced", "stretched", "faint", "extreme")


def draw_models(rng, kind, n, d):
    """Return n rows: honest ones, and a few that are what the kind says."""
    X = rng.standard_normal((n, d))
    liars = int(rng.integers(0, (n - 1) // 2 + 1))
    if kind == "far":
        X[:liars] *= 10.0 ** rng.uniform(0, 9)
    elif kind == "copies":
        X[:liars] = X[-1] if rng.random() < 0.5 else 10.0 ** rng.uniform(-6, 6)
    elif kind == "twins":
        X = X[rng.integers(0, max(2, n // 2), n)]
    elif kind == "line":
        X = np.round(X * 2) * rng.standard_normal((1, d))
    elif kind == "balanced":
        for i in range(0, liars - 1, 2):
            X[i + 1] = -X[i] * 10.0 ** rng.uniform(0, 5)
            X[i] = -X[i + 1]
    elif kind == "stretched":
        X *= 10.0 ** rng.uniform(-9, 9, (n, 1))
    elif kind == "faint":
        X = 1.0 + X * 10.0 ** rng.uniform(-15, -6)
    elif kind == "extreme":
        X *= 10.0 ** rng.choice([-170, -150, 0, 150, 160], (n, 1))
    return X * (10.0 ** rng.uniform(-4, 9) if kind not in ("faint", "extreme") else 1.0)


def draw_weights(rng, n):
    """Return weights of any sum and sign, and whether they need a global model."""
    kind = rng.integers(0, 5)
    if kind == 0:
        return np.full(n, 1.0 / n)
    if kind == 1:
        return np.eye(n)[rng.integers(0, n)]
    if kind == 2:
        weights = rng.random(n) * (rng.random(n) < 0.6)
        return weights / weights.sum() if weights.sum() > 0 else np.eye(n)[0]
    if kind == 3:
        return rng.random(n) * rng.uniform(0, 2)
    return rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 2)


def clients_of(X, model=None):
    rows = [(row,) for row in X]
    return ClientUpdates.from_layers(rows, None if model is None else (model,))


def points_of(X, model=None, alone=True):
    if alone:
        return Points.of_clients(squared_distances(clients_of(X)), zeros_are_exact=True)
    return Points.of_rows(squared_distances(clients_of(X, model)), len(X), X.shape[1])


def plain(X, weights, f, **options):
    """Certify weights of sum 1, from distances that the package takes."""
    return certify(points_of(X), np.asarray(weights), f, limit=1.5, **options)


def attacked(rng, n=20, f=6, d=40):
    X = 1.0 + 0.05 * rng.standard_normal((n, d))
    X[:f] = 14.0 * rng.standard_normal((f, d))
    return X


def contradictions(rng):
    """Draw a round, and return what its certificate says that is not true."""
    n, d = int(rng.integers(2, 10)), int(rng.integers(1, 5))
    kind = KINDS[rng.integers(0, len(KINDS))]
    X, weights = draw_models(rng, kind, n, d), draw_weights(rng, n)
    model = X[rng.integers(0, n)] * rng.normal() + rng.normal() * (kind != "extreme")
    f, c = int(rng.integers(0, (n - 1) // 2 + 1)), float(rng.uniform(0.1, 3))
    limit = 10.0 ** rng.uniform(-2, 1)
    broken = rng.random() < 0.03
    if broken:
        X[rng.integers(0, n), rng.integers(0, d)] = rng.choice([np.nan, np.inf, -np.inf])
    if kind == "extreme" or rng.random() < 0.5:
        points = Points.of_rows(gram_distances(clients_of(X, model)), n, d)
    else:  # as wrong as it is said to be
        D, q = ((X[:, None] - X) ** 2).sum(-1), ((X - model) ** 2).sum(-1)
        wrong = 2.0**-20 * rng.choice([-1.0, 1.0], (n + 1, n + 1))
        wrong = 1.0 + np.triu(wrong, 1) + np.triu(wrong, 1).T
        points = Points.of_matrix(D * wrong[:n, :n], 2.0**-19, q * wrong[n, :n])
    how = {"is_brief": bool(rng.integers(0, 2)), "most_sets": int(rng.choice([0, 10, 10**6]))}
    said = certify(points, weights, f, limit=limit, standard_errors=c, **how)
    if broken:
        known = said.verdict != "cannot be known" or not math.isinf(min(said.kappa))
        return ["not finite, and known"] if known else []
    true_round, found = Round(X, weights, model), []
    for k in range(len(said.kappa)):
        true = true_round.truth(n - k, c)
        # What 80 bits have rounded decides nothing.
        if true.kappa > said.kappa[k]:
            off, spread = exactly(X, weights, true.kappa_set, model)
            if off > Fraction(said.kappa[k]) * spread:
                found.append(f"kappa_{k} {true.kappa}")
        if true.radius > said.radius[k]:
            off, _ = exactly(X, weights, true.radius_set, model)
            if off > Fraction(said.radius[k]) ** 2:
                found.append(f"radius_{k} {true.radius}")
        if said.progress is not None:
            step = (true_round.step**2).sum()
            if true.progress < said.progress[k] * step - 1e-15 * abs(true.progress):
                found.append(f"progress_{k} {true.progress}")
        if k == f:
            if said.verdict == "holds" and true.kappa * (1 - 1e-12) > limit:
                found.append("holds")
            if said.verdict == "does not hold" and true.kappa * (1 + 1e-12) <= limit:
                found.append("does not hold")
            if said.direction == "honest mean" and not true.progress > 0:
                found.append("honest mean")
            if said.direction == "gradient (statistical)" and not true.margin > 0:
                found.append(f"gradient {true.margin}")
    if found:
        found.append(f"{kind}: {n=} {d=} {weights=!r} {X=!r} {model=!r} {said}")
    return found


@pytest.mark.parametrize("count", [1500, pytest.param(10**6, marks=pytest.mark.slow)])
def test_no_round_that_was_drawn_contradicts_its_certificate(count):
    rng = np.random.default_rng(7)
    with one_blas_thread(), np.errstate(all="ignore"):
        for _ in range(count):
            assert contradictions(rng) == []


def test_a_point_that_is_known_by_its_distances_alone_is_not_flattered():
    rng = np.random.default_rng(20)
    for _ in range(150):
        n, d = int(rng.integers(2, 9)), int(rng.integers(1, 4))
        X = draw_models(rng, KINDS[rng.integers(0, 6)], n, d)
        A = X.T @ rng.dirichlet(np.ones(n)) + rng.choice([0.0, 1.0]) * rng.standard_normal(d)
        exact = ((X - A) ** 2).sum(axis=1)
        wrong, moved = 1.0 + 1e-4 * rng.choice([-1.0, 1.0], n), rng.choice([0.0, 0.1, 10.0])
        said = certify(
            points_of(X),
            None,
            0,
            limit=1.0,
            heights=exact * wrong,
            heights_error=1.1e-4 * exact,
            rounding=moved,
        )
        away = rng.standard_normal(d)
        sent = Round(X, point=A + moved * away / np.linalg.norm(away))
        for k in range((n + 1) // 2):
            true = sent.truth(n - k)
            assert said.kappa[k] >= true.kappa * (1 - 1e-12)
            assert said.radius[k] >= true.radius * (1 - 1e-12)


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_figures_are_those_of_a_look_at_every_set(count):
    rng = np.random.default_rng(1)
    for case in range(count):
        n, d = int(rng.integers(2, 12)), int(rng.integers(1, 6))
        X = draw_models(rng, ("cloud", "copies", "twins", "line")[case % 4], n, d)
        weights = rng.random(n) if case % 2 else np.eye(n)[0]
        weights /= weights.sum()
        said, true_round = plain(X, weights, 0), Round(X, weights)
        assert all(said.exact)
        for k in range((n + 1) // 2):
            true = true_round.truth(n - k)
            if not math.isinf(true.kappa) and not math.isinf(said.kappa[k]):
                assert said.kappa[k] == pytest.approx(float(true.kappa), rel=1e-5, abs=1e-9)
            elif math.isinf(said.kappa[k]):
                # Exact balance at a point without spread is lost to rounding, and to it alone.
                assert math.isinf(true.kappa) or true.kappa < 1e-9
            assert said.radius[k] == pytest.approx(float(true.radius), rel=1e-5, abs=1e-9)


def test_sets_of_more_than_n_less_f_say_nothing_new():
    rng = np.random.default_rng(2)
    for _ in range(40):
        n, d = int(rng.integers(3, 9)), int(rng.integers(1, 4))
        X = draw_models(rng, "cloud", n, d)
        true_round = Round(X, point=X[0] + 0.3, model=X[1])
        f = int(rng.integers(0, (n - 1) // 2 + 1))
        every = [true_round.truth(m, 1.5) for m in range(n - f, n + 1)]
        least = every[0]
        for more in every[1:]:
            assert more.kappa <= least.kappa * (1 + 1e-12)
            assert more.radius <= least.radius * (1 + 1e-12)
            assert more.progress >= least.progress - 1e-12 * abs(least.progress)
            assert not more.margin < least.margin - 1e-12 * abs(least.margin)


def test_the_gradient_is_claimed_where_every_set_clears_the_standard_errors():
    rng = np.random.default_rng(19)
    claims = 0
    for _ in range(60):
        n, f, c = 8, 2, float(rng.uniform(0.5, 3.0))
        X, model = 1.0 + rng.uniform(0.5, 3.0) * rng.standard_normal((n, 3)), np.zeros(3)
        weights = np.full(n, 1 / n)
        points = points_of(X, model, alone=False)
        said = certify(points, weights, f, limit=1.5, standard_errors=c)
        margin = Round(X, weights, model).truth(n - f, c).margin
        assert (said.direction == "gradient (statistical)") == (margin > 0)
        claims += margin > 0
    assert 10 < claims < 50


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_not_certified(bad):
    X = np.random.default_rng(3).standard_normal((7, 3))
    weights = np.full(7, 1 / 7)
    D = ((X[:, None] - X) ** 2).sum(-1)
    D[2, 3] = D[3, 2] = bad
    broken = Points.of_matrix(D, 1e-12)
    rounds = (
        certify(broken, weights, 2, limit=1.5),
        certify(broken, None, 2, limit=1.5, heights=np.ones(7)),
        certify(points_of(X), None, 2, limit=1.5, heights=D[2]),
        certify(points_of(X), np.where(np.arange(7) == 2, bad, weights), 2, limit=1.5),
        certify(points_of(X, X[1], alone=False), np.eye(7)[0] * 1e200, 2, limit=1.5),
        certify(points_of(X, np.full(3, bad), alone=False), weights / 2, 2, limit=1.5),
    )
    for said in rounds:
        assert said.verdict == "cannot be known"
        assert said.survives == -1
        assert set(said.kappa) == set(said.radius) == {math.inf}
        assert "not finite" in said.sentence()


def test_one_reply_whose_square_overflows_forges_no_perfect_round():
    X = np.random.default_rng(4).standard_normal((7, 3))
    X[0] = 1e160
    weights = np.array([0.0, *[1 / 6] * 6])
    D = np.where(np.eye(7, dtype=bool), 0.0, np.inf)
    assert certify(Points.of_matrix(D, 1e-12), weights, 2, limit=1.5).kappa[2] == math.inf
    # The package's own distances are scaled before they are squared.
    assert plain(X, weights, 2).radius[1] > 1e159


def test_distances_that_underflow_forge_no_perfect_round():
    X = np.random.default_rng(5).standard_normal((7, 3))
    big = plain(X, np.eye(7)[0], 2)
    small = plain(X * 2.0**-560, np.eye(7)[0], 2)
    assert small.kappa == pytest.approx(big.kappa, rel=1e-9)
    assert small.radius == pytest.approx(np.array(big.radius) * 2.0**-560, rel=1e-9)


@pytest.mark.parametrize(("n", "f"), [(7, 2), (20, 6), (20, 9)])
def test_liars_at_one_point_bring_even_a_rule_that_ignores_them_to_the_floor(n, f):
    X = np.zeros((n, 3))
    X[:f] = 5.0
    weights = np.where(np.arange(n) < f, 0.0, 1.0 / (n - f))
    said = plain(X, weights, f)
    assert said.kappa[f] == pytest.approx(least_kappa(n, f), rel=1e-9)


def test_replies_that_are_all_alike_have_neither_spread_nor_distance(device):
    X = np.full((9, 4), 0.1, dtype=np.float32)
    geometry = ClientGeometry(replace(clients_of(X, X[0]), device=device))
    weights = np.full(9, 1 / 9)
    for points in (geometry.clients(weights), geometry.points()):
        said = certify(points, weights, 3, limit=1.5)
        assert said.verdict == "holds"
        assert set(said.kappa) == set(said.radius) == {0.0}
        assert said.progress is None


def test_of_float64_nobody_says_that_nothing_has_underflowed():
    X = np.full((9, 4), 0.1)
    weights = np.full(9, 1 / 9)
    said = certify(ClientGeometry(clients_of(X)).clients(weights), weights, 3, limit=1.5)
    assert said.verdict == "cannot be known"
    assert said.kappa[3] == math.inf
    assert said.radius[3] < 1e-150


def test_an_attacked_round_holds_for_multi_krum_and_does_not_for_the_average():
    X = attacked(np.random.default_rng(6))
    krum, average = MultiKrum(6)(X), Average(strict=False)(X)
    held, failed = plain(X, krum.weights, 6), plain(X, average.weights, 6)
    assert held.verdict == "holds"
    assert held.survives == 9
    assert failed.verdict == "does not hold"
    assert failed.honest_if == tuple(range(6, 20))
    assert failed.survives == 5
    assert failed.kappa_at_least == pytest.approx(failed.kappa[6], rel=1e-6)


def test_a_far_liar_of_little_weight_takes_nothing_from_the_others(device):
    X = np.random.default_rng(21).standard_normal((11, 30)).astype(np.float32)
    X[:2] = [[3e9], [-2e7]]
    geometry = ClientGeometry(replace(clients_of(X), device=device))
    weights = np.array([1e-9, 1e-7, *[1.0] * 9])
    weights /= weights.sum()
    said = certify(geometry.clients(weights), weights, 2, limit=1.5)
    assert said.kappa[2] == pytest.approx(float(Round(X, weights).truth(9).kappa), rel=1e-3)


def test_a_round_survives_up_to_the_first_number_that_exceeds_the_limit():
    X = attacked(np.random.default_rng(6))
    said = plain(X, Average(strict=False)(X).weights, 6)
    for limit in (*said.kappa, 1e-9):
        again = certify(points_of(X), np.full(20, 0.05), 0, limit=limit)
        assert all(value <= limit for value in again.kappa[: again.survives + 1])
        assert all(value > limit for value in again.kappa[again.survives + 1 :][:1])


def test_curves_grow_with_the_number_of_liars():
    rng = np.random.default_rng(8)
    for brief in (False, True):
        said = plain(attacked(rng), np.eye(20)[7], 6, is_brief=brief)
        assert list(said.kappa) == sorted(said.kappa)
        assert list(said.radius) == sorted(said.radius)


def test_a_brief_look_agrees_with_a_whole_one():
    rng = np.random.default_rng(9)
    for _ in range(20):
        X = draw_models(rng, "far", 13, 3)
        weights = draw_weights(rng, 13)
        weights /= weights.sum()
        whole, brief = plain(X, weights, 4), plain(X, weights, 4, is_brief=True)
        assert brief.verdict == whole.verdict
        assert brief.survives <= whole.survives
        assert np.all(np.array(brief.kappa) >= np.array(whole.kappa) * (1 - 1e-9))
        assert np.all(np.array(brief.radius) >= np.array(whole.radius) * (1 - 1e-9))


def test_order_place_and_unit_of_the_models_do_not_matter():
    rng = np.random.default_rng(10)
    X, order = attacked(rng, d=5), rng.permutation(20)
    weights = GeometricMedian(6)(X).weights
    said = plain(X, weights, 6)
    for Y, w, unit in (
        (X[order], weights[order], 1.0),
        (X + 7.0, weights, 1.0),
        (X * 3e5, weights, 3e5),
    ):
        other = plain(Y, w, 6)
        assert other.kappa == pytest.approx(said.kappa, rel=1e-5)
        assert other.radius == pytest.approx(np.array(said.radius) * unit, rel=1e-5)


@pytest.mark.parametrize(
    "rule",
    [
        NearestNeighborMixing(2) | Krum(2),
        Bucketing(f=1, s=2) | Average(strict=False),
        Clipping(C=2.0) | MultiKrum(2),
    ],
    ids=str,
)
def test_a_chain_is_certified_against_the_replies_as_they_came(rule):
    rng = np.random.default_rng(11)
    X, model = 1.0 + rng.standard_normal((9, 3)), np.zeros(3)
    X[:2] *= 30.0
    made = rule(clients_of(X, model))
    said = certify(made.geometry.points(), made.weights, 2, limit=1.5)
    for k in range(5):
        true = Round(X, point=made.vector, model=model).truth(9 - k)
        assert said.kappa[k] == pytest.approx(float(true.kappa), rel=1e-5)
        assert said.radius[k] == pytest.approx(float(true.radius), rel=1e-5)
        step = float((made.vector**2).sum())
        assert said.progress[k] * step == pytest.approx(float(true.progress), rel=1e-5, abs=1e-9)


def test_what_is_missing_of_the_sum_needs_the_global_model():
    X = np.random.default_rng(12).standard_normal((7, 3))
    with pytest.raises(ValueError, match=r"weights sum to 0\.5.*global model"):
        plain(X, np.full(7, 0.5 / 7), 2)
    with pytest.raises(ValueError, match="8 weights for 7 clients"):
        plain(X, np.full(8, 1 / 8), 2)


def test_a_row_of_the_servers_own_is_no_client():
    rng = np.random.default_rng(13)
    X, root = 1.0 + rng.standard_normal((9, 3)), np.ones(3)
    updates = ClientUpdates.from_layers(
        [(row,) for row in X], (np.zeros(3),), server_rows={"root": (root,)}
    )
    trusted = FLTrust(2)(updates)
    mixed = np.array([*np.full(9, 0.05), 0.3])
    points = trusted.geometry.points()
    for weights in (trusted.weights, mixed):
        A = np.asarray(weights) @ np.vstack([X, root])[: len(weights)]
        said = certify(points, weights, 2, limit=1.5)
        assert len(said.kappa) == 5
        assert said.kappa[2] == pytest.approx(float(Round(X, point=A).truth(7).kappa), rel=1e-5)


def test_a_rule_that_sorts_coordinates_is_certified_by_its_distances_from_all():
    X = attacked(np.random.default_rng(14), 11, 4, 6)
    A = Median()(X).vector
    heights = ((X - A) ** 2).sum(axis=1)
    said = certify(points_of(X), None, 4, limit=1.5, heights=heights, heights_error=1e-12 * heights)
    assert said.kappa[4] == pytest.approx(float(Round(X, point=A).truth(7).kappa), rel=1e-5)
    with pytest.raises(ValueError, match="expected heights of 11 points"):
        certify(points_of(X), None, 4, limit=1.5, heights=heights[1:])
    with pytest.raises(ValueError, match="either weights or heights"):
        certify(points_of(X), None, 4, limit=1.5)


def test_the_model_that_is_sent_is_certified_after_its_rounding():
    rng = np.random.default_rng(15)
    X = (1.0 + np.float32(2.0**-22) * rng.integers(-3, 4, (9, 50))).astype(np.float64)
    weights = np.full(9, 1 / 9)
    A = weights @ X
    sent = A.astype(np.float32)
    moved = rounding_to(np.dtype(np.float32), float(np.linalg.norm(A)), 50)
    before, after = plain(X, weights, 3), plain(X, weights, 3, rounding=moved)
    true = Round(X, point=sent).truth(6)
    assert before.kappa[3] < true.kappa < after.kappa[3]
    assert before.radius[3] < true.radius < after.radius[3]
    assert "before rounding" in before.sentence()
    assert "before rounding" not in after.sentence()


def test_the_limit_is_that_of_the_clients_who_were_asked():
    assert limit_of(20, 6) == 1.5
    assert limit_of(20, 2) == limit_of(20, 0) == limit_of(1, 0) == 1.0
    for f in (10, -1):
        with pytest.raises(ValueError, match=f"needs 0 <= 2f < n, got n=20, f={f}"):
            limit_of(20, f)


def test_no_rule_can_promise_less_than_f_of_n_less_2f_and_nothing_from_half_on():
    assert [least_kappa(n, 2) for n in (6, 8, 10)] == [1.0, 0.5, 2 / 6]
    assert [least_kappa(n, 2) for n in (3, 4)] == [math.inf, math.inf]
    assert least_kappa(4, 0) == 0.0


@pytest.mark.parametrize(("dtype", "unit", "least"), [("f2", -11, -25), ("f4", -24, -150)])
def test_rounding_moves_a_number_by_half_a_unit_and_by_half_the_least_where_it_is_tiny(
    dtype, unit, least
):
    moved = rounding_to(np.dtype(dtype), 3.0, 16)
    assert moved == 3.0 * 2.0**unit + 4.0 * 2.0**least
    tie = np.float64(1.0 + 2.0**unit)
    assert abs(float(tie.astype(dtype)) - tie) <= rounding_to(np.dtype(dtype), tie, 1)
    assert abs(float(tie.astype(dtype)) - tie) > 0.99 * rounding_to(np.dtype(dtype), tie, 1)


def test_refused_replies_can_take_the_verdict_away_and_are_named_for_it():
    X = np.random.default_rng(16).standard_normal((10, 3))
    said = plain(X, np.full(10, 0.1), 5)
    assert said.verdict == "cannot be known"
    assert "10 accepted replies, 5 of them lies: more than 10 are needed" in said.reason
    assert "refused" in said.sentence()
    assert len(said.kappa) == 5
    alone = plain(X[:1], np.ones(1), 0)
    assert (alone.verdict, alone.reason) == ("cannot be known", "1 reply, 2 are needed")


def test_progress_is_the_mean_of_the_smallest_products():
    rng = np.random.default_rng(17)
    X, model = 1.0 + 0.1 * rng.standard_normal((11, 4)), np.zeros(4)
    X[:2] = -50.0
    made = MultiKrum(3)(clients_of(X, model))
    said = certify(made.geometry.points(), made.weights, 3, limit=1.5)
    p = np.sort(X @ made.vector) / (made.vector @ made.vector)
    assert said.progress == pytest.approx([p[: 11 - k].mean() for k in range(6)], rel=1e-9)
    assert certify(points_of(X), made.weights, 3, limit=1.5).progress is None


def test_the_clients_who_deny_the_direction_are_named():
    rng = np.random.default_rng(18)
    X, model = 1.0 + 0.1 * rng.standard_normal((11, 4)), np.zeros(4)
    X[4] = -50.0
    made = MultiKrum(3)(clients_of(X, model))
    said = certify(made.geometry.points(), made.weights, 3, limit=1.5)
    assert said.direction == "cannot be known"
    assert said.unless == (4,)
    names = [f"site {i}" for i in range(11)]
    assert "without assuming that a client lied of these: site 4" in said.lines(names)[-1]
    X[4] = 1.0
    clear = MultiKrum(3)(clients_of(X, model))
    said = certify(clear.geometry.points(), clear.weights, 3, limit=1.5)
    assert said.direction == "gradient (statistical)"
    assert said.standard_errors == student(7)
    assert "Gaussian noise in one direction in 5 % of rounds" in said.lines()[-1]


def test_a_rule_that_takes_coordinates_apart_has_no_clients_of_no_weight_to_name():
    X, model = 1.0 + 0.1 * np.random.default_rng(18).standard_normal((11, 4)), np.zeros(4)
    X[4] = -50.0
    A = TrimmedMean(3)(clients_of(X, model)).vector
    heights = ((np.vstack([X, model]) - A) ** 2).sum(axis=1)
    said = certify(points_of(X, model, alone=False), None, 3, limit=1.5, heights=heights)
    assert (said.direction, said.unless) == ("cannot be known", ())
    assert said.progress[3] < 0.0


def test_towards_the_honest_mean_alone_nothing_is_said_of_the_gradient():
    X = 1.0 + 0.1 * np.random.default_rng(18).standard_normal((11, 4))
    made = MultiKrum(3)(clients_of(X, np.zeros(4)))
    said = certify(made.geometry.points(), made.weights, 3, limit=1.5, standard_errors=1e6)
    assert said.direction == "honest mean"
    assert said.lines()[-1] == (
        "the step goes towards the average of the honest replies, whichever 3 or fewer of the 11 "
        "lied: their inner product is positive; nothing follows for the gradient"
    )


def test_the_sentence_says_what_is_bounded_by_what_and_accuses_nobody():
    said = Certificate("holds", 20, 6, 1.5, kappa=(0.0831,) * 10, is_final=True, survives=9)
    sentence, more = said.lines()
    assert sentence == (
        "certificate holds at limit 1.5 for kappa, 1.22 spreads: whichever 6 or fewer of the 20 "
        "lied, the aggregate's distance from the average of the honest replies is at most 0.29 "
        "times the spread of those honest replies, the root of their mean squared distance from it "
        "(kappa, its square, is at most 0.084 in this round; before the replies are seen, no rule "
        "can promise a kappa below 0.75 for 6 of 20)"
    )
    assert more == (
        "for every number of liars up to 9 it is within the limit, 1.22 spreads; where more have "
        "lied, the aggregate may be anywhere"
    )
    failed = Certificate(
        "does not hold", 5, 1, 1.0, kappa_at_least=48.9**2, honest_if=(0, 2, 3, 4), survives=0
    )
    sentence, more = failed.lines(["a", "b", "c", "d", "e"])
    assert sentence == (
        "certificate does not hold at limit 1 for kappa, 1 spread: if the honest clients were "
        "exactly these 4 (a, c, d, e) and all others had lied, the aggregate, before rounding, "
        "would be 48 times their spread away from their average; this accuses nobody"
    )
    assert more == (
        "for every number of liars up to 0 it is within the limit, 1 spread; where more have "
        "lied, the aggregate may be anywhere"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-13, "0.000001"),
        (0.0831, "0.084"),
        (1.04, "1.1"),
        (48.2, "49"),
        (2308.1, "2309"),
        (9.99, "10"),
        (3.11e60, "3.2E+60"),
        (math.inf, "inf"),
    ],
)
def test_a_figure_is_never_rounded_to_the_good_side(value, text):
    said = Certificate("holds", 20, 0, 1.5, kappa=(value,), is_final=True)
    assert f"(kappa, its square, is at most {text} in this round)" in said.sentence()
    assert "for kappa, 1.22 spreads: if none of the 20 lied, the" in said.sentence()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"f": -1}, "expected f >= 0"),
        ({"limit": 0.0}, "limit > 0"),
        ({"rounding": -1.0}, "rounding >= 0"),
    ],
)
def test_what_is_out_of_range_is_refused(options, text):
    given = {"f": 1, "limit": 1.5, **options}
    with pytest.raises(ValueError, match=text):
        certify(points_of(np.eye(4)), np.full(4, 0.25), **given)
