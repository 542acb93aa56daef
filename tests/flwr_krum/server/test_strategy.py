from __future__ import annotations

import inspect
import io
import logging

import flwr.server.strategy as flower
import numpy as np
import pytest
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status, ndarrays_to_parameters
from flwr.server import Server, SimpleClientManager

from flwr_krum.journal import read_journal
from flwr_krum.server import strategy as ours
from flwr_krum.server.strategy import Krum, Medoid, MultiKrum, OneMinusPKrum, RobustAggregation
from tests.flwr_krum.federations import FakeProxy, FitApi
from tests.flwr_krum.references import CONFORMANCE

API = FitApi()


@pytest.fixture
def results():
    def build(values, **kw):
        return [
            (FakeProxy(str(i)), API.result([np.array([v], np.float32)], **kw))
            for i, v in enumerate(values, 1)
        ]

    return build


def value(parameters):
    return np.load(io.BytesIO(parameters.tensors[0])).tolist()


# --- the place of Flower's own ---


def test_every_argument_of_flowers_krum_is_accepted_with_the_same_default():
    parameters = inspect.signature(flower.Krum).parameters
    theirs = flower.Krum()
    named, bare = Krum(**{key: p.default for key, p in parameters.items()}), Krum()
    for key in inspect.signature(flower.FedAvg).parameters:
        if key != "inplace":
            assert getattr(named, key) == getattr(bare, key) == getattr(theirs, key)


def test_every_argument_of_flowers_krum_has_its_effect():
    settings = {
        "fraction_fit": 0.5,
        "fraction_evaluate": 0.25,
        "min_fit_clients": 3,
        "min_evaluate_clients": 4,
        "min_available_clients": 5,
        "evaluate_fn": lambda *_: None,
        "on_fit_config_fn": lambda t: {"t": t},
        "on_evaluate_config_fn": lambda t: {"e": t},
        "accept_failures": False,
        "initial_parameters": ndarrays_to_parameters([np.zeros(1)]),
        "fit_metrics_aggregation_fn": lambda r: {},
        "evaluate_metrics_aggregation_fn": lambda r: {},
    }
    for cls in (Krum, MultiKrum, Medoid, OneMinusPKrum):
        strategy = cls(**settings)
        assert {key: getattr(strategy, key) for key in settings} == settings
        assert isinstance(strategy, flower.FedAvg)
        assert issubclass(cls, RobustAggregation)


def test_keeping_no_clients_is_krum_and_keeping_k_averages_k(results):
    for keep, expected in ((0, 10.0), (1, 10.0), (2, 6.5), (3, (10 + 3 + 6) / 3), (4, 7.5)):
        strategy = Krum(num_malicious_clients=1, num_clients_to_keep=keep)
        parameters, _ = strategy.aggregate_fit(1, results(CONFORMANCE), [])
        assert value(parameters) == pytest.approx([expected], rel=1e-6)


def test_keeping_more_than_n_minus_f_averages_n_minus_f(results):
    for strategy in (
        Krum(num_malicious_clients=1, num_clients_to_keep=8),
        MultiKrum(num_malicious_clients=1, num_clients_to_keep=8),
        MultiKrum(num_malicious_clients=1),
    ):
        assert value(strategy.aggregate_fit(1, results(CONFORMANCE), [])[0]) == [7.5]


def test_keeping_less_than_none_is_refused():
    with pytest.raises(ValueError, match="m is -1, expected an integer >= 1"):
        Krum(num_malicious_clients=1, num_clients_to_keep=-1)
    with pytest.raises(ValueError, match="m is 0, expected an integer >= 1"):
        MultiKrum(num_malicious_clients=1, num_clients_to_keep=0)


def test_failures_cost_the_round_where_they_are_not_accepted(results):
    strategy = Krum(num_malicious_clients=1, accept_failures=False)
    parameters, metrics = strategy.aggregate_fit(1, results(CONFORMANCE), [RuntimeError("oh\nno")])
    assert parameters is None
    assert (metrics["accepted"], metrics["selected-clients"]) == (5, "")
    report = strategy.last_report
    assert not report.stepped
    assert report.failed == {"failure 1": "oh\\nno"}
    assert report.note == "1 of those who were asked failed, and accept_failures is False"
    assert "failed failure 1: oh\\nno" in report.lines()
    assert value(strategy.aggregate_fit(2, results(CONFORMANCE), [])[0]) == [10]
    heard = results([0.0, 0.0, 0.0])
    loss = [(proxy, EvaluateRes(Status(Code.OK, ""), 1.0, 1, {})) for proxy, _ in heard]
    assert strategy.aggregate_evaluate(1, loss, [RuntimeError()]) == (None, {})
    assert strategy.aggregate_evaluate(1, loss, []) == (1.0, {})


@pytest.mark.parametrize("mode", ["skip", "raise", "degrade"])
def test_failures_that_are_not_accepted_are_no_infeasible_round(results, mode, tmp_path):
    strategy = Krum(
        num_malicious_clients=1,
        accept_failures=False,
        on_infeasible=mode,
        journal=tmp_path / "journal.jsonl",
    )
    assert strategy.aggregate_fit(1, results(CONFORMANCE), [RuntimeError()])[0] is None
    assert strategy.last_report.rule == "Krum(f=1, strict=True)"
    (line,) = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert "accept_failures is False" in line


def test_failures_of_an_evaluation_are_logged_under_their_names(results, caplog):
    failed = EvaluateRes(Status(Code.EVALUATE_NOT_IMPLEMENTED, "no\nsuch"), 0.0, 0, {})
    strategy = Krum(num_malicious_clients=1, accept_failures=False)
    ((proxy, _),) = results([0.0])
    logging.getLogger("flwr").addHandler(caplog.handler)
    assert strategy.aggregate_evaluate(1, [], [(proxy, failed)]) == (None, {})
    logging.getLogger("flwr").removeHandler(caplog.handler)
    warnings = {r.getMessage() for r in caplog.records if r.levelno == logging.WARNING}
    assert "\t> failed 1: no\\nsuch" in warnings
    assert any("accept_failures is False" in line for line in warnings)


def test_a_failure_without_a_name_is_numbered(results):
    strategy = Krum(num_malicious_clients=1)
    named = (FakeProxy("9"), FitRes(Status(Code.FIT_NOT_IMPLEMENTED, "no"), None, 0, {}))
    strategy.aggregate_fit(1, results(CONFORMANCE), [TimeoutError("late"), named])
    assert dict(strategy.reports[-1].failed) == {"failure 1": "late", "9": "no"}
    assert strategy.last_report is strategy.reports[-1]


@pytest.mark.parametrize("kind", ["pickle", "numpy", "x" * 10_000])
def test_another_serialization_is_refused(results, kind):
    tensors = API.result([np.array([6.0], np.float32)]).parameters.tensors
    lying = FitRes(Status(Code.OK, ""), Parameters(tensors, kind), 1, {})
    strategy = Krum(num_malicious_clients=1)
    strategy.aggregate_fit(1, [*results(CONFORMANCE), (FakeProxy("6"), lying)], [])
    refused = strategy.reports[-1].refused
    reason = f"serialized as {kind[:40]!r}, expected 'numpy.ndarray'"
    assert [(r.client, r.reason) for r in refused] == [("6", reason)]


@pytest.mark.parametrize("kind", ["", "numpy.nda"])
def test_npy_bytes_under_another_name_are_taken_in_and_others_are_refused_by_it(results, kind):
    tensors = API.result([np.array([6.0], np.float32)]).parameters.tensors
    bare = [np.array([6.0], np.float32).tobytes()]  # as Flower's Android strategy has them
    strategy = Krum(num_malicious_clients=1)
    sent = [
        (FakeProxy(cid), FitRes(Status(Code.OK, ""), Parameters(data, kind), 1, {}))
        for cid, data in (("6", tensors), ("7", bare))
    ]
    strategy.aggregate_fit(1, [*results(CONFORMANCE), *sent], [])
    report = strategy.reports[-1]
    assert "6" in report.received
    reason = f"serialized as {kind!r}, expected 'numpy.ndarray'"
    assert [(r.client, r.reason) for r in report.refused] == [("7", reason)]


@pytest.mark.parametrize("examples", [0, -60, 10**400, None, "7", float("nan"), [1]])
def test_absurd_example_counts_touch_neither_the_model_nor_the_run(results, examples):
    strategy = MultiKrum(num_malicious_clients=1)
    sent = [*results(CONFORMANCE[:4]), results(CONFORMANCE, examples=examples)[4]]
    assert value(strategy.aggregate_fit(1, sent, [])[0]) == [7.5]


@pytest.mark.parametrize(
    "metrics", [{}, {"loss": float("nan")}, {"loss": "x"}, {"loss": [1.0]}, {"evil": 1.0}]
)
def test_malformed_metrics_touch_neither_the_model_nor_the_run(results, metrics):
    strategy = Krum(num_malicious_clients=1)
    good = results(CONFORMANCE[:4], metrics={"loss": 2.0, "x": b"bytes", "y": "text", "z": True})
    sent = [*good, results(CONFORMANCE, metrics=metrics)[4]]
    parameters, found = strategy.aggregate_fit(1, sent, [])
    assert value(parameters) == [10]
    assert found["loss"] == 2.0
    assert not found.keys() & {"x", "y", "z", "evil"}


def test_the_operators_own_metrics_function_sees_the_accepted_and_may_fail(results):
    strategy = Krum(num_malicious_clients=1, fit_metrics_aggregation_fn=lambda r: {"n": len(r)})
    sent = results([*CONFORMANCE, float("nan")])
    assert strategy.aggregate_fit(1, sent, [])[1]["n"] == 5
    strategy = Krum(
        num_malicious_clients=1,
        fit_metrics_aggregation_fn=lambda r: {"x": r[0][1]["absent"]},
        evaluate_metrics_aggregation_fn=lambda r: {"x": 1 / 0},
    )
    parameters, metrics = strategy.aggregate_fit(1, sent, [])
    assert value(parameters) == [10]
    assert "x" not in metrics
    loss = [(proxy, EvaluateRes(Status(Code.OK, ""), 1.0, 1, {})) for proxy, _ in sent]
    assert strategy.aggregate_evaluate(1, loss, []) == (1.0, {})


def test_evaluation_without_a_finite_loss_has_none(results):
    strategy = Krum(num_malicious_clients=1)
    assert strategy.aggregate_evaluate(1, [], []) == (None, {})
    loss = [(p, EvaluateRes(Status(Code.OK, ""), float("nan"), 1, {})) for p, _ in results([0.0])]
    assert strategy.aggregate_evaluate(1, loss, []) == (None, {})


def test_the_results_are_not_changed(results):
    sent = results(CONFORMANCE)
    before = [list(result.parameters.tensors) for _, result in sent]
    MultiKrum(num_malicious_clients=1).aggregate_fit(1, sent, [])
    assert [result.parameters.tensors for _, result in sent] == before


@pytest.mark.parametrize("tensors", [[None], ["text"], [5], None])
def test_tensors_that_are_not_bytes_are_refused(tensors):
    good = [(FakeProxy(str(i)), API.result([np.array([float(i)])])) for i in range(2, 8)]
    bad = FitRes(Status(Code.OK, ""), Parameters(tensors, "numpy.ndarray"), 1, {})
    strategy = Krum(num_malicious_clients=1)
    assert strategy.aggregate_fit(1, [(FakeProxy("1"), bad), *good], [])[0] is not None


def test_a_fraction_of_zero_trains_nobody():
    strategy = Krum(fraction_fit=0.0, min_fit_clients=0, num_malicious_clients=1)
    manager = SimpleClientManager()
    for i in range(3):
        manager.register(FakeProxy(str(i)))
    assert strategy.configure_fit(1, ndarrays_to_parameters([np.zeros(1)]), manager) == []
    assert strategy.aggregate_fit(1, [], []) == (None, {})
    assert strategy.reports == []
    assert strategy.last_report is None


def test_the_strategy_names_its_rule():
    assert repr(Krum(num_malicious_clients=2)) == "Krum(rule=Krum(f=2, strict=True))"


def test_a_whole_run_of_flowers_server_converges_beside_hostile_clients():
    rng = np.random.default_rng(1)

    class Node(FakeProxy):
        def fit(self, ins, timeout, group_id):
            w = np.load(io.BytesIO(ins.parameters.tensors[0]))
            if self.cid == "1":
                raise RuntimeError("crashed")
            if self.cid == "2":
                return API.result([b"rubbish"])
            if self.cid == "3":
                return API.result([-100 * w], examples=10**15)
            target = 5 + 0.01 * rng.standard_normal(4)
            return API.result([(w + 0.5 * (target - w)).astype(np.float32)])

    initial = ndarrays_to_parameters([np.zeros(4, np.float32)])
    for cls in (Krum, MultiKrum):
        manager = SimpleClientManager()
        for i in range(1, 11):
            manager.register(Node(str(i)))
        strategy = cls(
            num_malicious_clients=2,
            initial_parameters=initial,
            fraction_evaluate=0.0,
            min_fit_clients=10,
            min_available_clients=10,
        )
        server = Server(client_manager=manager, strategy=strategy)
        server.fit(num_rounds=8, timeout=None)
        np.testing.assert_allclose(np.load(io.BytesIO(server.parameters.tensors[0])), 5, atol=0.1)
        for report in strategy.reports:
            assert [refused.client for refused in report.refused] == ["2"]
            assert list(report.failed.values()) == ["crashed"]
            assert "3" not in report.selected


def test_a_strategy_that_runs_twice_counts_its_rounds_on(tmp_path):
    told, seen = [], []

    class Node(FakeProxy):
        def fit(self, ins, timeout, group_id):
            told.append(ins.config["t"])
            return API.result([np.full(4, float(self.cid), np.float32)])

    manager = SimpleClientManager()
    for i in range(1, 8):
        manager.register(Node(str(i)))
    initial = ndarrays_to_parameters([np.zeros(4, np.float32)])
    strategy = Krum(
        num_malicious_clients=1,
        journal=tmp_path / "j",
        fraction_evaluate=0.0,
        on_fit_config_fn=lambda t: {"t": t},
        evaluate_fn=lambda t, *_: seen.append(t),
    )
    for _ in range(2):
        strategy.initial_parameters = initial  # Flower's class forgets it once it is handed out
        Server(client_manager=manager, strategy=strategy).fit(num_rounds=2, timeout=None)
    assert told == [t for t in (1, 2, 3, 4) for _ in range(7)]
    assert seen == [0, 1, 2, 2, 3, 4]
    assert [report.server_round for report in read_journal(tmp_path / "j")] == [1, 2, 3, 4]


def test_the_module_has_every_strategy():
    for name in ("Krum", "MultiKrum", "Medoid", "OneMinusPKrum", "RobustAggregation"):
        assert getattr(ours, name).__module__ == "flwr_krum.server.strategy"
