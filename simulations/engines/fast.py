"""A Grid whose clients answer a round of training together.

Every other message goes the plain way of `simulations.engines.inprocess`. So does training through
`aggregate_fit`, whose server sends its messages one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any, TypeVar

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    Message,
    MessageType,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from clients.client_app import arrays_in, config_in, parameters_in
from clients.cohort import Cohort
from clients.honest import HonestClient, round_of
from flwr_krum.boundary.arrivals import PromptGrid
from flwr_krum.boundary.npy import SERIALIZATION, form_of
from simulations.engines.inprocess import FIRST_NODE_ID, InProcessGrid, failure

_Record = TypeVar("_Record", ArrayRecord, MetricRecord, RecordDict)


class CohortGrid(InProcessGrid, PromptGrid):
    """n virtual nodes whose clients share the work of a round.

    A strategy sends every node the same content: it is decoded once, and a `Cohort` computes the
    replies. They are those of the single clients up to the last bits of float32.

    Parameters
    ----------
    client_app : ClientApp
        Answers whatever is not a round of training.
    cohort : Cohort
        Client i is that of partition i, on node ``i + FIRST_NODE_ID``.
    """

    def __init__(self, client_app: ClientApp, cohort: Cohort) -> None:
        super().__init__(client_app, len(cohort.clients))
        self._cohort = cohort

    def factor(self) -> float | None:
        """Return the factor that the attack chose in the last round, if it chooses one."""
        return self._cohort.factor

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Have the nodes answer; what is not stored needs no number to be found by."""
        return self._answer_all(list(messages))

    def _answer_all(self, messages: list[Message]) -> list[Message]:
        if _is_round_of_training(messages):
            return self._train(messages)
        return super()._answer_all(messages)

    def _train(self, messages: Sequence[Message]) -> list[Message]:
        content = messages[0].content
        keys = arrays_in(content)
        parameters, places = parameters_in(content, self._cohort.clients[0].settings)
        shapes = [(parameters[p].shape, parameters[p].dtype) for p in places]
        packers = [(key, p, _packer(*s)) for key, p, s in zip(keys, places, shapes, strict=True)]
        asked = [message.metadata.dst_node_id - FIRST_NODE_ID for message in messages]
        server_round = round_of(config_in(content))
        proposals = self._cohort.propose(asked, parameters, server_round)
        return [
            _reply(
                self._cohort.clients[i],
                {key: pack(arrays[p]) for key, p, pack in packers},
                loss,
                message,
                server_round,
            )
            for i, (arrays, loss), message in zip(asked, proposals, messages, strict=True)
        ]


def _is_round_of_training(messages: Sequence[Message]) -> bool:
    """Say whether all messages ask for training with one and the same content.

    Those of `aggregate_fit` come one at a time, and their content has names of its own.
    """
    first = messages[0].content if messages else {}
    return (
        bool(first)
        and "fitins.parameters" not in first
        and all(
            message.metadata.message_type == MessageType.TRAIN
            and message.content is messages[0].content
            for message in messages
        )
    )


def _reply(
    client: HonestClient,
    packed: dict[str, Array],
    loss: float,
    message: Message,
    server_round: int,
) -> Message:
    content = _content(packed, {"num-examples": client.num_examples, "loss": loss})
    try:
        content = client.spoiled(content, server_round)
    except Exception as error:
        return failure(error, message)
    return _answering(message, content)


def _content(packed: dict[str, Array], metrics: dict[str, float]) -> RecordDict:
    """Return what `clients.client_app.fit_content` returns, put together without its checks."""
    arrays, numbers = _filled(ArrayRecord, packed), _filled(MetricRecord, metrics)
    return _filled(RecordDict, {"arrays": arrays, "metrics": numbers})


def _answering(message: Message, content: RecordDict) -> Message:
    """Return what ``Message(content, reply_to=message)`` returns, for a message that has no end."""
    asked = vars(message.metadata)
    metadata = Metadata.__new__(Metadata)
    vars(metadata).update(
        asked,
        _message_id="",
        _src_node_id=asked["_dst_node_id"],
        _dst_node_id=asked["_src_node_id"],
        _src_task_id=asked["_dst_task_id"],
        _dst_task_id=asked["_src_task_id"],
        _reply_to_message_id=asked["_message_id"],
    )
    reply = Message.__new__(Message)
    vars(reply).update(_metadata=metadata, _content=content, _error=None)
    return reply


# Flower checks the type of every key and value, and finds out for every array which of three
# constructors is meant: for a small model more work than its training.
def _filled(kind: type[_Record], entries: dict[str, Any]) -> _Record:
    record = kind.__new__(kind)
    vars(record).update(_empty(kind), _data=entries)
    return record


@cache
def _empty(kind: type[_Record]) -> dict[str, Any]:
    return dict(vars(kind()))


@lru_cache
def _packer(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[[NDArray[Any]], Array]:
    """Return what makes Flower's Array of an array of this shape and dtype."""
    header = form_of(shape, dtype).header
    fields = {"dtype": str(dtype), "shape": shape, "stype": SERIALIZATION}

    def pack(array: NDArray[Any]) -> Array:
        packed = Array.__new__(Array)
        vars(packed).update(fields, data=header + array.tobytes())
        return packed

    return pack
