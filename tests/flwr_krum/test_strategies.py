"""What holds for the strategies of both of Flower's APIs alike."""

from __future__ import annotations

import itertools
import logging
import math
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.common import Parameters
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

from flwr_krum.round import InfeasibleRoundError
from flwr_krum.rules import Average, Krum, Medoid, OneMinusPKrum
from tests.flwr_krum import references
from tests.flwr_krum.federations import FitApi
from tests.flwr_krum.npy_bytes import forge, forged_header

API = FitApi()

CONFORMANCE = {i: [value] for i, value in enumerate(references.CONFORMANCE, 1)}
NAMES = ("Krum", "MultiKrum", "Medoid", "OneMinusPKrum")


def layers(values, dtype=np.float32):
    return [np.array(values, dtype)]


def sent(values):
    """Return one layer per client, from {client: numbers}."""
    return {client: layers(numbers) for client, numbers in values.items()}


def around(centre, n, seed=0, spread=0.01):
    """Return n honest models of two layers around a centre."""
    rng = np.random.default_rng(seed)
    return {
        i: [
            (centre + spread * rng.standard_normal(5)).astype(np.float32),
            (centre + spread * rng.standard_normal((3, 2))).astype(np.float32),
        ]
        for i in range(1, n + 1)
    }


@pytest.fixture(params=[True, False], ids=["configured", "alone"])
def configured(request):
    """Whether the round was configured, so that the global model is known."""
    return request.param


def run(federation, strategy, replies, model=None, t=1, **reply):
    if model is not None:
        federation.configure(strategy, model, replies, t)
    return federation.aggregate(strategy, replies, t, **reply)[0]


# --- the rules, end to end ---


def test_the_conformance_vector_gives_10(federation, configured):
    strategy = federation.strategy("Krum", 1)
    found = run(federation, strategy, sent(CONFORMANCE), layers([0.0]) if configured else None)
    assert found[0].tolist() == [10]
    assert found[0].dtype == np.float32
    report = strategy.reports[-1]
    assert report.selected == (federation.name(4),)
    assert list(report.scores.values()) == [45, 18, 25, 17, 26]


def test_every_named_strategy_follows_its_rule(federation):
    expected = {"Krum": [10], "MultiKrum": [7.5], "OneMinusPKrum": [6]}
    for name, value in expected.items():
        found = run(federation, federation.strategy(name, 1), sent(CONFORMANCE))
        assert found[0].tolist() == value
    assert run(federation, federation.strategy("Medoid"), sent(CONFORMANCE))[0].tolist() == [6]
    assert run(federation, federation.strategy("MultiKrum", 1, 2), sent(CONFORMANCE))[
        0
    ].tolist() == [6.5]
    found = run(federation, federation.custom(Average()), sent(CONFORMANCE))
    assert found[0].tolist() == [6]


def test_one_minus_p_krum_passes_p_and_seed_on(federation):
    strategy = federation.strategy("OneMinusPKrum", 1, p=0.5, seed=11)
    rule = OneMinusPKrum(1, p=0.5, seed=11)
    outcomes = []
    for t in range(1, 25):
        outcomes.append(run(federation, strategy, sent(CONFORMANCE), t=t)[0].tolist())
    assert outcomes == [[6] if rule.averages(t) else [10] for t in range(1, 25)]
    never = federation.strategy("OneMinusPKrum", 1, p=0.0)
    assert run(federation, never, sent(CONFORMANCE))[0].tolist() == [10]


def test_krum_returns_the_winners_layers_bit_for_bit(federation, configured):
    replies = around(1.0, 7)
    strategy = federation.strategy("Krum", 2)
    found = run(federation, strategy, replies, replies[3] if configured else None)
    winner = replies[int(strategy.reports[-1].selected[0])]
    assert [x.tobytes() for x in found] == [x.tobytes() for x in winner]
    assert [x.shape for x in found] == [(5,), (3, 2)]


def test_dtypes_and_shapes_of_a_mixed_model_are_kept(federation, configured):
    rng = np.random.default_rng(0)
    replies = {
        i: [
            rng.standard_normal(3).astype(np.float16),
            rng.standard_normal((2, 2)),
            np.array(i),
            np.array(rng.standard_normal(), np.float32),
            np.array([i % 2 == 0, True]),
            np.zeros((0, 3), np.float32),
        ]
        for i in range(1, 8)
    }
    for strategy in (federation.strategy("Krum", 2), federation.strategy("MultiKrum", 2)):
        found = run(federation, strategy, replies, replies[1] if configured else None)
        assert [(x.dtype, x.shape) for x in found] == [(x.dtype, x.shape) for x in replies[1]]
        assert found[2] == 4
        assert found[4].tolist() == [False, True]


# --- order ---


def test_the_order_of_arrival_changes_nothing_not_even_a_bit(federation, configured):
    replies = around(1.0, 9, seed=1)
    for name in NAMES:
        f = {} if name == "Medoid" else {"f": 3}
        seen = set()
        for seed in range(12):
            order = list(replies)
            random.Random(seed).shuffle(order)
            strategy = federation.strategy(name, **f)
            arrived = {client: replies[client] for client in order}
            found = run(federation, strategy, arrived, replies[2] if configured else None)
            report = strategy.reports[-1]
            seen.add((b"".join(x.tobytes() for x in found), report.selected, report.received))
        assert len(seen) == 1, name


def test_ties_go_to_the_smallest_client_id_and_10_comes_after_9(federation):
    unit = np.eye(7, dtype=np.float32)
    clients = [10, 9, 100, 11, 12, 13, 14]
    for order in itertools.islice(itertools.permutations(range(7)), 0, 5040, 311):
        replies = {clients[i]: [unit[i]] for i in order}
        strategy = federation.strategy("Krum", 2)
        np.testing.assert_array_equal(run(federation, strategy, replies)[0], unit[1])
        assert strategy.reports[-1].received == tuple(map(federation.name, sorted(clients)))
        strategy = federation.strategy("MultiKrum", 2, 3)
        run(federation, strategy, replies)
        assert strategy.reports[-1].selected == tuple(map(federation.name, (9, 10, 11)))


def test_a_client_id_function_names_and_orders_the_clients(federation):
    def name(client):
        return f"device-{9 - int(client if isinstance(client, int) else client.cid)}"

    strategy = federation.strategy("Krum", 1, client_id=name)
    same = {i: layers([1.0]) for i in range(1, 6)}
    run(federation, strategy, same, layers([0.0]))
    report = strategy.reports[-1]
    assert report.received == tuple(f"device-{i}" for i in range(4, 9))
    assert report.selected == ("device-4",)
    assert report.silent == ()


# --- claims of the clients ---


@pytest.mark.parametrize(
    "examples", [0, 1, -60, 10**15, -(2**63), 2**63 - 1, 1e300, float("nan"), float("inf")]
)
def test_claimed_example_counts_never_weigh(federation, examples):
    if isinstance(examples, float) and federation.name(1) != 1:
        examples = 10**9  # counts of aggregate_fit are whole numbers in the protocol
    for name, m in (("MultiKrum", 3), ("Krum", None), ("Medoid", None)):
        f = None if name == "Medoid" else 1
        replies = sent({i: [0.97 + 0.01 * i] for i in range(1, 7)})
        honest = run(federation, federation.strategy(name, f, m), replies)
        lied = run(federation, federation.strategy(name, f, m), replies, examples=examples)
        np.testing.assert_array_equal(lied[0], honest[0])


def test_metrics_are_a_trimmed_mean_over_the_accepted(federation):
    strategy = federation.strategy("Krum", 1)
    _, metrics = federation.aggregate(strategy, sent(CONFORMANCE), metrics={"loss": 0.5})
    assert metrics["loss"] == 0.5
    assert "num-examples" not in metrics


def test_losses_of_evaluation_take_the_trimmed_mean(federation):
    strategy = federation.strategy("Krum", 1)
    losses = {3: 1.0, 1: 2.0, 2: 1e300, 4: 3.0, 5: -1e300}
    assert federation.evaluate(strategy, losses) == {"loss": 2.0}
    assert federation.evaluate(
        strategy, {1: 1.0, 2: float("nan"), 3: 3.0, 4: float("inf"), 5: 2.0}
    ) == {"loss": 2.0}


# --- numbers ---


@pytest.mark.parametrize("size", [1e-3, 1e-5])
def test_tiny_updates_of_a_large_model_are_judged_right_in_every_draw(federation, configured, size):
    rng = np.random.default_rng(3)
    krum, multi = federation.strategy("Krum", 2), federation.strategy("MultiKrum", 2)
    for _ in range(40 if size == 1e-3 else 20):
        w = rng.standard_normal(40)
        w = (w * 1e3 / np.linalg.norm(w)).astype(np.float32)
        scale = np.where(np.arange(9) < 2, 3.0, 1.0)[:, None] * size
        V = (w + scale * rng.standard_normal((9, 40))).astype(np.float32)
        scores = references.krum_scores(references.squared_distances(V), 5)
        order = [i + 1 for i in references.best(scores, 7)]
        replies = {i + 1: [row] for i, row in enumerate(V)}
        model = [w] if configured else None
        np.testing.assert_array_equal(run(federation, krum, replies, model)[0], V[order[0] - 1])
        run(federation, multi, replies, model)
        assert multi.reports[-1].selected == tuple(map(federation.name, order))


@pytest.mark.parametrize("hostile", [1e10, 1e30, -3e38])
def test_a_huge_hostile_model_does_not_blur_the_honest_ones(federation, configured, hostile):
    replies = around(1.0, 7, spread=1e-3)
    alone = run(federation, federation.strategy("Krum", 0), {i: replies[i] for i in range(2, 8)})
    replies[1] = [np.full_like(x, hostile) for x in replies[1]]
    strategy = federation.strategy("Krum", 1)
    found = run(federation, strategy, replies, replies[2] if configured else None)
    # With f = 1 of 7 the score sums 4 neighbours, as with f = 0 of the 6 honest.
    np.testing.assert_array_equal(found[0], alone[0])


def test_float16_models_do_not_overflow(federation, configured):
    rng = np.random.default_rng(4)
    replies = {
        i: [(0.5 + 0.01 * rng.standard_normal(30_000)).astype(np.float16)] for i in range(2, 8)
    }
    replies[1] = [np.full(30_000, 100, np.float16)]
    strategy = federation.strategy("Krum", 1)
    run(federation, strategy, replies, replies[2] if configured else None)
    assert strategy.reports[-1].selected != (federation.name(1),)


# --- refused replies ---

MALFORMED = {
    "NaN": lambda good: [good[0] * np.float32("nan"), good[1]],
    "one NaN": lambda good: [good[0], np.where(np.eye(3, 2), np.float32("nan"), good[1])],
    "Inf": lambda good: [good[0] + np.float32("inf"), good[1]],
    "wrong size": lambda good: [good[0][:-1], good[1]],
    "transposed": lambda good: [good[0], good[1].T.copy()],
    "missing": lambda good: [good[0]],
    "extra": lambda good: [*good, good[0]],
    "nothing": lambda good: [],
    "garbage": lambda good: [b"garbage", good[1]],
    "object": lambda good: [np.array([{}] * 5, dtype=object), good[1]],
    "complex": lambda good: [good[0].astype(complex), good[1]],
    "strings": lambda good: [np.array(["x"] * 5), good[1]],
    "integers": lambda good: [np.ones(5, int), good[1]],
    "beyond float32": lambda good: [good[0].astype(float) + 1e300, good[1]],
}


@pytest.mark.parametrize("case", [*MALFORMED, "terabytes"])
def test_a_malformed_reply_is_refused_by_name_and_the_others_bear_f(federation, configured, case):
    replies = around(1.0, 8)
    terabytes = forge(forged_header(shape="(100000000000,)"), bytes(20))
    malform = MALFORMED.get(case, lambda good: [terabytes, good[1]])
    for hostile in (1, 5):
        replies = around(1.0, 8)
        replies[hostile] = malform(replies[hostile])
        for name in ("Krum", "MultiKrum", "OneMinusPKrum"):
            strategy = federation.strategy(name, 2)
            found = run(federation, strategy, replies, replies[2] if configured else None)
            report = strategy.reports[-1]
            assert [r.client for r in report.refused] == [federation.name(hostile)]
            assert report.refused[0].reason
            assert report.byzantine == references.f_in_force(2, accepted=7, refused=1)
            assert len(report.received) == 7
            assert report.stepped
            assert all(np.abs(layer - 1).max() < 0.1 for layer in found)


def test_a_header_with_a_number_too_long_to_print_is_refused(federation):
    bomb = forge(forged_header(shape="(0x" + "f" * 4000 + ",)"))
    replies = {i: [np.array([float(i)], np.float32)] for i in range(1, 6)} | {6: [bomb]}
    layers, _ = federation.aggregate(federation.strategy("Krum", 1), replies)
    assert layers is not None


def test_the_reason_of_a_refusal_is_in_the_report(federation):
    strategy = federation.strategy("Krum", 1)
    replies = sent({**CONFORMANCE, 6: [float("nan")], 7: [1.0, 2.0]})
    run(federation, strategy, replies)
    reasons = [refused.reason for refused in strategy.reports[-1].refused]
    assert reasons == ["array '0': holds NaN", "array '0': shape (2,), expected (1,)"]


def test_the_text_of_an_error_is_short(federation):
    strategy = federation.strategy("Krum", 0)
    federation.aggregate(strategy, {1: RuntimeError("x" * 1_000_000)})
    (text,) = strategy.reports[-1].failed.values()
    assert len(text) < 1000


def test_silent_and_failed_clients_do_not_lower_f(federation):
    strategy = federation.strategy("Krum", 2)
    replies = around(1.0, 10)
    federation.configure(strategy, replies[1], range(1, 11))
    heard = {i: replies[i] for i in range(1, 8)}
    found, _ = federation.aggregate(strategy, {**heard, 8: RuntimeError("out of memory")})
    report = strategy.reports[-1]
    assert found is not None
    assert report.byzantine == 2
    assert report.silent == tuple(map(federation.name, (9, 10)))
    assert dict(report.failed) == {federation.name(8): "out of memory"}


def test_twenty_clients_of_which_six_send_nan_do_not_lose_the_round(federation, configured):
    replies = around(1.0, 20)
    for i in range(1, 7):
        replies[i] = MALFORMED["NaN"](replies[i])
    for name in ("Krum", "MultiKrum"):
        strategy = federation.strategy(name, 6)
        found = run(federation, strategy, replies, replies[9] if configured else None)
        assert np.abs(found[0] - 1).max() < 0.1
        assert strategy.reports[-1].byzantine == references.f_in_force(6, accepted=14, refused=6)
        assert len(strategy.reports[-1].refused) == 6


def test_counters_follow_the_median_of_the_accepted_and_choose_nobody(federation, configured):
    rng = np.random.default_rng(5)
    honest = {
        i: [rng.normal(0, 0.1, 8).astype(np.float32), np.array(100 + 10 * i)] for i in range(6)
    }
    hostile = {6: [np.full(8, 0.5, np.float32), np.array(125)]}
    refused = {7: [np.full(8, np.nan, np.float32), np.array(0)]}
    strategy = federation.strategy("Krum", 1)
    found = run(
        federation, strategy, {**honest, **hostile, **refused}, honest[0] if configured else None
    )
    assert strategy.reports[-1].selected[0] != federation.name(6)
    assert found[1] == sorted([100, 110, 120, 125, 130, 140, 150])[3]
    assert found[1].dtype == np.int64


def test_a_batchnorm_model_goes_through_both_strategies(federation):
    replies = {i: [np.array([float(i)], np.float32), np.array(100 + i)] for i in range(1, 6)}
    layers, _ = federation.aggregate(federation.strategy("Krum", 1), replies)
    assert layers[1] == 103


# --- infeasible rounds ---


def test_too_few_replies_skip_the_round_by_default(federation):
    strategy = federation.strategy("Krum", 2)
    assert run(federation, strategy, around(1.0, 6)) is None
    assert "got n=6, f=2" in strategy.reports[-1].note


def test_on_infeasible_raise_raises(federation):
    strategy = federation.strategy("Krum", 2, on_infeasible="raise")
    with pytest.raises(InfeasibleRoundError, match="got n=6, f=2"):
        run(federation, strategy, around(1.0, 6))


def test_on_infeasible_degrade_goes_on(federation):
    strategy = federation.strategy("Krum", 1, on_infeasible="degrade")
    replies = sent({1: [5.0], 2: [1.0], 3: [1.5], 4: [9.0]})
    assert run(federation, strategy, replies)[0].tolist() == [1.0]


def test_no_replies_keep_the_model(federation):
    strategy = federation.strategy("Krum", 1)
    assert federation.aggregate(strategy, {}) == (None, {})
    assert strategy.reports == []
    federation.configure(strategy, layers([0.0]), range(1, 6))
    assert federation.aggregate(strategy, {})[0] is None
    assert strategy.reports[-1].silent == tuple(map(federation.name, range(1, 6)))


def test_only_failures_keep_the_model(federation):
    strategy = federation.strategy("Krum", 1)
    assert run(federation, strategy, {1: RuntimeError("a"), 2: RuntimeError("b")}) is None
    assert len(strategy.reports[-1].failed) == 2


# --- server learning rate ---


def test_the_server_learning_rate_scales_the_step(federation):
    for rate, expected in ((0.5, 6.0), (1.0, 10.0), (lambda t: 1 / t, 4.0)):
        strategy = federation.strategy("Krum", 1, server_learning_rate=rate)
        t = 4 if callable(rate) else 1
        found = run(federation, strategy, sent(CONFORMANCE), layers([2.0]), t=t)
        assert found[0].tolist() == [expected]
        assert found[0].dtype == np.float32


def test_a_rate_without_a_known_model_is_a_clear_error(federation):
    strategy = federation.strategy("Krum", 1, server_learning_rate=0.5)
    with pytest.raises(ValueError, match="needs the global model: let the strategy configure"):
        run(federation, strategy, sent(CONFORMANCE))


# --- reports and settings ---


def test_reports_follow_the_rounds(federation):
    strategy = federation.strategy("Krum", 1)
    for t in (1, 2, 3):
        run(federation, strategy, sent(CONFORMANCE), layers([0.0]), t=t)
    assert [report.server_round for report in strategy.reports] == [1, 2, 3]
    strategy.reports.clear()
    assert len(strategy.reports) == 3


def test_the_summary_logs_the_settings_as_a_tree(federation, caplog):
    strategy = federation.strategy("Krum", 3, server_learning_rate=0.5, on_infeasible="degrade")
    with caplog.at_level(logging.INFO, logger="flwr"):
        logging.getLogger("flwr").addHandler(caplog.handler)
        strategy.summary()
        logging.getLogger("flwr").removeHandler(caplog.handler)
    text = [record.getMessage() for record in caplog.records]
    for line in (
        "\t├──> Krum settings:",
        "\t│\t├── Rule: Krum(f=3, strict=True)",
        "When infeasible: degrade",
        "Server learning rate: 0.5",
    ):
        assert any(line in logged for logged in text)


def test_a_refusal_is_logged_as_a_warning_with_its_reason(federation, caplog):
    strategy = federation.strategy("Krum", 1)
    logging.getLogger("flwr").addHandler(caplog.handler)
    run(federation, strategy, sent({**CONFORMANCE, 6: [float("nan")]}))
    logging.getLogger("flwr").removeHandler(caplog.handler)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("refused 6: array '0': holds NaN" in line for line in warnings)


@pytest.mark.parametrize("f", [-1, 2.5, "x", True])
def test_an_illegal_f_is_refused_by_the_constructor(federation, f):
    for name in ("Krum", "MultiKrum", "OneMinusPKrum"):
        with pytest.raises(ValueError, match=r"f is .*, expected an integer >= 0"):
            federation.strategy(name, **{federation.api.f_name: f})


@pytest.mark.parametrize("m", [-1, 1.5, "x"])
def test_an_illegal_m_is_refused_by_the_constructor(federation, m):
    with pytest.raises(ValueError, match=r"m is .*, expected an integer >= 1"):
        federation.strategy("MultiKrum", 1, m)


def test_m_beyond_n_averages_n_minus_f(federation):
    strategy = federation.strategy("MultiKrum", 1, 50)
    assert run(federation, strategy, sent(CONFORMANCE))[0].tolist() == [7.5]


def test_illegal_settings_are_refused_by_the_constructor(federation):
    with pytest.raises(ValueError, match="on_infeasible must be one of"):
        federation.strategy("Krum", 1, on_infeasible="never")
    with pytest.raises(ValueError, match="server_learning_rate must be"):
        federation.strategy("Krum", 1, server_learning_rate=-1)
    with pytest.raises(TypeError, match="rule must be a flwr_krum rule"):
        federation.custom("krum")
    with pytest.raises(TypeError, match="nonsense"):
        federation.strategy("Krum", 1, nonsense=1)


def test_any_rule_makes_a_strategy(federation):
    for rule in (Krum(1), Medoid(), Average()):
        strategy = federation.custom(rule)
        expected = rule(np.array(list(CONFORMANCE.values()))).vector
        assert run(federation, strategy, sent(CONFORMANCE))[0].tolist() == expected.tolist()


def test_the_global_model_of_the_last_configured_round_is_the_reference(federation):
    strategy = federation.strategy("Krum", 1, server_learning_rate=0.5)
    found = run(federation, strategy, sent(CONFORMANCE), layers([0.0]))
    found = run(federation, strategy, sent(CONFORMANCE), found, t=2)
    assert found[0].tolist() == [7.5]
    model = around(1.0, 1)[1]
    federation.configure(strategy, model, range(1, 8), 3)
    federation.aggregate(strategy, {**around(1.0, 6), 7: layers([1.0])}, 3)
    assert [r.client for r in strategy.reports[-1].refused] == [federation.name(7)]


def test_the_metrics_say_who_was_selected_and_refused(federation):
    layers = {i: [np.array([float(i)], np.float32)] for i in range(1, 6)}
    strategy = federation.strategy("Krum", 1)
    _, metrics = federation.aggregate(strategy, {**layers, 6: [np.array([np.nan], np.float32)]})
    # With f = 0 left, 2 and 3 tie at 1 + 1 + 4.
    assert (metrics["accepted"], metrics["refused"]) == (5, 1)
    if federation.names_arrays:
        assert (metrics["selected-nodes"], metrics["refused-nodes"]) == ([2], [6])
    else:
        assert (metrics["selected-clients"], metrics["refused-clients"]) == ("2", "6")
    assert metrics["guarantee"] == -1.0  # no global model is known


def test_rounds_count_on_from_those_done(federation):
    model = [np.zeros(1, np.float32)]
    sent = {i: [np.array([float(i)], np.float32)] for i in range(1, 6)}
    strategy = federation.strategy("Krum", 1, rounds_done=40)
    federation.configure(strategy, model, sent, 2)
    federation.aggregate(strategy, sent, 2)
    assert strategy.reports[-1].server_round == 42


# --- what a round says in the aggregated metrics ---


def test_the_aggregated_metrics_say_who_was_selected_and_refused(federation):
    strategy = federation.strategy("MultiKrum", 2, 3)
    replies = around(1.0, 9)
    replies[4] = MALFORMED["NaN"](replies[4])
    replies[10] = MALFORMED["wrong size"](replies[9])
    _, metrics = federation.aggregate(strategy, replies, metrics={"loss": 0.5})
    selected = [int(client) for client in strategy.reports[-1].selected]
    assert len(selected) == 3
    if federation.names_arrays:
        named = {"selected-nodes": selected, "refused-nodes": [4, 10]}
    else:
        named = {"selected-clients": ",".join(map(str, selected)), "refused-clients": "4,10"}
    expected = {"loss": 0.5, "accepted": 8, "refused": 2, **named}
    assert {key: metrics[key] for key in expected} == expected


def test_a_round_that_keeps_the_model_says_so_in_its_metrics(federation):
    strategy = federation.strategy("Krum", 2)
    found, metrics = federation.aggregate(strategy, {1: [np.array([math.nan])]})
    assert found is None
    assert (metrics["accepted"], metrics["refused"]) == (0, 1)
    key = "selected-nodes" if federation.names_arrays else "selected-clients"
    assert metrics[key] in ([], "")


def test_a_client_cannot_forge_what_the_round_says(federation):
    strategy = federation.strategy("Krum", 1)
    forged = {"accepted": 99, "refused": 99, "refused-nodes": 1, "selected-clients": 1}
    _, metrics = federation.aggregate(strategy, sent(CONFORMANCE), metrics=forged)
    assert (metrics["accepted"], metrics["refused"]) == (5, 0)
    if federation.names_arrays:
        assert metrics["refused-nodes"] == []
    else:
        assert metrics["selected-clients"] == "4"


def test_nodes_with_names_are_counted_in_the_metrics_and_named_in_the_report(federation):
    def name(client):
        return f"device {client if isinstance(client, int) else client.cid}"

    strategy = federation.strategy("Krum", 1, client_id=name)
    _, metrics = federation.aggregate(strategy, sent({**CONFORMANCE, 6: [math.nan]}))
    assert (metrics["accepted"], metrics["refused"]) == (5, 1)
    assert strategy.reports[-1].refused[0].client == "device 6"
    if federation.names_arrays:
        assert "refused-nodes" not in metrics
        assert "selected-nodes" not in metrics
    else:
        assert metrics["refused-clients"] == "device 6"


@pytest.mark.parametrize("odd", [None, 1.5, b"six", KeyError("six")])
def test_a_client_whom_the_operators_function_gives_no_name_goes_by_its_own_id(
    federation, odd, monkeypatch
):
    def name(client):
        number = int(client if isinstance(client, int) else client.cid)
        if number != 6:
            return f"device {number}"
        if isinstance(odd, Exception):
            raise odd
        return odd

    said = []
    monkeypatch.setattr("flwr_krum.strategy.log", lambda _, text, *args: said.append(text % args))
    strategy = federation.strategy("Krum", 1, client_id=name)
    for _ in range(2):
        federation.aggregate(strategy, sent({**CONFORMANCE, 6: [math.nan]}))
    assert [report.refused[0].client for report in strategy.reports] == 2 * [federation.name(6)]
    (warning,) = said  # once
    assert warning.endswith("for client 6, which goes by that id")
    assert ("raises KeyError" if isinstance(odd, Exception) else f"returns {odd!r}") in warning


def test_ids_of_64_bits_fit_into_the_aggregated_metrics(federation):
    big = 2**64 - 5
    strategy = federation.strategy("Krum", 1)
    replies = {big - i: layers(v) for i, v in enumerate(CONFORMANCE.values())}
    _, metrics = federation.aggregate(strategy, {**replies, big + 1: layers([math.nan])})
    if federation.names_arrays:
        record = MetricRecord(metrics)
        record = recorddict_from_proto(recorddict_to_proto(RecordDict({"m": record})))["m"]
        assert record["refused-nodes"] == [big + 1]


# --- evaluation ---


@pytest.mark.parametrize("lie", [1e300, -1e300, float("inf"), float("nan")])
def test_f_liars_do_not_move_the_evaluated_loss_beyond_the_honest(federation, lie):
    strategy = federation.strategy("Krum", 2)
    honest = {i: 0.1 * i for i in range(1, 8)}
    for liars in itertools.combinations(range(8, 11), 2):
        found = federation.evaluate(strategy, {**honest, **dict.fromkeys(liars, lie)})
        assert 0.1 <= found["loss"] <= 0.7


def test_evaluation_touches_neither_the_model_nor_the_reports(federation):
    strategy = federation.strategy("Krum", 1)
    federation.evaluate(strategy, {1: 1.0, 2: float("nan"), 3: 2.0})
    assert strategy.reports == []
    found = run(federation, strategy, sent(CONFORMANCE))
    assert found[0].tolist() == [10]


def test_doubted_evaluations_are_logged_by_name(federation, caplog):
    strategy = federation.strategy("Krum", 1)
    logging.getLogger("flwr").addHandler(caplog.handler)
    federation.evaluate(strategy, {1: 1.0, 2: float("nan"), 3: 2.0})
    logging.getLogger("flwr").removeHandler(caplog.handler)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("metrics of 2: metric 'loss' is nan" in line for line in warnings)


# --- quarantine ---


def play_quarantine(federation, strategy, rounds, n=9, bad=(3,), start=1):
    """Play rounds in which the bad clients send NaN whenever they are asked."""
    asked = []
    for t in range(start, start + rounds):
        replies = around(1.0, n)
        asked.append(set(federation.configure(strategy, replies[1], replies, t)))
        heard = {i: replies[i] for i in asked[-1]}
        heard |= {i: MALFORMED["NaN"](heard[i]) for i in bad if i in heard}
        federation.aggregate(strategy, heard, t)
    return asked


def test_without_quarantine_everybody_is_always_asked(federation):
    asked = play_quarantine(federation, federation.strategy("Krum", 1), 4)
    assert asked == [set(range(1, 10))] * 4


def test_after_k_refusals_a_client_is_not_asked_again(federation):
    strategy = federation.strategy("Krum", 1, quarantine=2)
    asked = play_quarantine(federation, strategy, 4)
    everyone = set(range(1, 10))
    assert asked == [everyone, everyone, everyone - {3}, everyone - {3}]
    me = federation.name(3)
    assert [r.quarantined for r in strategy.reports] == [(), (), (me,), (me,)]
    assert [len(r.refused) for r in strategy.reports] == [1, 1, 0, 0]
    assert [r.silent for r in strategy.reports] == [()] * 4
    assert all(r.stepped for r in strategy.reports)


def test_quarantine_never_makes_a_round_infeasible(federation):
    strategy = federation.strategy("Krum", 1, quarantine=1)
    asked = play_quarantine(federation, strategy, 4, n=6, bad=(1, 2))
    assert [len(clients) for clients in asked] == [6, 5, 5, 5]
    assert all(len(r.quarantined) <= 1 for r in strategy.reports)


def test_quarantine_outlives_a_restart_through_the_journal(federation, tmp_path):
    journal = tmp_path / "journal.jsonl"
    strategy = federation.strategy("Krum", 1, quarantine=2, journal=journal)
    play_quarantine(federation, strategy, 2)
    again = federation.strategy("Krum", 1, quarantine=2, journal=journal, rounds_done=2)
    assert play_quarantine(federation, again, 1) == [set(range(1, 10)) - {3}]
    forgetful = federation.strategy("Krum", 1, quarantine=2)
    assert play_quarantine(federation, forgetful, 1) == [set(range(1, 10))]


def test_evaluation_asks_clients_in_quarantine_too(federation):
    strategy = federation.strategy("Krum", 1, quarantine=1)
    play_quarantine(federation, strategy, 1)
    asked = federation.configure_evaluate(strategy, around(1.0, 1)[1], range(1, 10))
    assert set(asked) == set(range(1, 10))


# --- going on after rounds that are done ---


def with_round_configs(federation, **options):
    """Let the instructions carry the round in both APIs; the Message API does so by itself."""
    if not federation.names_arrays:
        options["on_fit_config_fn"] = lambda t: {"server-round": t}
        options["on_evaluate_config_fn"] = lambda t: {"server-round": t}
    return options


def test_rounds_count_on_in_what_clients_are_sent(federation):
    strategy = federation.strategy("Krum", 1, **with_round_configs(federation, rounds_done=7))
    model = around(1.0, 1)[1]
    for t in (1, 2):
        for step in (federation.configure, federation.configure_evaluate):
            configs = step(strategy, model, range(1, 6), t)
            assert [config["server-round"] for config in configs.values()] == [7 + t] * 5


def test_rounds_count_on_in_rules_rates_and_reports(federation):
    rates = []

    def rate(t):
        rates.append(t)
        return 1.0

    rule = OneMinusPKrum(1, seed=3)
    strategy = federation.custom(rule, rounds_done=4, server_learning_rate=rate)
    for t in range(1, 6):
        found = run(federation, strategy, sent(CONFORMANCE), layers([0.0]), t=t)
        assert found[0].tolist() == ([6] if rule.averages(4 + t) else [10])
    assert [report.server_round for report in strategy.reports] == rates == [5, 6, 7, 8, 9]


def test_a_run_that_stopped_goes_on_as_if_it_had_not(federation, tmp_path):
    def make(name, **options):
        return federation.custom(
            OneMinusPKrum(2, seed=1), journal=tmp_path / name,
            server_learning_rate=lambda t: 1 / t, **options,
        )  # fmt: skip

    def play(strategy, model, first, last, done=0):
        for t in range(first, last + 1):
            rng = np.random.default_rng(t)
            replies = {
                i: [(x + rng.standard_normal(x.shape)).astype(np.float32) for x in model]
                for i in range(1, 10)
            }
            model = run(federation, strategy, replies, model, t=t - done)
        return model

    start = around(1.0, 1)[1]
    whole = make("whole")
    expected = play(whole, start, 1, 6)
    half = play(make("parts"), start, 1, 3)
    second = make("parts", rounds_done=3)
    found = play(second, half, 4, 6, done=3)
    assert [x.tobytes() for x in found] == [x.tobytes() for x in expected]
    assert [r.server_round for r in second.reports] == [1, 2, 3, 4, 5, 6]
    assert [replace(r, seconds={}) for r in second.reports] == [
        replace(r, seconds={}) for r in whole.reports
    ]


def test_server_side_evaluation_of_aggregate_fit_counts_on():
    seen = []
    strategy = API.module.Krum(
        num_malicious_clients=1, rounds_done=5, evaluate_fn=lambda t, *_: seen.append(t)
    )
    for t in (0, 1, 2):
        strategy.evaluate(t, Parameters([], "numpy.ndarray"))
    assert seen == [5, 6, 7]


# --- pickling ---


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_can_be_pickled_at_any_time_and_goes_on(federation, name, tmp_path):
    options = {"journal": tmp_path / "journal.jsonl", "quarantine": 2}
    strategy = federation.strategy(name, None if name == "Medoid" else 1, **options)
    model = around(1.0, 1)[1]
    for t in (1, 2):
        strategy = pickle.loads(pickle.dumps(strategy))
        federation.configure(strategy, model, range(1, 8), t)
        strategy = pickle.loads(pickle.dumps(strategy))
        replies = around(1.0, 6) | {7: MALFORMED["NaN"](model)}
        found, _ = federation.aggregate(strategy, replies, t)
        assert np.abs(found[0] - 1).max() < 0.1
    strategy = pickle.loads(pickle.dumps(strategy))
    assert [report.server_round for report in strategy.reports] == [1, 2]
    assert federation.configure(strategy, model, range(1, 8), 3).keys() == set(range(1, 7))


def test_what_a_pickled_strategy_has_asked_goes_on_as_well(federation):
    strategy = federation.strategy("MultiKrum", 1)
    federation.configure_evaluate(strategy, around(1.0, 1)[1], range(1, 8))
    copied = pickle.loads(pickle.dumps(strategy))
    assert repr(copied) == repr(strategy)
