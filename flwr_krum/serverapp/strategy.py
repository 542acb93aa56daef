"""Krum and its kin as strategies of Flower's Message API (``aggregate_train``).

Paper: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine
Tolerant Gradient Descent", NIPS 2017. Each class takes the arguments of Flower's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from logging import INFO, WARNING
from pathlib import Path
from typing import Any, TypedDict, Unpack

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from flwr_krum import rules
from flwr_krum.boundary.intake import decode_model
from flwr_krum.boundary.messages import of_message
from flwr_krum.boundary.metrics import Metric
from flwr_krum.boundary.records import record_of
from flwr_krum.boundary.replies import ClientId, Reply, on_one_line
from flwr_krum.boundary.template import Keys
from flwr_krum.log import announce
from flwr_krum.report import RoundReport
from flwr_krum.round import LearningRate, OnInfeasible, RoundOptions, Rounds

MetricsFunction = Callable[[list[RecordDict], str], MetricRecord]


class FedAvgOptions(TypedDict, total=False):
    """Arguments of Flower's FedAvg, passed on to it."""

    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_evaluate_nodes: int
    min_available_nodes: int
    weighted_by_key: str
    arrayrecord_key: str
    configrecord_key: str
    train_metrics_aggr_fn: MetricsFunction | None
    evaluate_metrics_aggr_fn: MetricsFunction | None


class Options(FedAvgOptions, RoundOptions, total=False):
    """Arguments that every strategy of this module shares; see RobustAggregation."""

    client_id: Callable[[int], ClientId] | None


class RobustAggregation(FedAvg):
    """Aggregate the clients' models with a robust rule.

    Parameters
    ----------
    rule : flwr_krum.rules.Rule
        For example ``Krum(f=3)``.
    *sampling
        Flower's ``fraction_train``, ``fraction_evaluate``, ``min_train_nodes``,
        ``min_evaluate_nodes``, ``min_available_nodes``, by position or by keyword.
    server_learning_rate : float or callable, round -> float (default: 1.0)
        ``x_{t+1} = x_t + rate(t) (aggregate - x_t)``.
    on_infeasible : "skip" | "raise" | "degrade" (default: "skip")
        When too few replies are left for the rule: keep the model, raise, or go on without the
        bound on f.
    quarantine : int (optional)
        Leave a node out of sampling after so many refused replies, as long as enough nodes for
        the rule remain.
    journal : str or Path (optional)
        File that gets one JSON line per round, on the disk before the next one begins.
    rounds_done : int (default: 0)
        Go on after so many rounds, with that round's model as ``initial_arrays`` and the same
        journal: rounds count on from there, in what the nodes are sent as well.
    device : str (default: "cpu")
        Where the arithmetic happens: "cpu" is the fastest way that is installed, "cpu:numpy" and
        "cpu:numba" name one, "cuda" is a GPU. The selection is the same.
    shared_keys : list of keys or callable, key -> bool (optional)
        The arrays that travel from the nodes; the others stay as they are. By default all, or the
        subset of the model's keys that the replies agree on.
    distance_keys : list of keys or callable, key -> bool (optional)
        The float arrays that distances are taken over; all are combined. By default all.
    max_reply_bytes : int (optional)
        A larger reply is refused unread; by default all numbers of the model in 64 bits and a MiB.
    client_id : callable, node id -> int or str (optional)
        The name under which a node is ordered and reported; by default its node id.
    **options
        Flower's other arguments: ``weighted_by_key``, ``arrayrecord_key``, ``configrecord_key``,
        ``train_metrics_aggr_fn``, ``evaluate_metrics_aggr_fn``. Example counts never weigh a
        model. Without own functions metrics take a trimmed mean over clients.

    Attributes
    ----------
    reports : list of RoundReport
        One per round, the last ``flwr_krum.round.REPORTS_KEPT`` of them.
    """

    def __init__(
        self,
        rule: rules.Rule,
        *sampling: Any,
        server_learning_rate: LearningRate = 1.0,
        on_infeasible: OnInfeasible = "skip",
        quarantine: int | None = None,
        journal: str | Path | None = None,
        rounds_done: int = 0,
        device: str = "cpu",
        shared_keys: Keys | None = None,
        distance_keys: Keys | None = None,
        max_reply_bytes: int | None = None,
        client_id: Callable[[int], ClientId] | None = None,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        if len(sampling) > 5:
            raise TypeError(f"{len(sampling)} arguments by position, at most 5; name the others")
        super().__init__(*sampling, **options)
        self._own_train_metrics = options.get("train_metrics_aggr_fn")
        self._own_evaluate_metrics = options.get("evaluate_metrics_aggr_fn")
        self._client_id = client_id or (lambda node_id: node_id)
        self._rounds = Rounds(
            rule,
            on_infeasible,
            server_learning_rate,
            quarantine,
            journal,
            rounds_done,
            device,
            self.weighted_by_key,
            shared_keys,
            distance_keys,
            max_reply_bytes,
        )

    @property
    def reports(self) -> list[RoundReport]:
        """What each round did, oldest first."""
        return list(self._rounds.reports)

    @property
    def last_report(self) -> RoundReport | None:
        """What the last round did; None before the first."""
        return self._rounds.reports[-1] if self._rounds.reports else None

    def summary(self) -> None:
        """Log the settings as a small tree."""
        for line in self._rounds.summary(type(self).__name__):
            log(INFO, line)
        super().summary()

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run the rounds as Flower does, and say at the end what they come to."""
        result = super().start(*args, **kwargs)
        for line in self._rounds.conclusion():
            log(INFO, line)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training and remember the global model."""
        current = server_round + self._rounds.rounds_done
        messages = list(super().configure_train(current, arrays, config, grid))
        names = [self._client_id(message.metadata.dst_node_id) for message in messages]
        model = decode_model({key: arrays[key].data for key in arrays})
        left_out = self._rounds.begin(model, names)
        return [m for m, name in zip(messages, names, strict=True) if name not in left_out]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the replies' arrays with the rule; None keeps the global model."""
        answered, failed = self._sort(replies, "aggregate_train")
        if not (answered or failed or self._rounds.asked):
            return None, None
        taken = self._taken(answered)
        model, report = self._rounds.finish(server_round + self._rounds.rounds_done, taken, failed)
        announce(report)
        accepted = set(report.received)
        contents = [message.content for client, message in answered if client in accepted]
        metrics = self._metrics(self._own_train_metrics, contents, report.metrics)
        metrics.update(_outcome(report))
        if model is None:
            return None, metrics
        return record_of(model), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of federated evaluation."""
        current = server_round + self._rounds.rounds_done
        return super().configure_evaluate(current, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the metrics of federated evaluation by trimmed means over the nodes."""
        answered, _ = self._sort(replies, "aggregate_evaluate")
        if not answered:
            return None
        taken = self._taken(answered)
        claimed = self._rounds.examine(taken, [reply.client for reply in taken])
        for line in claimed.lines():
            log(WARNING, "\t> %s", line)
        contents = [message.content for _, message in answered]
        return self._metrics(self._own_evaluate_metrics, contents, claimed.metrics)

    def _taken(self, answered: Iterable[tuple[ClientId, Message]]) -> list[Reply]:
        most = self._rounds.most_bytes
        return [of_message(client, message, most) for client, message in answered]

    def _sort(
        self, replies: Iterable[Message], step: str
    ) -> tuple[list[tuple[ClientId, Message]], dict[ClientId, str]]:
        """Part the replies that carry content from the errors, both by client id."""
        answered: list[tuple[ClientId, Message]] = []
        failed: dict[ClientId, str] = {}
        for message in replies:
            client = self._client_id(message.metadata.src_node_id)
            if message.has_error():
                failed[client] = on_one_line(message.error.reason)
            else:
                answered.append((client, message))
        log(INFO, "%s: Received %s results and %s failures", step, len(answered), len(failed))
        return answered, failed

    def _metrics(
        self,
        own: MetricsFunction | None,
        contents: list[RecordDict],
        means: Mapping[str, Metric],
    ) -> MetricRecord:
        """Return the trimmed means, or what the operator's own function makes of the replies."""
        if own is None or not contents:
            return MetricRecord(dict(means))
        try:
            return MetricRecord(dict(own(contents, self.weighted_by_key)))
        except Exception as error:
            # It met what a client made up; the round must go on.
            log(WARNING, "metrics were not aggregated: %s: %s", type(error).__name__, error)
            return MetricRecord()


class Krum(RobustAggregation):
    """Krum: the model closest to its n - f - 2 nearest neighbours.

    Parameters
    ----------
    num_malicious_nodes : int (default: 0)
        f, the Byzantine nodes to tolerate; a round needs ``2f + 2 < n`` replies.
    *sampling, **options
        As for RobustAggregation.
    """

    def __init__(
        self, *sampling: Any, num_malicious_nodes: int = 0, **options: Unpack[Options]
    ) -> None:
        super().__init__(rules.Krum(num_malicious_nodes), *sampling, **options)


class MultiKrum(RobustAggregation):
    """Multi-Krum: the unweighted mean of the m models of best Krum score.

    Parameters
    ----------
    num_malicious_nodes : int (default: 0)
        f, the Byzantine nodes to tolerate; a round needs ``2f + 2 < n`` replies.
    num_nodes_to_select : int (optional)
        m; by default n - f, and never more than that.
    *sampling, **options
        As for RobustAggregation.
    """

    def __init__(
        self,
        *sampling: Any,
        num_malicious_nodes: int = 0,
        num_nodes_to_select: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.MultiKrum(num_malicious_nodes, num_nodes_to_select)
        super().__init__(rule, *sampling, **options)


class Medoid(RobustAggregation):
    """Medoid: the model with the smallest sum of distances to all others; needs no f.

    Parameters
    ----------
    *sampling, **options
        As for RobustAggregation.
    """

    def __init__(self, *sampling: Any, **options: Unpack[Options]) -> None:
        super().__init__(rules.Medoid(), *sampling, **options)


class OneMinusPKrum(RobustAggregation):
    """1-p Krum: the average of all with probability p, by default 1/sqrt(round), else Krum.

    Parameters
    ----------
    num_malicious_nodes : int (default: 0)
        f, the Byzantine nodes to tolerate; a round needs ``2f + 2 < n`` replies.
    p : float or callable, round -> float (default: 1/sqrt(round))
        The probability of averaging.
    seed : int (default: 0)
        Seed of the draws: (seed, round) decide each one.
    *sampling, **options
        As for RobustAggregation.
    """

    def __init__(
        self,
        *sampling: Any,
        num_malicious_nodes: int = 0,
        p: float | Callable[[int], float] = rules.inverse_square_root,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.OneMinusPKrum(num_malicious_nodes, p, seed), *sampling, **options)


def _outcome(report: RoundReport) -> dict[str, float | list[int]]:
    """Return who was selected and refused, as far as a MetricRecord can carry it."""
    refused = [refused.client for refused in report.refused]
    outcome: dict[str, float | list[int]] = {
        "accepted": len(report.received),
        "refused": len(report.refused),
        **report.guarantee_metrics(),
    }
    for name, clients in (("selected-nodes", report.selected), ("refused-nodes", refused)):
        # A MetricRecord holds numbers only: nodes with a name of their own are counted, not named.
        if all(isinstance(client, int) for client in clients):
            outcome[name] = [int(client) for client in clients]
    return outcome
