"""The global model as the pattern of replies: what travels, what is measured, what is constant.

Worked out once a round from the server's own model and what the operator says of its keys. Here
alone an operator's mistake is told apart from a client's, and raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flwr_krum.boundary.bfloat16 import BFLOAT16, narrowed, widened
from flwr_krum.boundary.low_rank import LowRank
from flwr_krum.boundary.npy import Form, form_of
from flwr_krum.boundary.replies import few
from flwr_krum.kernel.arrays import Array, are_finite
from flwr_krum.kernel.stored import Layer

Model: TypeAlias = Mapping[str, Array]
"""A model's arrays by key, in the model's order."""

ClientModel: TypeAlias = Mapping[str, Layer]
"""A client's, of which arrays may lie in files."""

Keys: TypeAlias = Collection[str | int] | Callable[[str], bool]
"""Keys of a model: a list of them, or a function of a key. Without names they are positions."""

Format: TypeAlias = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype of an array."""


class Constants(NamedTuple):
    """Where an array of the global model is not finite, and what it holds there, for ever."""

    where: NDArray[np.bool_]
    values: Array


@dataclass(frozen=True)
class Template:
    """What replies are held against.

    Attributes
    ----------
    formats : mapping of key to (shape, dtype)
        In the model's order; bfloat16 counts as the float32 that it is computed with.
    measured : set of keys
        The float arrays that a distance sees.
    shared : keys in the model's order, optional
        Those that travel; None where all do, or the subset that the replies agree on.
    model : mapping of key to array, optional
        The global model as it is; None where it is not known.
    reference : mapping of key to array, optional
        The global model as it is computed with: float32 for bfloat16, and 0 for constants.
    constants : mapping of key to Constants
        What is not finite in the global model.
    space : LowRank, optional
        The pairs among ``measured`` that a distance sees as their products.
    """

    formats: Mapping[str, Format]
    measured: frozenset[str]
    shared: tuple[str, ...] | None = None
    model: Model | None = field(default=None, repr=False)
    reference: Model | None = field(default=None, repr=False)
    constants: Mapping[str, Constants] = field(default_factory=dict, repr=False)
    space: LowRank | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        shared_keys: Keys | None = None,
        distance_keys: Keys | None = None,
        space: LowRank | None = None,
    ) -> Template:
        """Make the template of the server's own model.

        Raises
        ------
        ValueError
            If a list names a key that the model lacks, or nothing is left that a distance could
            see: every score would be 0, and the first client's model would win. If a pair of the
            space has no product, or only one of its arrays is measured.
        """
        wide = {key: widened(array) for key, array in model.items()}
        constants, reference = {}, dict(wide)
        suspects = {key: array for key, array in wide.items() if array.dtype.kind == "f"}
        if are_finite(suspects.values()):
            suspects = {}  # most models
        for key, array in suspects.items():
            where = ~np.isfinite(array)
            if where.any():
                constants[key] = Constants(where, array[where])
                reference[key] = np.where(where, array.dtype.type(0), array)
        formats = {key: (array.shape, array.dtype) for key, array in wide.items()}
        floats = [
            key
            for key in _floats(formats)
            if key not in constants or not constants[key].where.all()
        ]
        if not floats:
            raise ValueError(
                f"the global model ({few(list(model))}) holds no finite numbers of a float dtype, "
                "and no distance sees others: every score would be 0. Clients must send numbers "
                "that they bit-cast or quantised as floats"
            )
        shared = None if shared_keys is None else _named("shared_keys", shared_keys, list(model))
        seen = floats if distance_keys is None else _named("distance_keys", distance_keys, floats)
        measured = [key for key in seen if shared is None or key in shared]
        if not measured:
            raise ValueError(
                f"none of the keys that travel ({few(shared or ())}) is measured ({few(seen)}): "
                "shared_keys and distance_keys need a float array in common"
            )
        if space is not None:
            space = space.among(formats, measured)
        return cls(formats, frozenset(measured), shared, model, reference, constants, space)

    @classmethod
    def guessed(cls, replies: Sequence[ClientModel]) -> Template:
        """Make the template that most replies share, the first in client order among equals."""
        patterns = [_pattern(arrays) for arrays in replies]
        common = Counter(patterns).most_common(1)
        if not common:
            return cls({}, frozenset())
        # One client must not choose the order of the keys either.
        alike = (tuple(a) for a, p in zip(replies, patterns, strict=True) if p == common[0][0])
        order = Counter(alike).most_common(1)[0][0]
        known = {key: (shape, dtype) for key, shape, dtype in common[0][0]}
        formats = {key: known[key] for key in order}
        return cls(formats, frozenset(_floats(formats)))

    @property
    def narrows(self) -> bool:
        """Whether arrays are rounded when they are sent: bfloat16 is computed with as float32."""
        return any(array.dtype == BFLOAT16 for array in (self.model or {}).values())

    @property
    def travelling(self) -> tuple[str, ...]:
        """The keys that a reply holds unless all replies agree on fewer."""
        return tuple(self.formats) if self.shared is None else self.shared

    @cached_property
    def forms(self) -> Mapping[str, Form]:
        """How the array of each key is usually written."""
        return {key: form_of(*format_) for key, format_ in self.formats.items()}

    @cached_property
    def usual_reply(self) -> int:
        """Bytes of a reply in the dtypes that the model is computed with."""
        return sum(self.forms[key].length for key in self.travelling)

    @cached_property
    def largest_reply(self) -> int:
        """Bytes that a reply may have by default: every number in 64 bits, with room to spare."""
        arrays = (self.model or {}).items()
        return 2**20 + 8 * sum(array.nbytes + len(key) + 128 for key, array in arrays)

    @cached_property
    def largest_rest(self) -> int:
        """Bytes that a reply may have beside the numbers of long arrays: a MiB of metrics.

        And what its arrays are judged by, with room to spare.
        """
        return 2**20 + sum(2**11 + len(key) for key in self.formats)

    def agreed(self, held: Collection[Set[str]], liars: int) -> tuple[str, ...]:
        """Return the keys that are aggregated, in the model's order.

        Parameters
        ----------
        held : sets of keys
            What each reply holds, of the keys that formats are known of.
        liars : int
            How many of the replies may lie.

        Returns
        -------
        keys
            Those that all replies but ``liars`` hold, if these are more than ``liars``, which
            alone decide nothing, a distance sees some of them, and no pair of the space is split.
            Else all that travel.
        """
        fewer = any(len(keys) < len(self.formats) for keys in held)
        if self.shared is None and fewer:
            counts = Counter(map(frozenset, held))
            for keys, support in counts.most_common(1):
                is_split = self.space is not None and self.space.splits(keys)
                decides = counts.total() - support <= liars < support
                if decides and keys & self.measured and not is_split:
                    return tuple(key for key in self.formats if key in keys)
        return self.travelling

    def completed(self, changed: Model) -> Model:
        """Return the whole new model as it travels: with what did not change, and constants."""
        if self.model is None:
            return changed
        return {
            key: self._outgoing(changed[key], array, self.constants.get(key))
            if key in changed
            else array
            for key, array in self.model.items()
        }

    @staticmethod
    def _outgoing(layer: Array, array: Array, constants: Constants | None) -> Array:
        if array.dtype == BFLOAT16:
            layer = narrowed(layer)
        if constants is not None:
            layer = np.array(layer)
            layer[constants.where] = array[constants.where]
        return layer


def check_keys(name: str, keys: Keys | None) -> Keys | None:
    """Return an option that names keys in a form that can be read again and again.

    Raises
    ------
    TypeError
        Unless it is None, a function, or a collection of keys.
    """
    if keys is None or callable(keys):
        return keys
    if isinstance(keys, str | bytes) or not isinstance(keys, Collection):
        raise TypeError(f"{name} must be a list of keys or a function of a key, got {keys!r}")
    return frozenset(map(str, keys))


def _named(name: str, keys: Keys, among: Sequence[str]) -> tuple[str, ...]:
    """Return those of the keys that an option names."""
    if callable(keys):
        found = tuple(key for key in among if keys(key))
    else:
        names = set(map(str, keys))
        unknown = sorted(names - set(among))
        if unknown:
            raise ValueError(f"{name} holds {few(unknown)}, expected some of {few(among)}")
        found = tuple(key for key in among if key in names)
    if not found:
        raise ValueError(f"{name} matches none of {few(among)}")
    return found


def _floats(formats: Mapping[str, Format]) -> list[str]:
    return [key for key, (shape, dtype) in formats.items() if dtype.kind == "f" and 0 not in shape]


def _pattern(arrays: ClientModel) -> tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]:
    return tuple((key, arrays[key].shape, arrays[key].dtype) for key in sorted(arrays))
