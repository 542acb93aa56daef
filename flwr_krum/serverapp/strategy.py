"""Robust rules as strategies of Flower's Message API (``aggregate_train``).

Paper: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine
Tolerant Gradient Descent", NIPS 2017. Each class takes the arguments of Flower's own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from logging import INFO
from typing import Any, Unpack, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from flwr_krum import rules
from flwr_krum.arguments import split_options
from flwr_krum.boundary.arrivals import ArrivingGrid, arriving
from flwr_krum.boundary.intake import decode_model
from flwr_krum.boundary.messages import of_message
from flwr_krum.boundary.metrics import Metric
from flwr_krum.boundary.nodes import SteadyNodes
from flwr_krum.boundary.questions import Questions
from flwr_krum.boundary.records import record_of
from flwr_krum.boundary.replies import ClientId, Reply, on_one_line
from flwr_krum.report import RoundReport
from flwr_krum.settings import RoundOptions
from flwr_krum.strategy import RobustStrategy, own_metrics

MetricsFunction = Callable[[list[RecordDict], str], MetricRecord]


class FedAvgOptions(RoundOptions, total=False):
    """Arguments that are handed on: to Flower's FedAvg, and to the rounds."""

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


def _node_id(node: int) -> ClientId:
    return node


class Options(FedAvgOptions, total=False):
    """Arguments that every strategy of this module shares; see RobustAggregation."""

    client_id: Callable[[int], ClientId] | None


class RobustAggregation(RobustStrategy, FedAvg):
    """Aggregate the clients' models with a robust rule.

    Parameters
    ----------
    rule : flwr_krum.rules.Rule
        For example ``Krum(f=3)``.
    *sampling
        Flower's ``fraction_train``, ``fraction_evaluate``, ``min_train_nodes``,
        ``min_evaluate_nodes``, ``min_available_nodes``, by position or by keyword.
    client_id : callable, node id -> int or str (optional)
        The name under which a node is ordered and reported; by default its node id.
    weighted_by_key : str (default: "num-examples")
        The metric that is a client's example count; it never weighs a model.
    train_metrics_aggr_fn : callable, (list of RecordDict, str) -> MetricRecord (optional)
        What to make of the metrics of training; by default a trimmed mean over clients.
    evaluate_metrics_aggr_fn : callable, (list of RecordDict, str) -> MetricRecord (optional)
        The same for those of evaluation.
    **options
        The other parameters below.
    """

    _own_id = staticmethod(_node_id)
    _SAMPLING = ("fraction_train", "min_train_nodes", "min_available_nodes")

    def __init__(
        self,
        rule: rules.Rule,
        *sampling: Any,
        client_id: Callable[[int], ClientId] | None = None,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        if len(sampling) > 5:
            raise TypeError(f"{len(sampling)} arguments by position, at most 5; name the others")
        of_rounds, of_flower = split_options(type(self), options)
        super().__init__(*sampling, **of_flower)
        self._own_train_metrics = options.get("train_metrics_aggr_fn")
        self._own_evaluate_metrics = options.get("evaluate_metrics_aggr_fn")
        self._set_up(rule, client_id, self.weighted_by_key, of_rounds)

    def summary(self) -> None:
        """Log the settings as a small tree."""
        RobustStrategy.summary(self)
        FedAvg.summary(self)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds as Flower does, and say at the end what they come to.

        Takes the arguments of Flower's own. A round is over after ``timeout`` seconds, with all
        replies that came: the grid is used through an `ArrivingGrid`. Rounds count on from
        ``rounds_done``, and from those of an earlier start, also for ``evaluate_fn``. Where no
        round moves the model, the result is the initial one.

        Raises
        ------
        UndecodableError
            If the initial model cannot be read.
        """
        decode_model({key: array.data for key, array in initial_arrays.items()})
        self._rounds.go_on()
        self._connected = len(list(grid.get_node_ids()))

        def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            return evaluate_fn(self._current(server_round), arrays) if evaluate_fn else None

        own = None if evaluate_fn is None else evaluate
        configs = (train_config, evaluate_config)
        reached = arriving(grid, self._rounds.kept_by, self._rounds.lane)
        result = super().start(reached, initial_arrays, num_rounds, timeout, *configs, own)
        if not result.arrays:
            result.arrays = initial_arrays
        for line in self._rounds.conclusion():
            log(INFO, line)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training and remember the global model.

        Raises
        ------
        ValueError
            If a quorum is to close the round, and the grid is no `ArrivingGrid`.
        """
        if self._rounds.quorum is not None and not isinstance(grid, ArrivingGrid):
            raise ValueError(
                f"quorum is set, and {type(grid).__name__} waits for all: ask through "
                "flwr_krum.boundary.arrivals.ArrivingGrid(grid), as start does"
            )
        current = self._current(server_round)
        steady = self._steady(grid, self.min_train_nodes)
        messages = list(super().configure_train(current, arrays, config, steady))
        names = [self._name(message.metadata.dst_node_id) for message in messages]
        model = decode_model({key: arrays[key].data for key in arrays})
        left_out = self._rounds.begin(model, names)
        asked = [m for m, name in zip(messages, names, strict=True) if name not in left_out]
        hooks = {"told": self._take} if self._rounds.early else {}
        self._arrivals = self._noted(len(names), len(asked), kind_of=self._kind_of, **hooks)
        return Questions(asked, self._arrivals)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the replies' arrays with the rule; None keeps the global model."""
        answered, failed = self._sort(replies, "aggregate_train")
        finished = self._finish(server_round, self._taken(answered), failed)
        if finished is None:
            return None, None
        model, report = finished
        accepted = set(report.received)
        contents = [message.content for client, message in answered if client in accepted]
        metrics = self._metrics(self._own_train_metrics, contents, report.metrics)
        metrics.update(_outcome(report))
        return None if model is None else record_of(model), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of federated evaluation."""
        steady = self._steady(grid, self.min_evaluate_nodes)
        current = self._current(server_round)
        messages = list(super().configure_evaluate(current, arrays, config, steady))
        asked = [m for m in messages if not self._rounds.bars(self._name(m.metadata.dst_node_id))]
        self._arrivals = self._noted(len(messages), len(asked))
        return Questions(asked, self._arrivals)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the metrics of federated evaluation by trimmed means over the nodes."""
        answered, failed = self._sort(replies, "aggregate_evaluate")
        means = self._examine(self._taken(answered), failed)
        if not answered:
            return None
        contents = [message.content for _, message in answered]
        return self._metrics(self._own_evaluate_metrics, contents, means)

    def _steady(self, grid: Grid, least: int) -> Grid:
        """Return a grid whose nodes do not change while Flower samples among them."""
        return cast(Grid, SteadyNodes(grid, max(self.min_available_nodes, least)))

    def _taken(self, answered: Iterable[tuple[ClientId, Message]]) -> list[Reply]:
        most = self._rounds.limits
        return [of_message(client, message, most) for client, message in answered]

    def _kind_of(self, message: Message) -> Hashable | None:
        """Return what a reply counts as towards the quorum."""
        return self._rounds.kind_of(self._reply(message))

    def _take(self, message: Message) -> None:
        """Begin with a reply while others are on their way."""
        self._rounds.take(self._reply(message))

    def _reply(self, message: Message) -> Reply:
        client = self._name(message.metadata.src_node_id)
        return of_message(client, message, self._rounds.limits)

    def _sort(
        self, replies: Iterable[Message], step: str
    ) -> tuple[list[tuple[ClientId, Message]], dict[ClientId, str]]:
        """Part the replies that carry content from the errors, both by client id."""
        answered: list[tuple[ClientId, Message]] = []
        failed: dict[ClientId, str] = {}
        for message in replies:
            client = self._name(message.metadata.src_node_id)
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
        return MetricRecord(own_metrics(own, contents, self.weighted_by_key))


class Krum(RobustAggregation):
    """Krum: the model closest to its n - f - 2 nearest neighbours.

    Parameters
    ----------
    num_malicious_nodes : int (optional)
        f, the Byzantine nodes to tolerate; a round needs ``2f + 2 < n`` replies. Left out, as many
        as the rule tolerates among the replies of each round, (n - 3) // 2.
    *sampling, **options
        The other parameters below; Flower's five of sampling also by position.
    """

    def __init__(
        self, *sampling: Any, num_malicious_nodes: int | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(rules.Krum(num_malicious_nodes), *sampling, **options)


class MultiKrum(RobustAggregation):
    """Multi-Krum: the unweighted mean of the m models of best Krum score.

    Parameters
    ----------
    num_malicious_nodes : int (optional)
        f, the Byzantine nodes to tolerate; a round needs ``2f + 2 < n`` replies. Left out, as many
        as the rule tolerates among the replies of each round, (n - 3) // 2.
    num_nodes_to_select : int (optional)
        m; by default n - f, and never more than that.
    *sampling, **options
        The other parameters below; Flower's five of sampling also by position.
    """

    def __init__(
        self,
        *sampling: Any,
        num_malicious_nodes: int | None = None,
        num_nodes_to_select: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.MultiKrum(num_malicious_nodes, num_nodes_to_select)
        super().__init__(rule, *sampling, **options)


class Bulyan(RobustAggregation):
    """Bulyan: of the models that Krum selects, the values closest to the median, averaged.

    Krum selects one model after the other, as in the paper and in Flower's ``aggregate_fit``;
    Flower's own class of this API takes the n - 2f of best score at once.

    Parameters
    ----------
    num_malicious_nodes : int (optional)
        f, the Byzantine nodes to tolerate; a round needs ``4f + 3 <= n`` replies. Left out, as
        many as the rule tolerates among the replies of each round, (n - 3) // 4.
    selection_rule : None
        Flower's argument for another selection than Krum's, which is none of Bulyan's.
    *sampling, **options
        The other parameters below; Flower's five of sampling also by position.

    Raises
    ------
    ValueError
        If another selection is asked for than Krum's.
    """

    def __init__(
        self,
        *sampling: Any,
        num_malicious_nodes: int | None = None,
        selection_rule: None = None,
        **options: Unpack[Options],
    ) -> None:
        if selection_rule is not None:
            raise ValueError(f"Bulyan selects with Krum; selection_rule is {selection_rule!r}")
        super().__init__(rules.Bulyan(num_malicious_nodes), *sampling, **options)


class FedMedian(RobustAggregation):
    """FedMedian: the median of each coordinate, of an even number the mean of the middle two.

    It finds the model that Flower's own class finds. Of three or more that were asked, three must
    answer: of two replies a liar's could be one.

    Parameters
    ----------
    *sampling, **options
        The other parameters below; Flower's five of sampling also by position.
    """

    def __init__(self, *sampling: Any, **options: Unpack[Options]) -> None:
        super().__init__(rules.Median(), *sampling, **options)


class FedTrimmedAvg(RobustAggregation):
    """FedTrimmedAvg: the mean of each coordinate without the share beta at both ends.

    Of n replies ``floor(beta n)`` are cut at each end, as by Flower's own class, and so many liars
    are tolerated. A round in which nothing would be cut although something would be among those
    that were asked is infeasible: silence must not turn it into an average.

    Parameters
    ----------
    beta : float (default: 0.2)
        Share to cut at each end, ``0 < beta < 0.5``. Flower also takes 0, which is to average.
    *sampling, **options
        The other parameters below; Flower's five of sampling also by position.

    Raises
    ------
    ValueError
        If beta is illegal.
    """

    def __init__(self, *sampling: Any, beta: float = 0.2, **options: Unpack[Options]) -> None:
        super().__init__(rules.TrimmedMean(beta=beta), *sampling, **options)


class Medoid(RobustAggregation):
    """Medoid: the model with the smallest sum of distances to all others; needs no f.

    Parameters
    ----------
    *sampling, **options
        The other parameters below; Flower's five of sampling also by position.
    """

    def __init__(self, *sampling: Any, **options: Unpack[Options]) -> None:
        super().__init__(rules.Medoid(), *sampling, **options)


class OneMinusPKrum(RobustAggregation):
    """1-p Krum: the average of all with probability p, by default 1/sqrt(round), else Krum.

    Parameters
    ----------
    num_malicious_nodes : int (optional)
        f, the Byzantine nodes to tolerate; a round needs ``2f + 2 < n`` replies. Left out, as many
        as the rule tolerates among the replies of each round, (n - 3) // 2.
    p : float or callable, round -> float (default: 1/sqrt(round))
        The probability of averaging.
    seed : int (optional)
        Seed of the draws: (seed, round) decide each one. Left out, it is drawn, and kept in the
        journal: whoever knows it knows which rounds average.
    *sampling, **options
        The other parameters below; Flower's five of sampling also by position.
    """

    def __init__(
        self,
        *sampling: Any,
        num_malicious_nodes: int | None = None,
        p: float | Callable[[int], float] = rules.inverse_square_root,
        seed: int | None = None,
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
