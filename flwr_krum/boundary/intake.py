"""The trust boundary: which replies become ClientUpdates, which are refused and why.

A reply is refused, never raised on, when it cannot be decoded, when its arrays differ from the
global model in keys, count, shape or kind of dtype, when it holds NaN or Inf where the global
model does not or a number beyond the model's dtype, or when its client sent more than one. Arrays
are matched by key, never by position in the reply. Accepted clients are ordered by id, so that
nothing depends on the order of arrival. No reply is changed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np

from flwr_krum.boundary.bfloat16 import widened
from flwr_krum.boundary.filed import Sent
from flwr_krum.boundary.npy import UndecodableError, decode
from flwr_krum.boundary.replies import (
    ClientId,
    Refused,
    Reply,
    client_order,
    few,
    on_one_line,
    quoted,
)
from flwr_krum.boundary.template import ClientModel, Template
from flwr_krum.kernel.arrays import Array, are_finite
from flwr_krum.kernel.clock import stage
from flwr_krum.kernel.known import KnownPairs
from flwr_krum.kernel.stored import Layer
from flwr_krum.kernel.threads import spread
from flwr_krum.kernel.updates import PIECE, ClientUpdates, Products


class RefusedError(ValueError):
    """A reply cannot be taken in; the text is the reason."""


@dataclass(frozen=True)
class Intake:
    """The accepted replies, ordered by client id, and the refused ones.

    ``clients[i]`` sent model ``i`` of ``updates``, whose layers are the arrays under ``keys``, as
    the npy bytes ``encoded[i]``; the global model's arrays under ``kept`` did not travel.
    ``updates`` is None when no reply was accepted.
    """

    clients: tuple[ClientId, ...]
    keys: tuple[str, ...]
    kept: tuple[str, ...]
    updates: ClientUpdates | None
    refused: tuple[Refused, ...]
    encoded: tuple[Mapping[str, Sent], ...]


def admit(
    replies: Iterable[Reply],
    template: Template | None = None,
    device: str = "cpu",
    liars: int = 0,
    known: KnownPairs | None = None,
) -> Intake:
    """Take in the replies that fit the global model and refuse the others.

    Parameters
    ----------
    replies : iterable of Reply
        In any order.
    template : Template, optional
        Of the global model that the clients were sent. Without it the structure that most replies
        share is the reference (the one of the smallest client id among equals), and distances
        are not centred.
    device : str
        Where the arithmetic happens.
    liars : int
        How many replies may be hostile: too few to decide which keys travel.
    known : KnownPairs, optional
        Distances between some of the models, which were worked out as they came.
    """
    ordered = sorted(replies, key=lambda reply: client_order(reply.client))
    with stage("decode"):
        decoded, refused = _decode_all(ordered, template)
    template = template or Template.guessed(list(decoded.values()))
    sound: dict[ClientId, ClientModel] = {}
    with stage("check"):
        is_large = sum(math.prod(shape) for shape, _ in template.formats.values()) >= PIECE
        # Small ones are looked at together: to begin takes as long as to look.
        together = chain.from_iterable(arrays.values() for arrays in decoded.values())
        finite = not is_large and not template.constants and _are_finite(together)
        work = partial(_checked_or_reason, template=template, known_finite=finite, known=known)
        checked = (spread if is_large else map)(work, list(decoded.values()))
        for client, arrays in zip(decoded, checked, strict=True):
            if isinstance(arrays, RefusedError):
                refused[client] = str(arrays)
            else:
                sound[client] = arrays
    keys = template.agreed([arrays.keys() for arrays in sound.values()], liars)
    used = set(keys)
    accepted: dict[ClientId, ClientModel] = {}
    for client, arrays in sound.items():
        if arrays.keys() == used:
            accepted[client] = arrays
        else:
            refused[client] = _difference(arrays.keys(), keys, template)
    return Intake(
        tuple(accepted),
        keys,
        tuple(key for key in template.formats if key not in used),
        _updates(list(accepted.values()), keys, template, device, known),
        tuple(
            Refused(client, on_one_line(refused[client]))
            for client in sorted(refused, key=client_order)
        ),
        tuple(_by_key(r.arrays or {}, template) for r in ordered if r.client in accepted),
    )


def keys_of(reply: Reply, template: Template | None) -> frozenset[str] | None:
    """Return the keys of a reply that would be taken in by itself; None of one that is refused.

    Where not all keys travel, the replies of a round decide together which do.
    """
    try:
        decoded = read(reply, template)
        return frozenset(decoded if template is None else checked(decoded, template))
    except RefusedError:
        return None


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
    replies: Sequence[Reply], template: Template | None
) -> tuple[dict[ClientId, ClientModel], dict[ClientId, str]]:
    """Return the decoded arrays, and the reasons why others have none, by client."""
    counts = Counter(reply.client for reply in replies)
    decoded: dict[ClientId, ClientModel] = {}
    refused: dict[ClientId, str] = {}
    for reply in replies:
        try:
            if counts[reply.client] > 1:
                raise RefusedError(f"{counts[reply.client]} replies in one round, expected 1")
            decoded[reply.client] = read(reply, template)
        except RefusedError as reason:
            refused[reply.client] = str(reason)
    return decoded, refused


def read(reply: Reply, template: Template | None) -> ClientModel:
    """Return the arrays that a reply holds, not yet checked.

    Raises
    ------
    RefusedError
        If it holds none that can be read, or other keys than may travel.
    """
    if reply.arrays is None:
        raise RefusedError(reply.problem or "no arrays")
    arrays = _by_key(reply.arrays, template)
    if template is not None:  # first, so that nobody's thousand other arrays are looked at
        _check_keys(arrays.keys(), template)
    forms = {} if template is None else template.forms
    decoded = {}
    for key, data in arrays.items():
        try:
            decoded[key] = widened(decode(data, forms.get(key)))
        except UndecodableError as error:
            raise RefusedError(f"array {quoted(key)}: {error}") from error
    return decoded


def _by_key(
    arrays: Mapping[str, Sent] | Sequence[Sent], template: Template | None
) -> Mapping[str, Sent]:
    """Return arrays under the keys that their positions stand for."""
    if type(arrays) is dict or isinstance(arrays, Mapping):  # the first is quicker to tell
        return arrays
    keys = list(map(str, range(len(arrays)))) if template is None else template.travelling
    if len(arrays) != len(keys):
        raise RefusedError(
            f"{len(arrays)} arrays, expected {len(keys)}: without names they go by position"
        )
    return dict(zip(keys, arrays, strict=True))


def _check_keys(found: Set[str], template: Template) -> None:
    """Refuse keys that do not travel; whether all that do must be there, all replies decide."""
    known = template.formats.keys()
    if not found <= known or (template.shared is not None and found != set(template.shared)):
        raise RefusedError(_difference(found, template.travelling, template))


def _difference(found: Set[str], expected: Sequence[str], template: Template) -> str:
    missing, unknown = set(expected) - found, found - set(expected)
    whose = "the model's" if len(expected) == len(template.formats) else "those that travel"
    return (
        f"keys differ from {whose}:"
        + (f" missing {few(missing)}" if missing else "")
        + (f" unknown {few(unknown)}" if unknown else "")
    )


def _checked_or_reason(
    arrays: ClientModel, template: Template, known_finite: bool, known: KnownPairs | None
) -> ClientModel | RefusedError:
    try:
        finite = known_finite or (known is not None and _is_known_finite(arrays, template, known))
        return checked(arrays, template, finite)
    except RefusedError as reason:
        return reason


def _is_known_finite(arrays: ClientModel, template: Template, known: KnownPairs) -> bool:
    """Say whether all floats of a model were seen to be finite when its distances were taken."""
    if {key for key, array in arrays.items() if array.dtype.kind == "f"} != template.measured:
        return False
    return known.is_finite([arrays[key] for key in template.formats if key in template.measured])


def checked(arrays: ClientModel, template: Template, known_finite: bool = False) -> ClientModel:
    """Return the arrays, in the dtypes that are expected and without constants, if they fit.

    Parameters
    ----------
    arrays : mapping of key to array
    template : Template
    known_finite : bool
        Whether their floats have been looked at, and are finite.

    Raises
    ------
    RefusedError
        If they do not.
    """
    formats = template.formats
    if not template.measured:
        raise RefusedError("no array of floats, and no distance sees others")
    fits = {key: (array.shape, array.dtype) for key, array in arrays.items()} == formats
    if not fits:
        _check_keys(arrays.keys(), template)
        for key, array in arrays.items():
            _check_format(key, array, *formats[key])
    held = [key for key in template.constants if key in arrays]
    if held:
        arrays = {**arrays, **{key: _cleared(key, arrays[key], template) for key in held}}
    if fits and (known_finite or _are_finite(arrays.values())):
        return arrays  # most replies
    for key, array in arrays.items():
        if array.size:
            _check_range(key, array, formats[key][1])
    return {key: array.astype(formats[key][1], copy=False) for key, array in arrays.items()}


def _are_finite(arrays: Iterable[Layer]) -> bool:
    return are_finite(array for array in arrays if array.dtype.kind == "f")


def _check_format(key: str, array: Layer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape:
        raise RefusedError(f"array {quoted(key)}: shape {array.shape}, expected {shape}")
    if array.dtype.kind != dtype.kind:
        raise RefusedError(
            f"array {quoted(key)}: dtype {array.dtype}, expected the kind of {dtype}"
        )


def _cleared(key: str, layer: Layer, template: Template) -> Array:
    """Return an array with 0 for the constants of the global model, if it holds the same."""
    array = np.asarray(layer)
    where, values = template.constants[key]
    if not np.array_equal(array[where], values, equal_nan=True):
        raise RefusedError(f"array {quoted(key)}: differs where the global model holds NaN or Inf")
    cleared = np.where(where, array.dtype.type(0), array)
    # Most clients never touch such an array: then all share one.
    reference = template.reference[key] if template.reference else cleared
    same = cleared.dtype == reference.dtype and np.array_equal(cleared, reference)
    return reference if same else cleared


def _check_range(key: str, array: Layer, dtype: np.dtype[Any]) -> None:
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


def _updates(
    models: Sequence[ClientModel],
    keys: Sequence[str],
    template: Template,
    device: str,
    known: KnownPairs | None,
) -> ClientUpdates | None:
    """Return the models, which are checked, as updates of the global one."""
    if not models:
        return None
    reference = template.reference
    floats = [i for i, key in enumerate(keys) if template.formats[key][1].kind == "f"]
    measured = tuple(i for i in floats if keys[i] in template.measured)
    space = template.space
    pairs = tuple(space.indices(keys)) if space else ()
    return ClientUpdates(
        tuple(tuple(arrays[key] for key in keys) for arrays in models),
        None if reference is None else tuple(reference[key] for key in keys),
        tuple(template.formats[key][1] for key in keys),
        device,
        measured=None if len(measured) == len(floats) else measured,
        products=Products(pairs, space.scale) if space and pairs else None,
        known=known,
    )
