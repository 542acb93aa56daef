"""What is left in memory of an array that a client sent and whose numbers lie in a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from flwr_krum.kernel.stored import StoredArray


@dataclass(frozen=True, eq=False)
class Filed:
    """The beginning of npy bytes, by which they are judged, and where their numbers are.

    It stands where the bytes were: ``len`` is theirs, and so is every slice of the header.

    Attributes
    ----------
    head : bytes
    length : int
    array : StoredArray, optional
        None where the bytes will be refused by their head or their length, and were let go.
    """

    head: bytes = field(repr=False)
    length: int
    array: StoredArray | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: Any) -> Any:
        return self.head[part]


Sent: TypeAlias = bytes | Filed
"""An array as it came: npy bytes, wherever they lie."""
