"""Robust rules as strategies of Flower's ``aggregate_fit`` API.

Paper: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine
Tolerant Gradient Descent", NIPS 2017. Each class takes the arguments of Flower's own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from logging import WARNING
from typing import Unpack

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
from flwr.server.strategy.aggregate import aggregate_krum

from flwr_krum import rules
from flwr_krum.arguments import split_options
from flwr_krum.boundary.initial import ask_a_client, by_position
from flwr_krum.boundary.intake import decode_model
from flwr_krum.boundary.messages import COUNT, claims_of, of_result
from flwr_krum.boundary.metrics import Metric
from flwr_krum.boundary.npy import SERIALIZATION
from flwr_krum.boundary.proxies import (
    ClientFailureError,
    NoAnswerError,
    asked_together,
    unwrapped,
)
from flwr_krum.boundary.replies import ClientId, Reply, on_one_line
from flwr_krum.report import RoundReport
from flwr_krum.settings import RoundOptions
from flwr_krum.strategy import RobustStrategy, own_metrics


class FedAvgOptions(RoundOptions, total=False):
    """Arguments that are handed on: to Flower's FedAvg, and to the rounds."""

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


def _cid(client: ClientProxy) -> ClientId:
    return client.cid


class Options(FedAvgOptions, total=False):
    """Arguments that every strategy of this module shares; see RobustAggregation."""

    client_id: Callable[[ClientProxy], ClientId] | None
    trust_initial_client: bool


NO_INITIAL_MODEL = (
    "initial_parameters is None: one client would choose the model that all begin with; give "
    "initial_parameters=ndarrays_to_parameters(...), or trust_initial_client=True to ask a client"
)

Failures = Sequence[tuple[ClientProxy, FitRes | EvaluateRes] | BaseException]


class RobustAggregation(RobustStrategy, FedAvg):
    """Aggregate the clients' models with a robust rule.

    Parameters
    ----------
    rule : flwr_krum.rules.Rule
        For example ``Krum(f=3)``.
    client_id : callable, ClientProxy -> int or str (optional)
        The name under which a client is ordered and reported; by default its ``cid``.
    trust_initial_client : bool (default: False)
        Without ``initial_parameters``, take the initial model from a client, as Flower does: the
        first in random order whose model is finite, of float numbers and not beyond 1e6. One
        client then chooses what all begin with. By default the run does not start.
    initial_parameters : Parameters
        The model that all begin with.
    fit_metrics_aggregation_fn : callable, list of (examples, metrics) -> metrics (optional)
        What to make of the metrics of training; by default a trimmed mean over clients. Example
        counts never weigh a model.
    evaluate_metrics_aggregation_fn : callable, list of (examples, metrics) -> metrics (optional)
        The same for those of evaluation.
    inplace : bool (default: True)
        Flower's way to save memory in an average; without effect here.
    **options
        The other parameters below.
    """

    _own_id = staticmethod(_cid)
    _SAMPLING = ("fraction_fit", "min_fit_clients", "min_available_clients")

    def __init__(
        self,
        rule: rules.Rule,
        *,
        client_id: Callable[[ClientProxy], ClientId] | None = None,
        trust_initial_client: bool = False,
        **options: Unpack[FedAvgOptions],
    ) -> None:
        of_rounds, of_flower = split_options(type(self), options)
        super().__init__(**of_flower)
        self._trust_initial_client = trust_initial_client
        if of_rounds.get("lane"):
            raise ValueError(
                f"lane is {of_rounds['lane']!r}, and this API asks for each reply by itself: "
                "legal is False, or the strategy of this name in flwr_krum.serverapp"
            )
        self._set_up(rule, client_id, COUNT, of_rounds)
        if self._rounds.quorum is not None and not self.accept_failures:
            raise ValueError(
                "quorum leaves clients behind, and accept_failures=False takes no round in which "
                "one is missing: set one of them"
            )

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Log the summary, which this API never asks for, and hand out the initial model.

        A run begins: rounds count on from those of an earlier one of the same strategy.

        Raises
        ------
        ValueError
            If there is none and no client is trusted with it, or it cannot be decoded.
        """
        self._rounds.go_on()
        self._connected = client_manager.num_available()
        self.summary()
        initial = super().initialize_parameters(client_manager)
        if initial is None:
            if not self._trust_initial_client:
                raise ValueError(NO_INITIAL_MODEL)
            initial = ask_a_client(client_manager, self._name)
        decode_model(by_position(initial))
        return initial

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Configure the next round of training and remember the global model."""
        instructions = super().configure_fit(
            self._current(server_round), parameters, client_manager
        )
        names = [self._name(client) for client, _ in instructions]
        left_out = self._rounds.begin(decode_model(by_position(parameters)), names)
        pairs = zip(instructions, names, strict=True)
        asked = [pair for pair, name in pairs if name not in left_out]
        if left_out and not asked:  # Flower ends the round here, and it is to be reported
            self._finish(server_round, [], {})
        self._arrivals = self._noted(len(names), len(asked))
        told = self._take if self._rounds.early else None
        return asked_together(
            "fit", asked, self._arrivals, self._kind_of, self._rounds.kept_by, told
        )

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[tuple[ClientProxy, FitRes] | BaseException],
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Aggregate the clients' models with the rule; None keeps the global model."""
        most = self._rounds.limits
        named = [(self._name(client), result) for client, result in results]
        replies = [of_result(client, result, most) for client, result in named]
        failed = self._failed(failures)
        finished = self._finish(server_round, replies, failed, self._veto(failures))
        if finished is None:
            return None, {}
        model, report = finished
        accepted = set(report.received)
        heard = [result for client, result in named if client in accepted]
        metrics = self._metrics(self.fit_metrics_aggregation_fn, heard, report.metrics)
        metrics.update(_outcome(report))
        if model is None:
            return None, metrics
        return Parameters(list(model.values()), SERIALIZATION), metrics

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        """Evaluate the model on the server."""
        return super().evaluate(self._current(server_round), parameters)

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Configure the next round of federated evaluation."""
        instructions = super().configure_evaluate(
            self._current(server_round), parameters, client_manager
        )
        asked = [pair for pair in instructions if not self._rounds.bars(self._name(pair[0]))]
        self._arrivals = self._noted(len(instructions), len(asked))
        return asked_together("evaluate", asked, self._arrivals)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Aggregate losses and metrics of federated evaluation by trimmed means over clients."""
        replies = [
            Reply(self._name(client), None, metrics=claims_of(result) | {"loss": result.loss})
            for client, result in results
        ]
        means = self._examine(replies, self._failed(failures))
        if veto := self._veto(failures):
            log(WARNING, "\t> %s", veto)
        if veto or not results:
            return None, {}
        loss = means.pop("loss", None)
        heard = [result for _, result in results]
        metrics = self._metrics(self.evaluate_metrics_aggregation_fn, heard, means)
        return loss if isinstance(loss, float) else None, metrics

    def _name(self, client: ClientProxy) -> ClientId:
        return super()._name(unwrapped(client))

    def _kind_of(self, client: ClientProxy, result: FitRes) -> Hashable | None:
        """Return what a result counts as towards the quorum."""
        return self._rounds.kind_of(self._reply(client, result))

    def _take(self, client: ClientProxy, result: FitRes) -> None:
        """Begin with a result while others are on their way."""
        self._rounds.take(self._reply(client, result))

    def _reply(self, client: ClientProxy, result: FitRes) -> Reply:
        return of_result(self._name(client), result, self._rounds.limits)

    def _veto(self, failures: Failures) -> str:
        """Say why a step with these failures is not to count; empty if it is."""
        if self.accept_failures or not failures:
            return ""
        return f"{len(failures)} of those who were asked failed, and accept_failures is False"

    def _failed(self, failures: Failures) -> dict[ClientId, str]:
        """Name the failures: by client where it is known, else by number.

        Who has not answered in time has not failed: it is silent.
        """
        failed: dict[ClientId, str] = {}
        for number, failure in enumerate(failures, 1):
            if isinstance(failure, ClientFailureError):
                if not isinstance(failure, NoAnswerError):
                    failed[self._name(failure.client)] = on_one_line(failure)
            elif isinstance(failure, BaseException):
                failed[f"failure {number}"] = on_one_line(failure)
            else:
                client, result = failure
                failed[self._name(client)] = on_one_line(result.status.message)
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
        return own_metrics(own, [(result.num_examples, result.metrics) for result in results])


class Krum(RobustAggregation):
    """Krum, or Multi-Krum where ``num_clients_to_keep`` is set, as Flower's own class.

    Parameters
    ----------
    num_malicious_clients : int (optional)
        f, the Byzantine clients to tolerate; a round needs ``2f + 2 < n`` replies. Left out,
        as many as the rule tolerates among the replies of each round, (n - 3) // 2.
    num_clients_to_keep : int (default: 0)
        0 is Krum; m >= 1 averages the m models of best score.
    **options
        The other parameters below.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int | None = None,
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
    num_malicious_clients : int (optional)
        f, the Byzantine clients to tolerate; a round needs ``2f + 2 < n`` replies. Left out,
        as many as the rule tolerates among the replies of each round, (n - 3) // 2.
    num_clients_to_keep : int (optional)
        m; by default n - f, and never more than that.
    **options
        The other parameters below.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int | None = None,
        num_clients_to_keep: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.MultiKrum(num_malicious_clients, num_clients_to_keep), **options)


class Bulyan(RobustAggregation):
    """Bulyan: of the models that Krum selects, the values closest to the median, averaged.

    It finds the model that Flower's own class of this API finds.

    Parameters
    ----------
    num_malicious_clients : int (optional)
        f, the Byzantine clients to tolerate; a round needs ``4f + 3 <= n`` replies. Left out, as
        many as the rule tolerates among the replies of each round, (n - 3) // 4.
    first_aggregation_rule : callable (default: Flower's aggregate_krum)
        Flower's own knows no other either.
    to_keep : int (default: 0)
        Flower's argument of that function; 0 is Krum.
    **options
        The other parameters below.

    Raises
    ------
    ValueError
        If another selection is asked for than Krum's.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int | None = None,
        first_aggregation_rule: Callable[..., NDArrays] = aggregate_krum,
        to_keep: int = 0,
        **options: Unpack[Options],
    ) -> None:
        if first_aggregation_rule is not aggregate_krum or to_keep != 0:
            raise ValueError(
                "Bulyan selects with Krum, first_aggregation_rule=aggregate_krum and to_keep=0; "
                f"got {first_aggregation_rule!r} and {to_keep!r}"
            )
        super().__init__(rules.Bulyan(num_malicious_clients), **options)


class FedMedian(RobustAggregation):
    """FedMedian: the median of each coordinate, of an even number the mean of the middle two.

    It finds the model that Flower's own class finds. Of three or more that were asked, three must
    answer: of two replies a liar's could be one.

    Parameters
    ----------
    **options
        The other parameters below.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(rules.Median(), **options)


class FedTrimmedAvg(RobustAggregation):
    """FedTrimmedAvg: the mean of each coordinate without the share beta at both ends.

    Of n replies ``floor(beta n)`` are cut at each end, as by Flower's own class, and so many liars
    are tolerated. A round in which nothing would be cut although something would be among those
    that were asked is infeasible: silence must not turn it into an average.

    Parameters
    ----------
    beta : float (default: 0.2)
        Share to cut at each end, ``0 < beta < 0.5``. Flower also takes 0, which is to average.
    **options
        The other parameters below.

    Raises
    ------
    ValueError
        If beta is illegal.
    """

    def __init__(self, *, beta: float = 0.2, **options: Unpack[Options]) -> None:
        super().__init__(rules.TrimmedMean(beta=beta), **options)


class Medoid(RobustAggregation):
    """Medoid: the model with the smallest sum of distances to all others; needs no f.

    Parameters
    ----------
    **options
        The other parameters below.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(rules.Medoid(), **options)


class OneMinusPKrum(RobustAggregation):
    """1-p Krum: the average of all with probability p, by default 1/sqrt(round), else Krum.

    Parameters
    ----------
    num_malicious_clients : int (optional)
        f, the Byzantine clients to tolerate; a round needs ``2f + 2 < n`` replies. Left out,
        as many as the rule tolerates among the replies of each round, (n - 3) // 2.
    p : float or callable, round -> float (default: 1/sqrt(round))
        The probability of averaging.
    seed : int (optional)
        Seed of the draws: (seed, round) decide each one. Left out, it is drawn, and kept in the
        journal: whoever knows it knows which rounds average.
    **options
        The other parameters below.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: int | None = None,
        p: float | Callable[[int], float] = rules.inverse_square_root,
        seed: int | None = None,
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
