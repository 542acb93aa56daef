"""What a client sent through either of Flower's APIs, as a Reply, whatever it is.

Nothing is parsed or copied here, and the work is bounded: no more of a reply is looked at than
the caps of `boundary.metrics` and the largest legal reply allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, islice

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.common import EvaluateRes, FitRes

from flwr_krum.boundary.filed import Sent
from flwr_krum.boundary.metrics import MOST_METRICS
from flwr_krum.boundary.npy import SERIALIZATION, is_npy
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


def of_message(client: ClientId, message: Message, most_bytes: float) -> Reply:
    """Take npy bytes and metrics out of a message of the Message API."""
    try:
        content = message.content
        if len(content) > MOST_RECORDS:
            return Reply(client, None, f"more than {MOST_RECORDS} records")
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
        if _HEADER * len(sent[0]) > most_bytes:  # before they are looked at
            return Reply(client, None, _too_large(most_bytes), metrics)
        arrays: dict[str, Sent] = {}
        for key, array in sent[0].items():
            if array.stype != SERIALIZATION:
                return Reply(client, None, f"array {quoted(key)}: {_foreign(array.stype)}", metrics)
            arrays[key] = array.data
        size = sum(map(len, arrays)) + sum(map(len, arrays.values()))
        if size + _HEADER * len(arrays) > most_bytes:
            return Reply(client, None, _too_large(most_bytes), metrics)
        return Reply(client, arrays, metrics=metrics)
    except Exception as error:
        return _unreadable(client, error)


def of_result(client: ClientId, result: FitRes, most_bytes: float) -> Reply:
    """Take npy bytes and metrics out of a result of ``aggregate_fit``, in their order."""
    try:
        metrics = claims_of(result)
        kind, tensors = result.parameters.tensor_type, list(result.parameters.tensors)
        if sum(map(len, tensors)) + _HEADER * len(tensors) > most_bytes:
            return Reply(client, None, _too_large(most_bytes), metrics)
        if kind != SERIALIZATION and not (kind in _OTHER_NAMES and all(map(is_npy, tensors))):
            return Reply(client, None, _foreign(kind), metrics)
        return Reply(client, tensors, metrics=metrics)
    except Exception as error:
        return _unreadable(client, error)


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


def _too_large(most_bytes: float) -> str:
    return f"more than {most_bytes} bytes (max_reply_bytes)"


def _unreadable(client: ClientId, error: Exception) -> Reply:
    return Reply(client, None, f"unreadable reply: {in_a_sentence(error)}")
