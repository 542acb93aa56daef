"""Attack vectors as pure functions, and hostile replies that are no model at all.

Each fault changes the content of an honest reply of either API. `malforming_mod` makes any
ClientApp send it, to red-team one's own federation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flwr.app
import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from flwr_krum.boundary.npy import SERIALIZATION
from flwr_krum.boundary.records import from_record, to_record
from flwr_krum.kernel.arrays import Array

Fault: TypeAlias = Callable[[RecordDict], None]
Models: TypeAlias = dict[str, Array]


def _on_models(change: Callable[[Models], Mapping[str, Array]]) -> Fault:
    """Return a fault that changes the arrays as numbers."""

    def fault(content: RecordDict) -> None:
        key, record = _arrays_of(content)
        content[key] = to_record(change(from_record(record)))

    return fault


def _on_every_array(change: Callable[[Array], Array]) -> Fault:
    return _on_models(lambda model: {key: change(array) for key, array in model.items()})


def _on_first_array(change: Callable[[Array], Array]) -> Fault:
    """Return a fault that changes the first array of floats, or the first at all."""

    def first(model: Models) -> Models:
        floats = [key for key, a in model.items() if a.dtype.kind == "f" and a.size]
        chosen = (floats or list(model))[:1]
        return {key: change(a) if key in chosen else a for key, a in model.items()}

    return _on_models(first)


def _on_bytes(change: Callable[[bytes], bytes], stype: str = SERIALIZATION) -> Fault:
    """Return a fault that changes the first array as bytes."""

    def fault(content: RecordDict) -> None:
        _, record = _arrays_of(content)
        key, array = next(iter(record.items()))
        record[key] = flwr.app.Array(array.dtype, array.shape, stype, change(array.data))

    return fault


def _on_record(change: Callable[[RecordDict, str], None]) -> Fault:
    return lambda content: change(content, _arrays_of(content)[0])


def _on_metrics(change: Callable[[MetricRecord, str], None]) -> Fault:
    """Return a fault that changes the record that holds the example count, named by its key."""

    def fault(content: RecordDict) -> None:
        for record in content.metric_records.values():
            for key in ("num-examples", "num_examples"):
                if key in record:
                    change(record, key)

    return fault


def _claim(count: Any) -> Fault:
    return _on_metrics(lambda record, key: record.update({key: count}))


def _put_one(value: float) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        changed = array.copy()
        if changed.size and changed.dtype.kind == "f":
            changed.reshape(-1)[-1] = value
        return changed

    return change


def _swap_first_two(model: Models) -> Models:
    """Send each of the first two arrays under the other's name, in an order that hides it."""
    if len(model) < 2:
        return model
    first, second, *rest = model
    return {second: model[first], first: model[second], **{key: model[key] for key in rest}}


def _forged_header(shape: str, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def _delete(content: RecordDict, key: str) -> None:
    del content[key]


def _drop_metrics(content: RecordDict) -> None:
    for key in list(content.metric_records):
        del content[key]


FAULTS: dict[str, Fault] = {
    "nan": _on_every_array(lambda a: np.full_like(a, np.nan)),
    "one-nan": _on_first_array(_put_one(math.nan)),
    "inf": _on_every_array(lambda a: np.full_like(a, np.inf)),
    "one-minus-inf": _on_first_array(_put_one(-math.inf)),
    "huge": _on_every_array(lambda a: np.full_like(a, 1e30)),
    "huge-float64": _on_every_array(lambda a: np.full(a.shape, 1e300)),
    "denormal": _on_every_array(lambda a: np.full_like(a, 1e-45)),
    "wrong-size": _on_first_array(lambda a: np.zeros(a.size + 1, a.dtype)),
    "reshaped": _on_first_array(lambda a: a.reshape(a.shape[::-1])),
    "missing-array": _on_models(lambda m: dict(list(m.items())[1:])),
    "extra-array": _on_models(lambda m: {**m, "extra": np.zeros(3, np.float32)}),
    "renamed-array": _on_models(
        lambda m: {f"{k}x" if i == 0 else k: a for i, (k, a) in enumerate(m.items())}
    ),
    "swapped-arrays": _on_models(_swap_first_two),
    "no-arrays": _on_models(lambda m: {}),
    "no-record": _on_record(_delete),
    "two-records": _on_record(lambda c, k: c.update({"again": c[k]})),
    "float64": _on_every_array(lambda a: a.astype(np.float64)),
    "float16": _on_every_array(lambda a: a.astype(np.float16)),
    "integers": _on_every_array(lambda a: a.astype(np.int64)),
    "complex": _on_bytes(lambda data: _forged_header("(1,)", "'<c8'") + bytes(8)),
    "strings": _on_bytes(lambda data: _forged_header("(1,)", "'<U1'") + b"a\0\0\0"),
    "objects": _on_bytes(lambda data: _forged_header("(1,)", "'|O'") + b"cos\nsystem\n(S'x'\ntR."),
    "garbage": _on_bytes(lambda data: bytes(range(256))),
    "no-bytes": _on_bytes(lambda data: b""),
    "truncated": _on_bytes(lambda data: data[: len(data) // 2]),
    "giant-header": _on_bytes(lambda data: _forged_header("(100000000000,)") + bytes(64)),
    "unknown-serialization": _on_bytes(lambda data: data, "pickle"),
    "no-metrics": _drop_metrics,
    "extra-metric": _on_metrics(lambda record, key: record.update({"extra": 1.0})),
    "nan-metric": _on_metrics(lambda record, key: record.update({"loss": math.nan})),
    "list-metric": _on_metrics(lambda record, key: record.update({"loss": [1.0, 2.0]})),
    "examples-missing": _on_metrics(lambda record, key: record.__delitem__(key)),
    "examples-zero": _claim(0),
    "examples-negative": _claim(-60),
    "examples-nan": _claim(math.nan),
    "examples-inf": _claim(math.inf),
    "examples-1e15": _claim(10**15),
    "examples-list": _claim([10, 10]),
}
"""Faults by name; each changes the content of an honest reply in place."""


def malforming_mod(fault: str) -> Mod:
    """Return a Flower mod that breaks every training reply of a ClientApp.

    Parameters
    ----------
    fault : str
        A name in ``FAULTS``.

    Raises
    ------
    ValueError
        If there is no such fault.

    Examples
    --------
    >>> from flwr.clientapp import ClientApp
    >>> app = ClientApp(mods=[malforming_mod("one-nan")])
    """
    if fault not in FAULTS:
        raise ValueError(f"fault is {fault!r}, expected one of {', '.join(FAULTS)}")

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if message.metadata.message_type.startswith(MessageType.TRAIN) and reply.has_content():
            FAULTS[fault](reply.content)
        return reply

    return mod


def _arrays_of(content: RecordDict) -> tuple[str, ArrayRecord]:
    return next(iter(content.array_records.items()))
