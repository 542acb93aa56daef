"""Adapters whose products are compared: a basis does not decide, and a small budget is seen."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.round import Rounds
from flwr_krum.rules import (
    Average,
    Bulyan,
    Krum,
    MeaMed,
    Median,
    Medoid,
    MultiKrum,
    NearestNeighborMixing,
    Phocas,
    TrimmedMean,
)
from flwr_krum.space import LowRank
from tests.flwr_krum.references import krum_scores, squared_distances

N, F, ODD, RANK = 9, 2, 4, 4
RNG = np.random.default_rng(2021)


def factors(rng, size):
    a, b = rng.standard_normal((RANK, 12)), rng.standard_normal((10, RANK))
    return size * a, size * b


A, B = factors(RNG, 1.0)
MODEL = {
    "q.lora_A": A.astype(np.float32),
    "q.lora_B": B.astype(np.float32),
    "head": RNG.standard_normal(5).astype(np.float32),
    "steps": np.array(3),
}
PAIRS = {"q.lora_A": "q.lora_B"}
BY_POSITION = {0: 1}


def sent(a, b, rng):
    head = MODEL["head"] + 0.01 * rng.standard_normal(5)
    return {
        "q.lora_A": np.asarray(a, np.float32),
        "q.lora_B": np.asarray(b, np.float32),
        "head": head.astype(np.float32),
        "steps": np.array(4),
    }


def honest(client, turn=False):
    rng = np.random.default_rng(client)
    da, db = factors(rng, 0.05)
    R = np.linalg.qr(rng.standard_normal((RANK, RANK)))[0] if turn else np.eye(RANK)
    return sent(R.T @ (A + da), (B + db) @ R, rng)


def product(model, scale=1.0):
    a, b = (np.asarray(model[key], np.float64) for key in ("q.lora_A", "q.lora_B"))
    return np.concatenate([scale * (b @ a).ravel(), model["head"].astype(np.float64)])


def play(federation, rule, replies, space=True, **options):
    if space:
        pairs = PAIRS if federation.names_arrays else BY_POSITION
        options["space"] = LowRank(pairs, options.pop("scale", 1.0))
    strategy = federation.custom(rule, **options)
    federation.configure(
        strategy, MODEL if federation.names_arrays else list(MODEL.values()), replies
    )
    contents = [(c, federation.content(model, 10, {})) for c, model in replies.items()]
    model, _ = federation.deliver(strategy, contents)
    report = strategy.last_report
    return dict(zip(MODEL, model.values(), strict=True)) if report.stepped else MODEL, report


ROTATED = {c: honest(c, turn=c == ODD) for c in range(1, N + 1)}


def test_an_honest_client_in_another_basis_is_taken_for_what_it_is(federation):
    name = federation.name(ODD)
    seen, blind = (play(federation, MultiKrum(F), ROTATED, space)[1] for space in (True, False))
    others = [score for client, score in blind.scores.items() if client != name]
    assert blind.scores[name] > 10 * max(others)
    assert name not in blind.selected
    assert seen.scores[name] < 1.5 * np.median(list(seen.scores.values()))


def test_a_mixing_has_neighbours_in_the_same_space(federation):
    rule = NearestNeighborMixing(F) | Average()
    seen, blind = (play(federation, rule, ROTATED, space)[1] for space in (True, False))
    name = federation.name(ODD)
    # Of the rotated client's own row alone, where it is nobody else's neighbour.
    assert blind.weights[name] == pytest.approx(1 / (N * (N - F)))
    assert seen.weights[name] > 2 * blind.weights[name]


def test_a_rotated_client_that_is_the_best_is_selected(federation):
    # In the middle of all products, in a basis of its own.
    rng = np.random.default_rng(0)
    R = np.linalg.qr(rng.standard_normal((RANK, RANK)))[0]
    replies = {**ROTATED, ODD: sent(R.T @ A, B @ R, rng)}
    for rule in (Krum(F), Medoid()):
        model, report = play(federation, rule, replies)
        assert report.selected == (federation.name(ODD),)
        # Its own pair, as it came.
        for key in ("q.lora_A", "q.lora_B", "head"):
            np.testing.assert_array_equal(model[key], replies[ODD][key])
        assert play(federation, rule, replies, space=False)[1].selected != report.selected


def liar_of_the_same_budget():
    """Return a global model and replies in which one spends its (A, B) where it counts most.

    B is moved along the strongest row of A by as much as honest clients move in all.
    """
    strong = A.copy()
    strong[0] *= 40.0
    replies = {}
    for client in range(1, N + 1):
        rng = np.random.default_rng(client)
        da, db = factors(rng, 1.0)
        db[:, 0] *= 0.01  # where A is strong, steps of B are short
        length = np.sqrt((da**2).sum() + (db**2).sum())
        if client == ODD:
            da, db = np.zeros_like(da), np.zeros_like(db)
            db[:, 0] = length / np.sqrt(len(db))
        replies[client] = sent(strong + 0.3 * da / length, B + 0.3 * db / length, rng)
    base = {**MODEL, "q.lora_A": strong.astype(np.float32)}
    return base, replies


def test_a_liar_of_the_same_budget_in_a_and_b_is_seen_in_the_products(federation, monkeypatch):
    base, replies = liar_of_the_same_budget()
    monkeypatch.setitem(globals(), "MODEL", base)

    def lengths(of):
        moves = {c: np.linalg.norm(of(model) - of(base)) for c, model in replies.items()}
        return moves.pop(ODD), max(moves.values())

    liar, largest = lengths(lambda m: np.concatenate([m["q.lora_A"], m["q.lora_B"].T], axis=1))
    assert liar == pytest.approx(largest, rel=1e-3)
    liar, largest = lengths(product)
    assert liar > 3 * largest
    name = federation.name(ODD)
    seen, blind = (play(federation, MultiKrum(F), replies, s)[1] for s in (True, False))
    assert name not in seen.selected

    def standing(report):
        others = [score for client, score in report.scores.items() if client != name]
        return report.scores[name] / max(others)

    assert standing(seen) > 4
    assert standing(blind) < 1.5


def test_scores_are_those_of_the_products_and_of_what_is_in_no_pair(federation):
    for scale in (1.0, 0.5):
        _, report = play(federation, MultiKrum(F), ROTATED, scale=scale)
        V = [product(ROTATED[c], scale) for c in range(1, N + 1)]
        expected = krum_scores(squared_distances(V), N - F - 2)
        np.testing.assert_allclose(list(report.scores.values()), expected, rtol=1e-5)


def test_the_largest_step_is_one_of_products(federation):
    far = sent(A, 100.0 * B, np.random.default_rng(ODD))
    replies = {**ROTATED, ODD: far}
    model, report = play(federation, Average(), replies, largest_step=2.0)
    assert model is MODEL
    mean = {key: np.mean([m[key] for m in replies.values()], axis=0) for key in MODEL}
    lengths = [np.linalg.norm(product(m) - product(MODEL)) for m in replies.values()]
    ratio = np.linalg.norm(product(mean) - product(MODEL)) / np.median(lengths)
    assert f"the step is {ratio:.3g} times as long as the median update" in report.note


def test_the_mean_is_that_of_a_and_that_of_b(federation):
    model, report = play(federation, MultiKrum(F), ROTATED)
    chosen = [ROTATED[int(client)] for client in report.selected]
    for key in ("q.lora_A", "q.lora_B", "head"):
        mean = np.mean([one[key].astype(np.float64) for one in chosen], axis=0)
        np.testing.assert_allclose(model[key], mean, rtol=1e-5, atol=1e-6)
    assert model["steps"] == 4


def test_a_client_of_another_rank_is_refused_by_its_shape(message_federation):
    other = {**honest(3), "q.lora_A": np.zeros((2 * RANK, 12), np.float32)}
    _, report = play(message_federation, MultiKrum(F), {**ROTATED, 3: other})
    (refusal,) = report.refused
    assert refusal.client == 3
    assert "shape (8, 12), expected (4, 12)" in refusal.reason


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"distance_keys": ["head"]}, r"none of 'q\.lora_A' travels and is measured"),
        ({"distance_keys": ["q.lora_A"]}, r"'q\.lora_B' only 'q\.lora_A' travels and is measured"),
        ({"shared_keys": ["q.lora_B"]}, r"'q\.lora_B' only 'q\.lora_B' travels and is measured"),
    ],
)
def test_a_pair_is_measured_as_a_whole(options, error):
    rounds = Rounds(Krum(F), space=LowRank(PAIRS), **options)
    with pytest.raises(ValueError, match=error):
        rounds.begin(MODEL, range(9))


def test_a_pair_that_no_distance_sees_is_left_out():
    model = {**MODEL, "k.lora_A": MODEL["q.lora_A"], "k.lora_B": MODEL["q.lora_B"]}
    space = LowRank({**PAIRS, "k.lora_A": "k.lora_B"})
    rounds = Rounds(Krum(F), space=space, distance_keys=lambda key: not key.startswith("k."))
    rounds.begin(model, range(9))
    assert rounds.template.space.pairs == PAIRS


def test_replies_that_agree_on_half_a_pair_are_refused(message_federation):
    without_a = {
        c: {key: array for key, array in model.items() if key != "q.lora_A"}
        for c, model in ROTATED.items()
    }
    strategy = message_federation.custom(Krum(F), space=LowRank(PAIRS))
    message_federation.configure(strategy, MODEL, without_a)
    contents = [(c, message_federation.content(m, 10, {})) for c, m in without_a.items()]
    assert message_federation.deliver(strategy, contents)[0] is None
    reasons = {refusal.reason for refusal in strategy.last_report.refused}
    assert reasons == {"keys differ from the model's: missing 'q.lora_A'"}
    # Both or none of a pair may stay behind.
    without_pair = {c: {"head": model["head"]} for c, model in ROTATED.items()}
    contents = [(c, message_federation.content(m, 10, {})) for c, m in without_pair.items()]
    assert message_federation.deliver(strategy, contents, 2)[0] is not None


# --- an operator's mistakes ---


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ({"q.lora_A": "k.lora_B"}, "pairs holds 'k.lora_B', expected some of 'head', 'q.lora_A'"),
        ({"steps": "q.lora_B"}, "pairs holds 'steps' of dtype int64, expected an array of floats"),
        ({"q.lora_B": "q.lora_A"}, r"'q.lora_B' of shape \(10, 4\) and 'q.lora_A' of shape \(4, "),
        ({"q.lora_A": "head"}, r"'head' of shape \(5,\), expected A of shape \(r, in\) and B of"),
    ],
)
def test_pairs_that_have_no_product_are_an_error_before_the_first_round(
    message_federation, pairs, error
):
    strategy = message_federation.custom(Krum(F), space=LowRank(pairs))
    with pytest.raises(ValueError, match=error):
        message_federation.configure(strategy, MODEL, range(1, 9))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([("a", "b")],), "pairs must be a mapping of A's key to B's key"),
        (({},), "pairs is empty"),
        (({"a": "b", "c": "b"},), "pairs holds 'b' twice"),
        (({"a": "a"},), "pairs holds 'a' twice"),
        ((PAIRS, 0.0), "scale must be a finite number > 0"),
        ((PAIRS, float("nan")), "scale must be a finite number > 0"),
        ((PAIRS, True), "scale must be a finite number > 0"),
    ],
)
def test_a_space_that_is_none_is_an_error(arguments, error):
    with pytest.raises((TypeError, ValueError), match=error):
        LowRank(*arguments)


@pytest.mark.parametrize(
    "rule",
    [Median(), TrimmedMean(1), MeaMed(1), Phocas(1), Bulyan(1)],
    ids=lambda rule: type(rule).__name__,
)
def test_rules_that_sort_coordinates_are_refused_with_a_space(rule):
    for which in (rule, NearestNeighborMixing(1) | rule):
        with pytest.raises(ValueError, match=r"space is given, but .* sorts single coordinates"):
            Rounds(which, space=LowRank(PAIRS))


def test_a_space_must_be_one_and_needs_the_global_model():
    with pytest.raises(TypeError, match=r"space must be LowRank\(pairs=...\) or None, got {"):
        Rounds(Krum(F), space=PAIRS)
    with pytest.raises(ValueError, match="need the global model"):
        Rounds(Krum(F), space=LowRank(PAIRS)).finish(1, [])


def test_the_summary_says_between_what_distances_are():
    lines = "\n".join(Rounds(Average(), space=LowRank(PAIRS)).summary("Mean"))
    assert "Distances between: products of 'q.lora_A', 'q.lora_B'" in lines
    lines = "\n".join(Rounds(Average()).summary("Mean"))
    assert "Distances between: arrays as they are" in lines
