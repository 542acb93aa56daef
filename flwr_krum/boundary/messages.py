"""What a client sent through either of Flower's APIs, as a Reply, whatever it is.

Nothing is parsed or copied here, and the work is bounded: no more of a reply is looked at than
the caps of `boundary.metrics` and the largest legal reply allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status

from flwr_krum.boundary.filed import Sent
from flwr_krum.boundary.metrics import MOST_METRICS
from flwr_krum.boundary.npy import MAX_HEADER, SERIALIZATION, is_npy
from flwr_krum.boundary.replies import ClientId, Reply, in_a_sentence, quoted

MOST_RECORDS = 100
"""Records of one message; one with more is refused."""

COUNT = "num-examples"
"""Key of the example count among the claims that come through ``aggregate_fit``."""

_OTHER_NAMES = ("", "numpy.nda")
"""Tensor types under which npy bytes are taken in as well; Flower itself never looks at the type.
What Flower's Android strategy calls "numpy.nda" has no header, and is refused by this name."""

_HEADER = 128
"""Bytes that an array takes at least: a record of empty arrays is not free to look at."""

_ENTRY, _NUMBER = 64, 32
"""Bytes that the smallest entry of a record, and a number, take in memory."""


class Limits(NamedTuple):
    """How much of a reply is taken in; one with more is refused unread.

    Attributes
    ----------
    size : float
        Bytes of its arrays, with their keys.
    beside : float
        Bytes of what is no long array: metrics, configurations, and of each array what it is
        judged by. This stays in memory wherever the numbers go.
    """

    size: float = math.inf
    beside: float = math.inf


EVERYTHING = Limits()


class Weight(NamedTuple):
    """What weighing a reply came to.

    Attributes
    ----------
    problem : str
        What of it is more than is taken in; empty if nothing is.
    beside : int
        Bytes of what is no long array; 0 where any number would do.
    """

    problem: str = ""
    beside: int = 0


class LetGo(RecordDict):
    """What is left of a content that was too large to be held: why."""

    def __init__(self, problem: str) -> None:
        super().__init__()
        self.problem = problem

    def result(self) -> FitRes:
        """Return the same as a result of ``aggregate_fit``."""
        return FitRes(Status(Code.OK, ""), Parameters([], _Problem(self.problem)), 0, {})


class _Problem(str):
    """Stands for the type of tensors that were let go: why."""

    __slots__ = ()


def of_message(client: ClientId, message: Message, most: Limits) -> Reply:
    """Take npy bytes and metrics out of a message of the Message API."""
    try:
        content = message.content
        if problem := weighed(content, most).problem:
            return Reply(client, None, problem)
        # Not through `array_records` and its kin: each makes a new dictionary of checked entries.
        sent: list[ArrayRecord] = []
        reported: list[MetricRecord] = []
        for record in content.values():
            if isinstance(record, ArrayRecord):
                sent.append(record)
            elif isinstance(record, MetricRecord):
                reported.append(record)
        metrics = _claims(chain.from_iterable(map(MetricRecord.items, reported)))
        if len(sent) != 1:
            return Reply(client, None, f"{len(sent)} ArrayRecords, expected 1", metrics)
        arrays: dict[str, Sent] = {}
        for key, array in sent[0].items():
            if array.stype != SERIALIZATION:
                return Reply(client, None, f"array {quoted(key)}: {_foreign(array.stype)}", metrics)
            arrays[key] = array.data
        return Reply(client, arrays, metrics=metrics)
    except Exception as error:
        return _unreadable(client, error)


def of_result(client: ClientId, result: FitRes, most: Limits) -> Reply:
    """Take npy bytes and metrics out of a result of ``aggregate_fit``, in their order."""
    try:
        if problem := weighed_result(result, most).problem:
            return Reply(client, None, problem)
        metrics = claims_of(result)
        kind, tensors = result.parameters.tensor_type, list(result.parameters.tensors)
        if kind != SERIALIZATION and not (kind in _OTHER_NAMES and all(map(is_npy, tensors))):
            return Reply(client, None, _foreign(kind), metrics)
        return Reply(client, tensors, metrics=metrics)
    except Exception as error:
        return _unreadable(client, error)


def weighed(content: RecordDict, most: Limits) -> Weight:
    """Weigh a message's content, looking at no more of it than is legal."""
    if isinstance(content, LetGo):
        return Weight(content.problem)
    if len(content) > MOST_RECORDS:
        return Weight(f"more than {MOST_RECORDS} records")
    size = 0
    for record in content.values():
        if isinstance(record, ArrayRecord):
            size += _HEADER * len(record)
            if size > most.size:  # before they are looked at
                return Weight(_too_large(most))
            size += sum(map(len, record)) + sum(len(array.data) for array in record.values())
    if size > most.size:
        return Weight(_too_large(most))
    return _beside_arrays(partial(_beside, content, most), most)


def weighed_result(result: FitRes, most: Limits) -> Weight:
    """Weigh a result of ``aggregate_fit``, looking at no more of it than is legal."""
    kind, tensors = result.parameters.tensor_type, result.parameters.tensors
    if isinstance(kind, _Problem):
        return Weight(str(kind))
    size = _HEADER * len(tensors)
    if size > most.size or size + sum(map(len, tensors)) > most.size:
        return Weight(_too_large(most))
    return _beside_arrays(partial(_beside_result, result, most), most)


def _beside_arrays(count: Callable[[], int], most: Limits) -> Weight:
    """Weigh what is no long array, where that is limited: else a client chooses how much it is."""
    if math.isinf(most.beside):
        return Weight()
    if (found := count()) > most.beside:
        return Weight(f"more than {most.beside} bytes of metrics, configurations and short arrays")
    return Weight(beside=found)


def _beside(content: RecordDict, most: Limits) -> int:
    """Return how many bytes of a content are no long array; more than legal is as much as known."""
    total = sum(map(len, content))
    for record in content.values():
        if isinstance(record, ArrayRecord):
            arrays = record.values()
            total += sum(map(len, record)) + _judged_by([array.data for array in arrays])
            total += sum(len(array.dtype) + _NUMBER * len(array.shape) for array in arrays)
        else:
            total += _entries(record.items(), most)
    return total


def _beside_result(result: FitRes, most: Limits) -> int:
    """Return the same of a result of ``aggregate_fit``."""
    claims = result.metrics if isinstance(result.metrics, Mapping) else {}
    own = result.parameters
    return len(own.tensor_type) + _judged_by(own.tensors) + _entries(claims.items(), most)


def claims_of(result: FitRes | EvaluateRes) -> dict[str, object]:
    """Return what a client says about itself, its example count among the metrics."""
    reported = result.metrics if isinstance(result.metrics, Mapping) else {}
    claims = _claims(reported.items())
    claims[COUNT] = result.num_examples
    return claims


def _claims(items: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Return the first metrics, one more than the cap so that it shows where there are more."""
    return dict(islice(items, MOST_METRICS + 1))


def _foreign(kind: object) -> str:
    return f"serialized as {quoted(kind, 40)}, expected {SERIALIZATION!r}"


def _judged_by(arrays: Iterable[Sent]) -> int:
    """Return how many bytes stay in memory of arrays whose numbers go elsewhere."""
    return sum(_ENTRY + min(len(data), MAX_HEADER) for data in arrays)


def _entries(items: Iterable[tuple[str, object]], most: Limits) -> int:
    total = 0
    for key, value in items:
        total += _ENTRY + len(key) + _size(value)
        if total > most.beside:  # it need not be known by how much
            break
    return total


def _size(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list):
        texts = value and isinstance(value[0], str | bytes)
        return sum(_ENTRY + len(text) for text in value) if texts else _NUMBER * len(value)
    return _NUMBER


def _too_large(most: Limits) -> str:
    return f"more than {most.size} bytes (max_reply_bytes)"


def _unreadable(client: ClientId, error: Exception) -> Reply:
    return Reply(client, None, f"unreadable reply: {in_a_sentence(error)}")
