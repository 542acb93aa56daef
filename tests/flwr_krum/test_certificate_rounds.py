"""The certificate of a round in its report: through both APIs, against a look at every set."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from flwr_krum import round as a_round
from flwr_krum.boundary.bfloat16 import BFLOAT16
from flwr_krum.boundary.npy import decode
from flwr_krum.boundary.replies import Reply
from flwr_krum.certificate import Certificate, certify, limit_of
from flwr_krum.certified import FACTORS, RoundCertificate, certified
from flwr_krum.journal import read_journal
from flwr_krum.log import conclusion
from flwr_krum.optimizers import FedAdam
from flwr_krum.report import RoundReport
from flwr_krum.round import InfeasibleRoundError
from flwr_krum.rules import (
    Average,
    Bulyan,
    CenteredClipping,
    ClientUpdates,
    FLTrust,
    GeometricMedian,
    Krum,
    Median,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
)
from flwr_krum.space import LowRank
from tests.flwr_krum.every_set import Round
from tests.flwr_krum.npy_bytes import npy

Rounds = partial(a_round.Rounds, certificate=True)

N, F = 11, 2
RULES = {
    "Krum": Krum(F),
    "Multi-Krum": MultiKrum(F),
    "trimmed mean": TrimmedMean(F),
    "mixing, then the median": NearestNeighborMixing(F) | Median(F),
    "average": Average(F),
    "geometric median": GeometricMedian(F),
    "Bulyan": Bulyan(F),
    "with a row of the server": FLTrust(F),
    "with a share of the global model": CenteredClipping(F, tau=0.5),
}
SHAPES = ((4, 3), (5,))


def model_of(vector):
    """Return a vector of 17 numbers as two layers."""
    return [vector[:12].reshape(4, 3).astype(np.float32), vector[12:].astype(np.float32)]


def vector_of(model):
    return np.concatenate([np.asarray(layer, np.float64).ravel() for layer in model])


def drawn(rng, liars=F):
    """Return a global model, and replies of which the first few lie."""
    w = model_of(rng.standard_normal(17))
    replies = {}
    for i in range(1, N + 1):
        far = 20.0 * rng.standard_normal(17) if i <= liars else 0.0
        replies[i] = model_of(vector_of(w) + 0.3 + 0.1 * rng.standard_normal(17) + far)
    return w, replies


def own_model(model):
    return [layer + np.float32(0.3) for layer in model]


def certificate_of(rule, X, w=None, **options):
    """Play a round on the rows of X, and return its certificate and the new model."""
    rounds = Rounds(rule, largest_step=math.inf, **options)
    if w is not None:
        rounds.begin({"w": w}, range(len(X)))
    replies = [Reply(i, {"w": npy(row)}) for i, row in enumerate(X)]
    model, report = rounds.finish(1, replies)
    return report.certificate, decode(model["w"])


# --- that it is true ---


@pytest.mark.parametrize("name", RULES)
def test_a_rounds_certificate_is_what_a_look_at_every_set_finds(federation, name):
    rng, rule = np.random.default_rng(sorted(RULES).index(name)), RULES[name]
    options = {"root": own_model} if "root" in rule.server_rows else {}
    strategy = federation.custom(rule, largest_step=math.inf, certificate=True, **options)
    for t in range(1, 5):
        w, replies = drawn(rng)
        federation.configure(strategy, w, replies, t)
        new, _ = federation.aggregate(strategy, replies, t)
        said = strategy.last_report.certificate
        X = np.stack([vector_of(replies[i]) for i in sorted(replies)])
        true = Round(X, point=vector_of(new)).truth(N - F)
        assert (said.n, said.f, said.limit) == (N, F, limit_of(N, F))
        assert said.is_final
        # Never too small; a brief look is a bound, and says "holds" only where that suffices.
        assert said.kappa >= true.kappa * (1 - 1e-12)
        assert said.radius >= true.radius * (1 - 1e-12)
        assert (said.verdict == "holds") == (true.kappa <= said.limit)
        assert said.verdict != "cannot be known"
        if said.verdict == "does not hold":
            members = [int(client) - 1 for client in said.honest_if]
            one = Round(X[members], point=vector_of(new)).truth(N - F)
            assert said.limit < said.kappa_at_least <= one.kappa * (1 + 1e-12)
        for k in range(said.survives + 1):
            assert Round(X, point=vector_of(new)).truth(N - k).kappa <= said.limit


def test_the_average_holds_in_no_round_that_moved_it_by_more_than_the_limit():
    rng, moved = np.random.default_rng(5), 0
    for _ in range(40):
        X = 0.1 * rng.standard_normal((N, 6))
        X[:F] += 10.0 ** rng.uniform(-2, 3) * rng.standard_normal((F, 6))
        said, new = certificate_of(Average(F), X, np.zeros(6))
        honest = X[F:].mean(axis=0)
        spread = ((X[F:] - honest) ** 2).sum(axis=1).mean()
        if ((new - honest) ** 2).sum() > said.limit * spread:
            moved += 1
            assert said.verdict == "does not hold"
    assert 5 < moved < 40


@pytest.mark.parametrize("rule", [Krum(F), MultiKrum(F), TrimmedMean(F), Average(F)], ids=str)
def test_a_round_without_a_global_model_is_certified_and_no_direction_is_said(rule):
    X = np.random.default_rng(6).standard_normal((N, 6)) + 100.0
    said, new = certificate_of(rule, X)
    assert said.kappa >= Round(X, point=new).truth(N - F).kappa * (1 - 1e-12)
    assert (said.progress, said.direction, said.unless) == (None, "cannot be known", ())


@pytest.mark.parametrize("denies", [False, True])
def test_where_a_step_goes_and_who_denies_it_is_kept_where_the_global_model_is_known(denies):
    X = 1.0 + 0.1 * np.random.default_rng(18).standard_normal((11, 4))
    X[4] = -50.0 if denies else 1.0
    made = MultiKrum(3)(ClientUpdates.from_layers([(row,) for row in X], (np.zeros(4),)))
    found = certify(made.geometry.points(), made.weights, 3, limit=1.5)
    clients = [f"site {i}" for i in range(11)]
    said = RoundCertificate.of(found, clients, centred=True)
    assert said.direction == ("cannot be known" if denies else "gradient (statistical)")
    assert said.unless == (("site 4",) if denies else ())
    assert said.standard_errors == (math.inf if denies else found.standard_errors)
    assert said.progress == found.progress[3]
    unknown = RoundCertificate.of(found, clients, centred=False)
    assert (unknown.direction, unknown.unless) == ("cannot be known", ())
    assert (unknown.standard_errors, unknown.progress) == (math.inf, None)


def test_rounding_to_the_models_dtype_is_covered_where_it_is_all_that_differs():
    rng = np.random.default_rng(7)
    for dtype in (np.float16, np.float32, np.float64):
        base = (1.0 + rng.standard_normal(6)).astype(dtype)
        X = (base + np.finfo(dtype).eps * 4.0 * rng.standard_normal((N, 6))).astype(dtype)
        for rule in (MultiKrum(F), Average(F), GeometricMedian(F)):
            said, new = certificate_of(rule, X, base)
            true = Round(X.astype(np.longdouble), point=new.astype(np.longdouble)).truth(N - F)
            assert said.is_final
            assert said.kappa >= true.kappa * (1 - 1e-12)
            assert said.radius >= true.radius * (1 - 1e-12)


@pytest.mark.parametrize("dtypes", [("f4", "f4"), ("f4", "f2"), ("f2", "f4")])
def test_one_reply_that_is_taken_as_it_came_is_not_rounded_unless_a_layer_is_narrow(dtypes):
    rng = np.random.default_rng(3)
    rows = [[rng.standard_normal(5).astype(dtype) for dtype in dtypes] for _ in range(7)]
    updates = ClientUpdates.from_layers(rows, [np.zeros(5, dtype) for dtype in dtypes])
    made = Krum(2)(updates)
    found = certified(made, updates, range(7), 2, 1.0)
    clients = made.geometry.clients(made.weights)
    exact = certify(clients, made.weights, 2, limit=1.0, rounding=0.0, is_brief=True)
    assert found.is_final
    assert (found.radius == exact.radius[2]) == (dtypes == ("f4", "f4"))
    assert found.radius >= exact.radius[2]


def test_far_liars_that_are_not_chosen_leave_the_distances_as_they_were(monkeypatch):
    X = np.random.default_rng(8).standard_normal((N, 30)).astype(np.float32)
    X[:F] *= 300.0

    def refuse(*_):
        raise AssertionError("another pass over the models")

    monkeypatch.setattr("flwr_krum.kernel.client_geometry.sharper", refuse)
    for rule in (Krum(F), MultiKrum(F)):
        said, new = certificate_of(rule, X, np.zeros(30, np.float32))
        true = Round(X, point=new.astype(np.float64)).truth(N - F)
        assert true.kappa * (1 - 1e-12) <= said.kappa < 1.0


def test_arrays_that_no_distance_sees_are_not_covered():
    rng = np.random.default_rng(9)
    X, other = rng.standard_normal((N, 5)), rng.standard_normal((N, 3)) * 1e6
    for rule in (MultiKrum(F), TrimmedMean(F)):
        rounds = Rounds(rule, distance_keys=["b"])
        rounds.begin({"a": np.zeros(3), "b": np.zeros(5)}, range(N))
        replies = [Reply(i, {"a": npy(other[i]), "b": npy(X[i])}) for i in range(N)]
        model, report = rounds.finish(1, replies)
        true = Round(X, point=decode(model["b"])).truth(N - F)
        assert true.kappa * (1 - 1e-12) <= report.certificate.kappa < 10.0
        assert report.certificate.radius < 1e3


def test_of_mixed_factors_nothing_is_known_and_one_reply_is_certified_in_their_products():
    rng = np.random.default_rng(10)
    pairs = [(rng.standard_normal((2, 4)), rng.standard_normal((3, 2))) for _ in range(N)]
    space = LowRank(pairs={"A": "B"})
    for rule in (MultiKrum(F), Krum(F)):
        rounds = Rounds(rule, space=space)
        rounds.begin({"A": np.zeros((2, 4)), "B": np.zeros((3, 2))}, range(N))
        replies = [Reply(i, {"A": npy(a), "B": npy(b)}) for i, (a, b) in enumerate(pairs)]
        _, report = rounds.finish(1, replies)
        said = report.certificate
        if len(report.selected) > 1:
            assert (said.verdict, said.reason) == ("cannot be known", FACTORS)
            continue
        X = np.stack([(b @ a).ravel() for a, b in pairs])
        true = Round(X, point=X[report.selected[0]]).truth(N - F)
        assert said.kappa >= true.kappa * (1 - 1e-9)


def test_a_model_in_bfloat16_is_certified_before_rounding():
    X = np.random.default_rng(11).standard_normal((N, 6)).astype(BFLOAT16)
    said, _ = certificate_of(MultiKrum(F), X, np.zeros(6, BFLOAT16))
    assert not said.is_final
    assert "before rounding" in said.sentence()


def test_numbers_too_large_to_square_are_not_certified_and_the_round_goes_on():
    X = np.random.default_rng(12).standard_normal((N, 6))
    X[:F] = 1e200
    said, new = certificate_of(MultiKrum(F), X, np.zeros(6))
    assert np.abs(new).max() < 10.0
    assert said.kappa >= Round(X, point=new).truth(N - F).kappa * (1 - 1e-9)
    X[:] = np.finfo(float).max * np.random.default_rng(0).choice([-1.0, 1.0], (N, 6))
    said, _ = certificate_of(Krum(F), X, np.zeros(6))
    assert said.verdict in ("cannot be known", "does not hold")


# --- the limit ---


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_liars_who_are_refused_do_not_raise_the_limit(refused):
    X = np.random.default_rng(13).standard_normal((9, 4))
    X[:refused] = np.nan
    said, _ = certificate_of(Krum(3), X, np.zeros(4))
    assert said.limit == limit_of(9, 3) == 2.0
    assert (said.n, said.f) == (9 - refused, 3 if refused == 0 else 2)


@pytest.mark.parametrize("silent", [0, 1, 3])
def test_clients_who_do_not_answer_do_not_raise_the_limit(silent):
    rounds = Rounds(Krum(3), largest_step=math.inf)
    rounds.begin({"w": np.zeros(4)}, range(12))
    X = np.random.default_rng(16).standard_normal((12 - silent, 4))
    _, report = rounds.finish(1, [Reply(i, {"w": npy(row)}) for i, row in enumerate(X)])
    assert len(report.silent) == silent
    assert report.certificate.limit == limit_of(12, 3) == 1.0 < limit_of(9, 3)


def test_as_many_liars_as_half_of_the_replies_leave_nothing_to_be_known():
    X = np.random.default_rng(14).standard_normal((6, 4))
    said, _ = certificate_of(Average(3), X, np.zeros(4))
    assert said.verdict == "cannot be known"
    assert "6 accepted replies, 3 of them lies: more than 6 are needed" in said.sentence()


# --- where there is none ---


def test_a_round_that_does_not_move_the_model_has_no_certificate():
    X = np.random.default_rng(15).standard_normal((5, 4))
    replies = [Reply(i, {"w": npy(row)}) for i, row in enumerate(X)]

    def play(rule, veto="", **options):
        rounds = Rounds(rule, **options)
        rounds.begin({"w": np.zeros(4)}, range(5))
        model, report = rounds.finish(1, replies, veto=veto)
        assert model is None
        return report

    for report in (
        play(Krum(2)),
        play(Krum(1), veto="not now"),
        play(Krum(1), largest_step=1e-9),
    ):
        assert report.certificate is None
        assert not [line for line in report.lines() if line.startswith("certificate")]
        assert "certificate" not in report.guarantee_metrics()
    rounds = Rounds(Krum(2), on_infeasible="raise")
    rounds.begin({"w": np.zeros(4)}, range(5))
    with pytest.raises(InfeasibleRoundError):
        rounds.finish(1, replies)
    assert rounds.reports[-1].certificate is None


def test_a_strategy_that_asks_for_none_has_none_and_the_same_model(federation):
    w, replies = drawn(np.random.default_rng(16))
    models = []
    for options in ({"certificate": True}, {}):
        strategy = federation.strategy("MultiKrum", F, **options)
        federation.configure(strategy, w, replies)
        new, metrics = federation.aggregate(strategy, replies)
        models.append([layer.tobytes() for layer in new])
        assert ("certificate" in metrics) == bool(options)
    assert strategy.last_report.certificate is None
    assert models[0] == models[1]


# --- what is said ---


def report_of(rule, t=1, **options):
    w, replies = drawn(np.random.default_rng(t))
    rounds = Rounds(rule, **options)
    rounds.begin(dict(zip("ab", w, strict=True)), replies)
    sent = [Reply(i, dict(zip("ab", map(npy, m), strict=True))) for i, m in replies.items()]
    return rounds.finish(t, sent)[1]


def test_the_certificate_is_said_first_and_proposition_1_second():
    report = report_of(MultiKrum(F))
    spoken = [line for line in report.lines() if line.startswith(("certificate", "guarantee"))]
    assert spoken[0] == report.certificate.sentence()
    assert spoken[0].startswith(
        "certificate holds at limit 1 for kappa, 1 spread: whichever 2 or fewer of the 11 lied, "
        "the aggregate's distance from the average of the honest replies is at most 0."
    )
    assert spoken[1] == report.guarantee.line()
    assert [line for line in conclusion([report, report]) if ": " in line][:3] == [
        "certificate: holds in 2",
        f"the median round: {report.certificate.sentence()}",
        f"guarantee: {report.guarantee.verdict} in 2",
    ]
    assert next(iter(report.guarantee_metrics())) == "certificate"


def test_a_round_that_does_not_hold_names_the_clients_or_their_pseudonyms():
    report = report_of(Average(F), largest_step=math.inf)
    said = report.certificate
    assert said.verdict == "does not hold"
    assert said.honest_if == tuple(range(3, 12))
    listed = "if the honest clients were exactly these 9 (3, 4, 5, 6, 7, 8, 9, 10, 11) "
    assert listed in said.sentence()
    assert said.sentence().endswith("; this accuses nobody")
    names = {i: f"site {chr(64 + i)}" for i in range(1, 12)}
    assert "these 9 (site C, site D, site E" in said.sentence(names)


def test_all_that_is_certain_is_said_with_the_clients_of_each_list_by_their_names():
    said = RoundCertificate(
        "does not hold", 5, 1, 1.0, kappa=9.0, survives=0,
        kappa_at_least=4.0, honest_if=(7, "x", 2, 3), unless=(5, "x"),
    )  # fmt: skip
    for names, honest, unless in (
        (None, "7, x, 2, 3", "5, x"),
        ({7: "a", "x": "b", 2: "c", 3: "d", 5: "e"}, "a, b, c, d", "e, b"),
    ):
        first, second, third = said.lines(names)
        assert first == said.sentence(names)
        assert f"exactly these 4 ({honest})" in first
        assert second.startswith("for every number of liars up to 0 it is within the limit")
        assert third.endswith(f"that a client lied of these: {unless}")


def test_metrics_hold_finite_numbers_alone():
    said = RoundCertificate("cannot be known", 11, 2, 1.0, reason="why")
    numbers = RoundReport(1, "r", 2, certificate=said).guarantee_metrics()
    assert numbers == {"certificate": -1.0, "certificate-survives": -1.0}
    known = replace(said, verdict="holds", kappa=0.25, radius=2.0, survives=4)
    assert RoundReport(1, "r", 2, certificate=known).guarantee_metrics() == {
        "certificate": 1.0,
        "certificate-survives": 4.0,
        "certificate-kappa": 0.25,
        "certificate-radius": 2.0,
    }


def test_where_an_optimiser_moves_the_model_the_report_says_that_it_speaks_of_the_aggregate():
    report = report_of(MultiKrum(F), server_optimizer=FedAdam(eta=0.01))
    assert report.certificate.verdict == "holds"
    assert report.steps["ratio"] > 0.0
    (line,) = (line for line in report.lines() if line.startswith("moved by"))
    assert line.endswith(": certificate and guarantee speak of the aggregate alone")


# --- the journal ---


@pytest.mark.parametrize("rule", [MultiKrum(F), Average(F), TrimmedMean(F), FLTrust(F)], ids=str)
def test_a_certificate_survives_the_journal_and_is_short(rule, tmp_path):
    path = tmp_path / "journal.jsonl"
    options = {"root": own_model} if rule.server_rows else {}
    report = report_of(rule, largest_step=math.inf, journal=path, **options)
    (found,) = read_journal(path)
    assert found == report
    assert found.certificate.lines() == report.certificate.lines()
    assert type(found.certificate.honest_if) is tuple
    assert len(json.dumps(report.certificate.to_json())) < 500


def test_a_journal_from_before_certificates_is_read(tmp_path):
    values = report_of(MultiKrum(F)).to_json()
    del values["certificate"]
    assert RoundReport.from_json(values).certificate is None


@pytest.mark.parametrize(
    "damaged", [7, {}, {"verdict": "true", "n": 1, "f": 0, "limit": 1.0}, {"unknown": 1}]
)
def test_values_that_are_no_certificate_are_refused(damaged):
    values = report_of(MultiKrum(F)).to_json() | {"certificate": damaged}
    with pytest.raises((KeyError, TypeError, ValueError)):
        RoundReport.from_json(values)


def test_a_resumed_run_has_the_certificates_of_an_unbroken_one(tmp_path):
    def play(path, first, last, w):
        rounds = Rounds(MultiKrum(F), journal=path, rounds_done=first)
        for t in range(first + 1, last + 1):
            rng = np.random.default_rng(t)
            rounds.begin({"w": w}, range(N))
            X = w + rng.standard_normal((N, 6)).astype(np.float32)
            model, _ = rounds.finish(t, [Reply(i, {"w": npy(row)}) for i, row in enumerate(X)])
            w = decode(model["w"])
        return w

    start = np.zeros(6, np.float32)
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    once = play(whole, 0, 4, start)
    again = play(parts, 2, 4, play(parts, 0, 2, start))
    assert once.tobytes() == again.tobytes()
    told = [[r.to_json()["certificate"] for r in read_journal(p)] for p in (whole, parts)]
    assert told[0] == told[1]
    assert all(told[0])


def test_the_curve_that_a_report_keeps_is_short_and_nowhere_below_kappa():
    drawn = np.random.default_rng(3).uniform(0.0, 3.0, 200)
    kappa = (0.0, 0.787, 9.9995, 1.7976e308, math.inf, *drawn.tolist())
    kept = RoundCertificate.of(
        Certificate("holds", len(kappa), 0, 1.0, kappa, kappa), range(len(kappa)), centred=False
    ).curve
    for exact, rounded in zip(kappa, kept, strict=True):
        assert exact <= rounded <= exact * 1.001 or rounded == math.inf
        assert float(f"{rounded:.3e}") == rounded
    assert kept[:3] == (0.0, 0.787, 10.0)
