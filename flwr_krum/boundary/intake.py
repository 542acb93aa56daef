"""The trust boundary: which replies become ClientUpdates, which are refused and why.

A reply is refused, never raised on, when it cannot be decoded, when its arrays differ from the
global model in keys, count, shape or kind of dtype, when it holds NaN or Inf or a number beyond
the model's dtype, or when its client sent more than one. Arrays are matched by key, never by
position in the reply. Accepted clients are ordered by id, so that nothing depends on the order
of arrival. No reply is changed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np

from flwr_krum.boundary.npy import UndecodableError, decode
from flwr_krum.boundary.replies import ClientId, Refused, Reply, client_order, quoted
from flwr_krum.kernel.arrays import Array, are_finite
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.threads import spread
from flwr_krum.kernel.updates import PIECE, ClientUpdates

Model: TypeAlias = Mapping[str, Array]
"""A model's arrays by key, in the model's order."""

Pattern: TypeAlias = tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
"""Key, shape and dtype of each array of a model, sorted by key."""


class RefusedError(ValueError):
    """A reply cannot be taken in; the text is the reason."""


@dataclass(frozen=True)
class Intake:
    """The accepted replies, ordered by client id, and the refused ones.

    ``clients[i]`` sent model ``i`` of ``updates``, whose layers are the arrays under ``keys``, as
    the npy bytes ``encoded[i]``.
    ``updates`` is None when no reply was accepted.
    """

    clients: tuple[ClientId, ...]
    keys: tuple[str, ...]
    updates: ClientUpdates | None
    refused: tuple[Refused, ...]
    encoded: tuple[Mapping[str, bytes], ...]


def admit(replies: Iterable[Reply], model: Model | None = None, device: str = "cpu") -> Intake:
    """Take in the replies that fit the global model and refuse the others.

    Parameters
    ----------
    replies : iterable of Reply
        In any order.
    model : mapping of key to array, optional
        The global model that the clients were sent. Without it the structure that most replies
        share is the reference (the one of the smallest client id among equals), and distances
        are not centred.
    """
    ordered = sorted(replies, key=lambda reply: client_order(reply.client))
    with stage("decode"):
        decoded, refused = _decode_all(ordered, None if model is None else set(model))
    pattern = _majority(list(decoded.values())) if model is None else _pattern(model)
    expected = {key: (shape, dtype) for key, shape, dtype in pattern}
    accepted: dict[ClientId, Model] = {}
    with stage("check"):
        work = partial(_checked_or_reason, expected=expected)
        is_large = sum(math.prod(shape) for shape, _ in expected.values()) >= PIECE
        checked = (spread if is_large else map)(work, list(decoded.values()))
        for client, arrays in zip(decoded, checked, strict=True):
            if isinstance(arrays, RefusedError):
                refused[client] = str(arrays)
            else:
                accepted[client] = arrays
    keys = _majority_order(list(accepted.values())) if model is None else tuple(model)
    updates = None
    if accepted:
        reference = None if model is None else tuple(model[key] for key in keys)
        models = tuple(tuple(arrays[key] for key in keys) for arrays in accepted.values())
        dtypes = tuple(expected[key][1] for key in keys)
        updates = ClientUpdates(models, reference, dtypes, device)  # checked above
    reasons = sorted(refused.items(), key=lambda item: client_order(item[0]))
    return Intake(
        tuple(accepted),
        keys,
        updates,
        tuple(Refused(client, why) for client, why in reasons),
        tuple(reply.arrays or {} for reply in ordered if reply.client in accepted),
    )


def decode_model(arrays: Mapping[str, bytes]) -> dict[str, Array]:
    """Decode the server's own model.

    Raises
    ------
    UndecodableError
        If an array is not one of float (16 to 64 bits), integer or bool numbers.
    """
    model = {}
    for key, data in arrays.items():
        try:
            model[key] = decode(data)
        except UndecodableError as error:
            raise UndecodableError(f"global model, array {key!r}: {error}") from error
    return model


def _decode_all(
    replies: Sequence[Reply], keys: set[str] | None
) -> tuple[dict[ClientId, dict[str, Array]], dict[ClientId, str]]:
    """Return the decoded arrays, and the reasons why others have none, by client."""
    counts = Counter(reply.client for reply in replies)
    decoded: dict[ClientId, dict[str, Array]] = {}
    refused: dict[ClientId, str] = {}
    for reply in replies:
        try:
            if counts[reply.client] > 1:
                raise RefusedError(f"{counts[reply.client]} replies in one round, expected 1")
            decoded[reply.client] = _decode(reply, keys)
        except RefusedError as reason:
            refused[reply.client] = str(reason)
    return decoded, refused


def _decode(reply: Reply, keys: set[str] | None) -> dict[str, Array]:
    if reply.arrays is None:
        raise RefusedError(reply.problem or "no arrays")
    if keys is not None:  # first, so that nobody's thousand other arrays are looked at
        _check_keys(reply.arrays.keys(), keys)
    decoded = {}
    for key, data in reply.arrays.items():
        try:
            decoded[key] = decode(data)
        except UndecodableError as error:
            raise RefusedError(f"array {quoted(key)}: {error}") from error
    return decoded


def _pattern(arrays: Model) -> Pattern:
    return tuple((key, arrays[key].shape, arrays[key].dtype) for key in sorted(arrays))


def _majority(replies: Sequence[dict[str, Array]]) -> Pattern:
    """Return the pattern that most replies share; the first in client order among equals."""
    common = Counter(_pattern(arrays) for arrays in replies).most_common(1)
    return common[0][0] if common else ()


def _majority_order(replies: Sequence[Model]) -> tuple[str, ...]:
    """Return the order of keys that most replies share: one client must not choose it."""
    common = Counter(tuple(arrays) for arrays in replies).most_common(1)
    return common[0][0] if common else ()


Expected: TypeAlias = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and dtype by key."""


def _checked_or_reason(arrays: Model, expected: Expected) -> Model | RefusedError:
    try:
        return _checked(arrays, expected)
    except RefusedError as reason:
        return reason


def _checked(arrays: Model, expected: Expected) -> Model:
    """Return the arrays, in the dtypes that are expected, if they fit."""
    if _is_sound(arrays, expected):  # most replies
        return arrays
    _check_keys(arrays.keys(), expected.keys())
    for key, array in arrays.items():
        shape, dtype = expected[key]
        if array.shape != shape:
            raise RefusedError(f"array {quoted(key)}: shape {array.shape}, expected {shape}")
        if array.dtype.kind != dtype.kind:
            raise RefusedError(
                f"array {quoted(key)}: dtype {array.dtype}, expected the kind of {dtype}"
            )
    for key, array in arrays.items():
        if array.size:
            _check_range(key, array, expected[key][1])
    return {key: array.astype(expected[key][1], copy=False) for key, array in arrays.items()}


def _is_sound(arrays: Model, expected: Expected) -> bool:
    """Say whether the arrays are just what is expected, and finite."""
    found = {key: (array.shape, array.dtype) for key, array in arrays.items()}
    return found == expected and are_finite(
        array for array in arrays.values() if array.dtype.kind == "f"
    )


def _check_keys(found: Set[str], expected: Set[str]) -> None:
    if found == expected:
        return
    missing, extra = sorted(expected - found), sorted(found - expected)
    raise RefusedError(
        "keys differ from the model's:"
        + (f" missing {_few(missing)}" if missing else "")
        + (f" unknown {_few(extra)}" if extra else "")
    )


def _check_range(key: str, array: Array, dtype: np.dtype[Any]) -> None:
    # min and max read the array once each and allocate nothing; both carry a NaN through, and no
    # comparison with NaN holds.
    low, high = array.min().item(), array.max().item()
    least, greatest = _range_of(dtype)
    if not (least <= low and high <= greatest):
        if low != low:
            raise RefusedError(f"array {quoted(key)}: holds NaN")
        if math.isinf(low) or math.isinf(high):
            raise RefusedError(f"array {quoted(key)}: holds Inf")
        values = f"values from {low} to {high}"
        raise RefusedError(f"array {quoted(key)}: {values} do not fit into {dtype}")


@lru_cache
def _range_of(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the smallest and the largest finite number of a dtype."""
    if dtype.kind == "b":
        return False, True
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(quoted(name) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
