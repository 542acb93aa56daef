"""Clients of ``aggregate_fit`` that are asked together, and whose failures bear their names.

Flower asks each client from a thread of a pool that may be smaller than the round, waits for every
one of them, and hands on what went wrong without saying with whom.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Literal, TypeAlias, TypeVar

from flwr.app import Message
from flwr.common import (
    Code,
    DisconnectRes,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    ReconnectIns,
)
from flwr.server.client_proxy import ClientProxy
from flwr.serverapp import Grid

from flwr_krum.boundary.arrivals import ArrivingGrid
from flwr_krum.boundary.messages import LetGo
from flwr_krum.boundary.questions import Arrivals, Questions
from flwr_krum.boundary.spill import Spill

ROUND_TIMEOUT = 3600.0
"""Seconds for which a round without a timeout of its own waits, as in Flower's Message API."""

Step: TypeAlias = Literal["fit", "evaluate"]
_Instruction = TypeVar("_Instruction", FitIns, EvaluateIns)

KindOfAnswer: TypeAlias = Callable[[ClientProxy, Any], Hashable | None]
"""What a client's answer counts as towards a quorum; None is not at all."""

Told: TypeAlias = Callable[[ClientProxy, Any], None]
"""Is told of a client's answer as it comes, while others are on their way."""


class ClientFailureError(Exception):
    """A client has failed; the text says how."""

    def __init__(self, client: ClientProxy, reason: str) -> None:
        super().__init__(reason)
        self.client = client


class NoAnswerError(ClientFailureError):
    """A client has not answered in time."""

    def __init__(self, client: ClientProxy) -> None:
        super().__init__(client, "no answer in time")


def asked_together(
    step: Step,
    instructions: Sequence[tuple[ClientProxy, _Instruction]],
    arrivals: Arrivals | None = None,
    kind_of: KindOfAnswer | None = None,
    spill: Spill | None = None,
    told: Told | None = None,
) -> list[tuple[ClientProxy, _Instruction]]:
    """Have the clients of a step answer within one and the same timeout, and fail by name.

    Those that Flower reaches through a grid are asked in one exchange, as soon as the first of
    them is; so it does not matter how many threads Flower asks them from. Others are asked as
    Flower does it, each for the timeout at most.

    Parameters
    ----------
    step : "fit" | "evaluate"
    instructions : sequence of (client, instruction)
    arrivals : Arrivals, optional
        Gets the notes of the exchange; its quorum closes it.
    kind_of : callable, (client, answer) -> hashable or None
        Tells answers apart for the quorum; by default all that can be read are alike.
    spill : Spill, optional
        Where what they send goes that does not fit into memory.
    told : callable, (client, answer) -> None, optional
        Of the answers of clients that Flower reaches through a grid.

    Raises
    ------
    ValueError
        If there is a quorum and Flower reaches a client otherwise than through a grid.
    """
    notes = arrivals or Arrivals()
    joint = _JointStep(step, instructions, notes, kind_of or _alike, spill, told)
    return [(_Asked(client, joint), instruction) for client, instruction in instructions]


def unwrapped(client: ClientProxy) -> ClientProxy:
    """Return the client that the operator's client manager knows."""
    return client.client if isinstance(client, _Asked) else client


def _alike(_: ClientProxy, __: Any) -> Hashable:
    return "an answer"


class _JointStep:
    """One step of a round with all its clients."""

    def __init__(
        self,
        step: Step,
        instructions: Sequence[tuple[ClientProxy, Any]],
        arrivals: Arrivals,
        kind_of: KindOfAnswer,
        spill: Spill | None,
        told: Told | None,
    ) -> None:
        self._step = step
        self._clients = [client for client, _ in instructions if _has_grid(client)]
        self._ins = {client.cid: ins for client, ins in instructions}
        self._arrivals = arrivals
        self._kind_of = kind_of
        self._spill = spill
        self._told = told
        self._lock = Lock()
        self._outcomes: dict[str, Any] | None = None
        self._read: dict[str, Any] = {}
        self._stop: BaseException | None = None
        if told is not None:
            arrivals.told = self._tell
        if arrivals.quorum is not None:
            arrivals.kind_of = self._kind
            _check_grids([client for client, _ in instructions])

    def answer_of(self, client: ClientProxy, ins: Any, timeout: float | None, group: Any) -> Any:
        """Return a client's answer.

        Raises
        ------
        ClientFailureError
            If it has none, or none that can be read.
        """
        try:
            if _has_grid(client):
                outcome = self._outcome_of(client, timeout, group)
                if isinstance(outcome, ClientFailureError):
                    raise outcome
                return outcome
            ask = partial(getattr(client, self._step), ins, timeout, group)
            answer = ask() if timeout is None else within(timeout, ask, client)
            return answer if self._spill is None else self._spill.kept_result(answer)
        except ClientFailureError:
            raise
        except Exception as error:
            raise ClientFailureError(client, str(error)) from error

    def _outcome_of(self, client: ClientProxy, timeout: float | None, group: Any) -> Any:
        with self._lock:  # who comes first asks for all, the others wait for what comes
            if self._outcomes is None and self._stop is None:
                try:
                    self._outcomes = self._exchange(timeout, group)
                except BaseException as stop:
                    self._stop = stop
            if self._stop is not None:
                raise self._stop
            outcome = (self._outcomes or {}).pop(client.cid, None)
        if outcome is None:
            raise NoAnswerError(client)
        return outcome

    def _exchange(self, timeout: float | None, group: Any) -> dict[str, Any]:
        """Ask all clients, and return what came of it in time by the clients' ids."""
        grid = _shared_grid(self._clients, self._spill)
        questions = Questions((), self._arrivals)
        for client in self._clients:
            message = _message_of(client, self._step, self._ins[client.cid], timeout, group)
            self._arrivals.clients[message.metadata.dst_node_id] = client
            questions.append(message)
        patience = ROUND_TIMEOUT if timeout is None else timeout
        replies = grid.send_and_receive(questions, timeout=patience)
        outcomes = {}
        for reply in replies:
            client = self._arrivals.clients[reply.metadata.src_node_id]
            outcomes[client.cid] = self._read.pop(client.cid, None) or self._outcome(client, reply)
        return outcomes

    def _outcome(self, client: ClientProxy, reply: Message) -> Any:
        """Return the answer that a reply holds, or the failure that it is; it is read once."""
        if reply.has_error():
            return ClientFailureError(client, reply.error.reason or "no reason given")
        if isinstance(reply.content, LetGo):
            return reply.content.result()
        try:
            read = getattr(_at(client, _Wire(reply)), self._step)
            return read(self._ins[client.cid], None, None)
        except Exception as error:
            failure = ClientFailureError(client, str(error))
            failure.__cause__ = error
            return failure

    def _kind(self, reply: Message) -> Hashable | None:
        """Return what a reply counts as towards the quorum."""
        client, answer = self._answer(reply)
        return None if answer is None else self._kind_of(client, answer)

    def _tell(self, reply: Message) -> None:
        client, answer = self._answer(reply)
        if answer is not None and self._told is not None:
            self._told(client, answer)

    def _answer(self, reply: Message) -> tuple[ClientProxy, Any]:
        """Return a client and its answer, None if that is no good; what was read is kept."""
        client = self._arrivals.clients[reply.metadata.src_node_id]
        outcome = self._read.get(client.cid)
        if outcome is None:
            outcome = self._read[client.cid] = self._outcome(client, reply)
        if isinstance(outcome, ClientFailureError) or outcome.status.code != Code.OK:
            return client, None
        return client, outcome


class _Asked(ClientProxy):
    """A client that answers through the joint step of its round."""

    def __init__(self, client: ClientProxy, joint: _JointStep) -> None:
        super().__init__(client.cid)
        self.client = client
        self.properties = client.properties
        self._joint = joint

    def fit(self, ins: FitIns, timeout: float | None, group_id: int | None) -> FitRes:
        """Train."""
        answer: FitRes = self._joint.answer_of(self.client, ins, timeout, group_id)
        return answer

    def evaluate(
        self, ins: EvaluateIns, timeout: float | None, group_id: int | None
    ) -> EvaluateRes:
        """Evaluate."""
        answer: EvaluateRes = self._joint.answer_of(self.client, ins, timeout, group_id)
        return answer

    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None, group_id: int | None
    ) -> GetPropertiesRes:
        """Return the client's properties."""
        return self.client.get_properties(ins, timeout, group_id)

    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None, group_id: int | None
    ) -> GetParametersRes:
        """Return the client's model."""
        return self.client.get_parameters(ins, timeout, group_id)

    def reconnect(
        self, ins: ReconnectIns, timeout: float | None, group_id: int | None
    ) -> DisconnectRes:
        """Reconnect later."""
        return self.client.reconnect(ins, timeout, group_id)

    def __getattr__(self, name: str) -> Any:
        if name == "client":  # not there yet
            raise AttributeError(name)
        return getattr(self.client, name)


class _Wire:
    """Stands where a client's grid is: takes its message, or has its reply ready."""

    def __init__(self, reply: Message | None = None) -> None:
        self._reply = reply

    def send_and_receive(self, messages: Iterable[Message], **_: object) -> list[Message]:
        if self._reply is None:
            raise _Taken(*messages)
        return [self._reply]


class _Taken(BaseException):
    """Carries a client's message away before it is sent."""


def _message_of(
    client: ClientProxy, step: Step, ins: Any, timeout: float | None, group: Any
) -> Message:
    """Return the message that a client would send for an instruction."""
    try:
        getattr(_at(client, _Wire()), step)(ins, timeout, group)
    except _Taken as taken:
        message: Message = taken.args[0]
        return message
    raise TypeError(f"{type(client).__name__} sends nothing through its grid")


def _has_grid(client: ClientProxy) -> bool:
    return issubclass(type(getattr(client, "grid", None)), Grid)


def _check_grids(clients: Iterable[ClientProxy]) -> None:
    """Raise ValueError if Flower reaches one of the clients otherwise than through a grid."""
    for client in clients:
        if not _has_grid(client):
            raise ValueError(
                f"quorum is set, and Flower reaches client {client.cid}, a "
                f"{type(client).__name__}, without a grid: no round could close without it"
            )


def _at(client: ClientProxy, wire: _Wire) -> ClientProxy:
    """Return a client that speaks to a wire instead of its grid."""
    other = copy.copy(client)
    other.grid = wire  # type: ignore[attr-defined]
    return other


def _shared_grid(clients: Sequence[Any], spill: Spill | None) -> ArrivingGrid:
    """Return the one grid of the clients that remembers, over the rounds, who still sends."""
    grids = [client.grid for client in clients]
    known = [grid for grid in grids if isinstance(grid, ArrivingGrid)]
    shared = known[0] if known else ArrivingGrid(grids[0])
    shared.spill = spill
    for client in clients:
        client.grid = shared
    return shared


def within(timeout: float, ask: Callable[[], Any], client: ClientProxy) -> Any:
    """Return what a call to a client returns, or raise NoAnswerError if that takes longer."""
    outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            outcome.put((ask(), None))
        except BaseException as error:
            outcome.put((None, error))

    Thread(target=work, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=timeout)
    except Empty:
        raise NoAnswerError(client) from None
    if error is not None:
        raise error
    return answer
