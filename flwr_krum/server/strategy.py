"""Krum and its kin as strategies of Flower's ``aggregate_fit`` API.

Paper: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine
Tolerant Gradient Descent", NIPS 2017. Each class takes the arguments of Flower's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from logging import INFO, WARNING
from pathlib import Path
from typing import TypedDict, Unpack

from flwr.common import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    MetricsAggregationFn,
    NDArrays,
    Parameters,
    Scalar,
)
from flwr.common.logger import log
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from flwr_krum import rules
from flwr_krum.boundary.intake import decode_model
from flwr_krum.boundary.messages import COUNT, claims_of, of_result
from flwr_krum.boundary.metrics import Metric
from flwr_krum.boundary.npy import SERIALIZATION
from flwr_krum.boundary.replies import ClientId, Reply, on_one_line
from flwr_krum.boundary.template import Keys
from flwr_krum.log import announce
from flwr_krum.report import RoundReport
from flwr_krum.round import LearningRate, OnInfeasible, RoundOptions, Rounds


class FedAvgOptions(TypedDict, total=False):
    """Arguments of Flower's FedAvg, passed on to it."""

    fraction_fit: float
    fraction_evaluate: float
    min_fit_clients: int
    min_evaluate_clients: int
    min_available_clients: int
    evaluate_fn: (
        Callable[[int, NDArrays, dict[str, Scalar]], tuple[float, dict[str, Scalar]] | None] | None
    )
    on_fit_config_fn: Callable[[int], dict[str, Scalar]] | None
    on_evaluate_config_fn: Callable[[int], dict[str, Scalar]] | None
    accept_failures: bool
    initial_parameters: Parameters | None
    fit_metrics_aggregation_fn: MetricsAggregationFn | None
    evaluate_metrics_aggregation_fn: MetricsAggregationFn | None


class Options(FedAvgOptions, RoundOptions, total=False):
    """Arguments that every strategy of this module shares; see RobustAggregation."""

    client_id: Callable[[ClientProxy], ClientId] | None


Failures = Sequence[tuple[ClientProxy, FitRes] | BaseException]


class RobustAggregation(FedAvg):
    """Aggregate the clients' models with a robust rule.

    Parameters
    ----------
    rule : flwr_krum.rules.Rule
        For example ``Krum(f=3)``.
    server_learning_rate : float or callable, round -> float (default: 1.0)
        ``x_{t+1} = x_t + rate(t) (aggregate - x_t)``.
    on_infeasible : "skip" | "raise" | "degrade" (default: "skip")
        When too few replies are left for the rule: keep the model, raise, or go on without the
        bound on f.
    quarantine : int (optional)
        Leave a client out of sampling after so many refused replies, as long as enough clients
        for the rule remain.
    journal : str or Path (optional)
        File that gets one JSON line per round, on the disk before the next one begins.
    rounds_done : int (default: 0)
        Go on after so many rounds, with that round's model as ``initial_parameters`` and the same
        journal: rounds count on from there, in every function of the round as well.
    device : str (default: "cpu")
        Where the arithmetic happens: "cpu" is the fastest way that is installed, "cpu:numpy" and
        "cpu:numba" name one, "cuda" is a GPU. The selection is the same.
    shared_keys : list of positions or callable, position -> bool (optional)
        The arrays that travel from the clients, in their order; the others stay as they are. By
        default all. Positions are texts here, "0" is the first: this API has no names.
    distance_keys : list of positions or callable, position -> bool (optional)
        The float arrays that distances are taken over; all are combined. By default all.
    max_reply_bytes : int (optional)
        A larger reply is refused unread; by default all numbers of the model in 64 bits and a MiB.
    client_id : callable, ClientProxy -> int or str (optional)
        The name under which a client is ordered and reported; by default its ``cid``.
    **options
        The arguments of Flower's FedAvg. Example counts never weigh a model. Without own
        functions metrics take a trimmed mean over clients.

    Attributes
    ----------
    reports : list of RoundReport
        One per round, the last ``flwr_krum.round.REPORTS_KEPT`` of them.
    """

    def __init__(
        self,
        rule: rules.Rule,
        *,
        server_learning_rate: LearningRate = 1.0,
        on_infeasible: OnInfeasible = "skip",
        quarantine: int | None = None,
        journal: str | Path | None = None,
        rounds_done: int = 0,
        device: str = "cpu",
        shared_keys: Keys | None = None,
        distance_keys: Keys | None = None,
        max_reply_bytes: int | None = None,
        client_id: Callable[[ClientProxy], ClientId] | None = None,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        super().__init__(**options)
        self._rounds = Rounds(
            rule,
            on_infeasible,
            server_learning_rate,
            quarantine,
            journal,
            rounds_done,
            device,
            COUNT,
            shared_keys,
            distance_keys,
            max_reply_bytes,
        )
        self._client_id = client_id or (lambda client: client.cid)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rule={self._rounds.rule!r})"

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

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Log the summary, which this API never asks for, and hand out the initial model."""
        self.summary()
        return super().initialize_parameters(client_manager)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Configure the next round of training and remember the global model."""
        current = server_round + self._rounds.rounds_done
        instructions = super().configure_fit(current, parameters, client_manager)
        names = [self._client_id(client) for client, _ in instructions]
        left_out = self._rounds.begin(decode_model(_by_position(parameters)), names)
        return [i for i, name in zip(instructions, names, strict=True) if name not in left_out]

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[tuple[ClientProxy, FitRes] | BaseException],
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Aggregate the clients' models with the rule; None keeps the global model."""
        if not (results or failures or self._rounds.asked):
            return None, {}
        if failures and not self.accept_failures:
            return None, {}
        most = self._rounds.most_bytes
        replies = [of_result(self._client_id(client), result, most) for client, result in results]
        model, report = self._rounds.finish(
            server_round + self._rounds.rounds_done, replies, self._failed(failures)
        )
        announce(report)
        accepted = set(report.received)
        heard = [result for client, result in results if self._client_id(client) in accepted]
        metrics = self._metrics(self.fit_metrics_aggregation_fn, heard, report.metrics)
        metrics.update(_outcome(report))
        if model is None:
            return None, metrics
        return Parameters(list(model.values()), SERIALIZATION), metrics

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        """Evaluate the model on the server."""
        return super().evaluate(server_round + self._rounds.rounds_done, parameters)

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Configure the next round of federated evaluation."""
        current = server_round + self._rounds.rounds_done
        return super().configure_evaluate(current, parameters, client_manager)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Aggregate losses and metrics of federated evaluation by trimmed means over clients."""
        if not results or (failures and not self.accept_failures):
            return None, {}
        replies = [
            Reply(self._client_id(client), None, metrics=claims_of(result) | {"loss": result.loss})
            for client, result in results
        ]
        claimed = self._rounds.examine(replies, [reply.client for reply in replies])
        for line in claimed.lines():
            log(WARNING, "\t> %s", line)
        means = claimed.metrics
        loss = means.pop("loss", None)
        heard = [result for _, result in results]
        metrics = self._metrics(self.evaluate_metrics_aggregation_fn, heard, means)
        return loss if isinstance(loss, float) else None, metrics

    def _failed(self, failures: Failures) -> dict[ClientId, str]:
        """Name the failures: by client where Flower says which, else by number."""
        failed: dict[ClientId, str] = {}
        for number, failure in enumerate(failures, 1):
            if isinstance(failure, BaseException):
                failed[f"failure {number}"] = on_one_line(failure)
            else:
                client, result = failure
                failed[self._client_id(client)] = on_one_line(result.status.message)
        return failed

    def _metrics(
        self,
        own: MetricsAggregationFn | None,
        results: Sequence[FitRes | EvaluateRes],
        means: Mapping[str, Metric],
    ) -> dict[str, Scalar]:
        """Return the trimmed means, or what the operator's own function makes of the results."""
        if own is None or not results:
            return {key: mean for key, mean in means.items() if not isinstance(mean, list)}
        try:
            return dict(own([(result.num_examples, result.metrics) for result in results]))
        except Exception as error:
            # It met what a client made up; the round must go on.
            log(WARNING, "metrics were not aggregated: %s: %s", type(error).__name__, error)
            return {}


class Krum(RobustAggregation):
    """Krum, or Multi-Krum where ``num_clients_to_keep`` is set, as Flower's own class.

    Parameters
    ----------
    num_malicious_clients : int (default: 0)
        f, the Byzantine clients to tolerate; a round needs ``2f + 2 < n`` replies.
    num_clients_to_keep : int (default: 0)
        0 is Krum; m >= 1 averages the m models of best score.
    **options
        As for RobustAggregation.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int = 0,
        num_clients_to_keep: int = 0,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.Krum(num_malicious_clients)
        if num_clients_to_keep != 0:
            rule = rules.MultiKrum(num_malicious_clients, num_clients_to_keep)
        super().__init__(rule, **options)


class MultiKrum(RobustAggregation):
    """Multi-Krum: the unweighted mean of the m models of best Krum score.

    Parameters
    ----------
    num_malicious_clients : int (default: 0)
        f, the Byzantine clients to tolerate; a round needs ``2f + 2 < n`` replies.
    num_clients_to_keep : int (optional)
        m; by default n - f, and never more than that.
    **options
        As for RobustAggregation.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int = 0,
        num_clients_to_keep: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.MultiKrum(num_malicious_clients, num_clients_to_keep), **options)


class Medoid(RobustAggregation):
    """Medoid: the model with the smallest sum of distances to all others; needs no f.

    Parameters
    ----------
    **options
        As for RobustAggregation.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(rules.Medoid(), **options)


class OneMinusPKrum(RobustAggregation):
    """1-p Krum: the average of all with probability p, by default 1/sqrt(round), else Krum.

    Parameters
    ----------
    num_malicious_clients : int (default: 0)
        f, the Byzantine clients to tolerate; a round needs ``2f + 2 < n`` replies.
    p : float or callable, round -> float (default: 1/sqrt(round))
        The probability of averaging.
    seed : int (default: 0)
        Seed of the draws: (seed, round) decide each one.
    **options
        As for RobustAggregation.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int = 0,
        p: float | Callable[[int], float] = rules.inverse_square_root,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.OneMinusPKrum(num_malicious_clients, p, seed), **options)


def _outcome(report: RoundReport) -> dict[str, Scalar]:
    """Return who was selected and refused; this API's metrics are single values."""
    return {
        "accepted": len(report.received),
        "refused": len(report.refused),
        "selected-clients": ",".join(map(str, report.selected)),
        "refused-clients": ",".join(str(refused.client) for refused in report.refused),
        **report.guarantee_metrics(),
    }


def _by_position(parameters: Parameters) -> dict[str, bytes]:
    return {str(position): tensor for position, tensor in enumerate(parameters.tensors)}
