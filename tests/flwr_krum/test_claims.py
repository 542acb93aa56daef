"""What clients say about themselves, through both APIs: no minority steers it or stalls a round."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.common import Code, EvaluateRes, FitRes, Status

from flwr_krum.boundary.metrics import MOST_METRICS, MOST_NUMBERS
from tests.flwr_krum.counted import CountedDict
from tests.flwr_krum.federations import FakeProxy

MODEL = [np.zeros(10, np.float32)]


class Round:
    """Rounds in which every client sends a sound model and metrics of its own."""

    def __init__(self, federation, n, f, rule="Krum", **options):
        self.federation, self.n = federation, n
        self.strategy = federation.strategy(rule, *([] if f is None else [f]), **options)
        federation.configure(self.strategy, MODEL, range(1, n + 1))

    def train(self, metrics_of):
        api, replies = self.federation.api, []
        self.sent = {}
        for client in range(1, self.n + 1):
            model = [np.full(10, client, np.float32)]
            if self.federation.names_arrays:
                reply = api.reply(client, model)
                # A record looks at every entry that is put in; nobody does that on the network.
                record = vars(reply.content["metrics"])
                self.sent[client] = CountedDict({**record["_data"], **metrics_of(client)})
                record["_data"] = self.sent[client]
                replies.append(reply)
            else:
                result: FitRes = api.result(model)
                self.sent[client] = result.metrics = CountedDict(metrics_of(client))
                replies.append((FakeProxy(str(client)), result))
        if self.federation.names_arrays:
            self.strategy.aggregate_train(1, replies)
        else:
            self.strategy.aggregate_fit(1, replies, [])
        return self.strategy.last_report

    def evaluate(self, metrics_of, caplog):
        api, clients = self.federation.api, range(1, self.n + 1)
        caplog.clear()
        if self.federation.names_arrays:
            records = {c: MetricRecord({"num-examples": 10, **metrics_of(c)}) for c in clients}
            replies = [api.reply(c, RecordDict({"m": record})) for c, record in records.items()]
            return dict(self.strategy.aggregate_evaluate(1, replies))
        results = []
        for c in clients:
            metrics = dict(metrics_of(c))
            loss = metrics.pop("loss", 0.5)
            result = EvaluateRes(Status(Code.OK, ""), loss, 10, metrics)
            results.append((FakeProxy(str(c)), result))
        loss, metrics = self.strategy.aggregate_evaluate(1, results, [])
        return {"loss": loss, **metrics}


def twelve_honest_of_whom_seven(metric):
    """Eight colluders report what they like; seven of twelve honest clients report the metric."""
    return lambda client: (
        {"auc": metric} if client <= 8 else {"auc": 0.5} if client <= 15 else {"x": 1.0}
    )


DROPPED = "metric 'auc' dropped: 15 of 20 replies hold it as a number, at least 17 are needed"


@pytest.mark.parametrize("lie", [1e308, -1e308, 0.9])
def test_a_metric_that_at_most_2f_replies_hold_is_dropped_and_named(federation, lie):
    report = Round(federation, 20, 8).train(twelve_honest_of_whom_seven(lie))
    assert report.metrics == {}
    assert DROPPED in report.dropped
    assert DROPPED in report.lines()
    assert report.is_remarkable()
    assert report.stepped


def test_one_that_more_than_2f_replies_hold_lies_among_the_honest_values(federation):
    report = Round(federation, 20, 8).train(
        lambda c: {"auc": 1e308 if c <= 8 else 0.4 + 0.01 * (c % 9)} if c <= 17 else {}
    )
    assert 0.4 <= report.metrics["auc"] <= 0.4 + 0.01 * 8
    assert report.dropped == ()


def test_it_is_the_same_in_federated_evaluation(federation, caplog):
    played = Round(federation, 20, 8)
    found = played.evaluate(twelve_honest_of_whom_seven(1e308), caplog)
    assert "auc" not in found
    assert DROPPED in caplog.text
    found = played.evaluate(lambda c: {"loss": 1e308 if c <= 8 else 0.5}, caplog)
    assert found["loss"] == 0.5


@pytest.mark.parametrize(("n", "f"), [(3, 1), (4, 1), (5, 1), (20, 8)])
def test_without_a_declared_f_as_many_as_the_rule_bears_and_at_least_one_may_lie(federation, n, f):
    report = Round(federation, n, None).train(lambda c: {"loss": 1e308 if c <= f else 0.5})
    assert report.metrics["loss"] == 0.5


def test_a_minority_cannot_choose_a_metrics_kind(message_federation):
    # Eleven honest lists of three lengths beside eight liars that agree: no kind has the most.
    report = Round(message_federation, 19, 8).train(
        lambda c: {"curve": 1e308 if c <= 8 else [0.5] * (1 + c % 3)}
    )
    assert report.metrics == {}
    assert report.dropped == (
        "metric 'curve' dropped: 8 of 19 replies hold it as a number, at least 17 are needed",
    )


def test_lists_of_differing_lengths_have_no_mean(message_federation):
    report = Round(message_federation, 9, 0).train(lambda c: {"curve": [0.5] * (1 + c % 3)})
    assert report.metrics == {}
    assert report.dropped == (
        "metric 'curve' dropped: 3 of 9 replies hold it as a list of 2, at least 5 are needed",
    )


def test_liars_cannot_make_honest_example_counts_absurd(federation):
    # Four of eleven honest clients say nothing of theirs, and the liars set a tiny median.
    api = federation.api
    strategy = federation.strategy("Krum", 8)
    federation.configure(strategy, MODEL, range(1, 20))
    counts = {c: 1e-300 if c <= 8 else 10 if c <= 15 else None for c in range(1, 20)}
    if federation.names_arrays:
        replies = [
            api.reply(c, MODEL, examples=[1, 2] if count is None else count)
            for c, count in counts.items()
        ]
        strategy.aggregate_train(1, replies)
    else:
        results = [(FakeProxy(str(c)), api.result(MODEL, count)) for c, count in counts.items()]
        strategy.aggregate_fit(1, results, [])
    assert not any("the median is" in doubt for doubt in strategy.last_report.doubted.values())


@pytest.mark.parametrize("in_memory", [True, False])
def test_of_too_many_metrics_no_more_is_looked_at_than_is_legal(
    federation, tmp_path, monkeypatch, in_memory
):
    options = {}
    if not in_memory:  # then all of a reply is weighed, up to a MiB
        monkeypatch.setattr("flwr_krum.boundary.spill.memory_behind", lambda folder: "")
        options = {"memory": 10**6, "spill": tmp_path}
    flood = {f"m{i}": 1.0 for i in range(100_000)}
    played = Round(federation, 20, 8, **options)
    report = played.train(lambda c: flood if c <= 8 else {"auc": 0.5})
    looked_at = max(played.sent[c].looked_at for c in range(1, 9))
    if in_memory:
        expected = f"more than {MOST_METRICS} metrics: none is read"
        assert report.doubted == {federation.name(c): expected for c in range(1, 9)}
        assert report.dropped == (
            "metric 'auc' dropped: 12 of 20 replies hold it as a number, at least 17 are needed",
        )
        assert 0 < looked_at <= MOST_METRICS + 1
    else:
        assert {r.client for r in report.refused} == {federation.name(c) for c in range(1, 9)}
        assert 0 < looked_at <= 2 * 2**20 / 64
    assert report.stepped


def test_long_names_and_long_lists_are_not_read_and_told(message_federation):
    report = Round(message_federation, 9, 2).train(
        lambda c: {
            1: {"loss": 0.5, "x" * 201: 1.0},
            2: {"loss": [0.5] * (MOST_NUMBERS + 1)},
        }.get(c, {"loss": 0.5})
    )
    assert report.metrics == {"loss": 0.5}
    assert report.doubted == {
        1: "a metric's name of more than 200 characters: none is read",
        2: "more than 10000 numbers in metrics: none is read",
    }


def test_as_much_as_the_caps_allow_is_read(message_federation):
    metrics = {f"m{i}": float(i) for i in range(MOST_METRICS - 2)} | {
        "x" * 200: [1.0] * (MOST_NUMBERS - MOST_METRICS + 1)
    }
    report = Round(message_federation, 5, 1).train(lambda c: metrics)
    assert report.doubted == {}
    assert report.metrics.keys() == metrics.keys()


@pytest.mark.parametrize("rule", ["Krum", "Medoid"])
@pytest.mark.parametrize("metrics", [{f"m{i}": 1.0 for i in range(50)}, {"z": 1.0}])
def test_what_f_clients_invent_is_not_named_as_dropped(federation, rule, metrics):
    played = Round(federation, 9, 2 if rule == "Krum" else None, rule)
    report = played.train(lambda c: metrics if c <= 2 else {"loss": 0.5})
    assert not any("'m" in line or "'z'" in line for line in report.dropped)
    assert [federation.name(c) for c in (1, 2)] == list(report.doubted)
