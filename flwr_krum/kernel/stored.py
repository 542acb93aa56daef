"""Arrays whose numbers lie in a file: what is too large for memory, read in blocks of columns.

A `StoredArray` has the shape, the dtype and, block by block, the numbers of the array that was
written. Whoever takes slices of a flat layer need not ask where it lies. What asks for all of it
at once gets it, in memory: that is right as well, and only larger.

Files are read, never mapped: pages of a map count as memory of the process.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Step: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""What is done to numbers after they were read, one by one, such as a cast."""

BLOCK = 2**19
"""Numbers of an array that are looked at together where all of them are: 2 or 4 MiB."""

AHEAD = 2**22
"""Bytes of each array that the system reads before they are asked for: one disk serves many."""

_advise: Callable[[int, int, int, int], None] | None = getattr(os, "posix_fadvise", None)


class StoredFile:
    """An open file that is closed when nothing in it is used any more, from whatever thread."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def read(self, start: int, target: NDArray[Any]) -> None:
        """Fill an array with the bytes from ``start`` on.

        Raises
        ------
        EOFError
            If they are not there.
        """
        left = target.view(np.uint8).data
        while left:
            count = os.preadv(self.descriptor, [left], start)
            if count == 0:
                raise EOFError("a reply was read after its round")
            left, start = left[count:], start + count

    def expect(self, start: int, stop: int) -> None:
        """Have the system read what will be asked for soon."""
        if _advise is not None and start < stop:
            _advise(self.descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array in a file, in C order there.

    Attributes
    ----------
    file : StoredFile
    start : int
        Where the first number lies.
    written : dtype
        Of the numbers in the file.
    dtype : dtype
        Of the numbers as they are read.
    shape : tuple of int
    order : "C" or "F"
        Of the array in memory that this stands for.
    is_aligned : bool
        Whether compiled code could have read that one.
    is_finite : bool, optional
        Whether no number is NaN or Inf; None where nobody looked.
    steps : tuple of callables
        What is done to the numbers as they are read.
    """

    file: StoredFile
    start: int
    written: np.dtype[Any]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"] = "C"
    is_aligned: bool = True
    is_finite: bool | None = None
    steps: tuple[Step, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return math.prod(self.shape)

    def mapped(self, step: Step, dtype: np.dtype[Any]) -> StoredArray:
        """Return the array of what a step makes of each number."""
        steps = (*self.steps, step)
        return replace(self, dtype=dtype, is_aligned=True, is_finite=None, steps=steps)

    def astype(self, dtype: np.dtype[Any], copy: bool = True) -> StoredArray:
        """Return the array in another dtype; nothing is read yet."""
        if dtype == self.dtype:
            return self
        return self.mapped(lambda numbers: numbers.astype(dtype), dtype)

    def ravel(self) -> StoredArray:
        """Return the same numbers in a row."""
        return replace(self, shape=(self.size,), order="C")

    def __getitem__(self, part: slice | NDArray[np.intp]) -> NDArray[Any]:
        """Read some numbers of an array of one dimension: a slice of them, or those at places."""
        if isinstance(part, slice):
            first, last, _ = part.indices(self.size)
            return self._read(first, max(first, last))
        found = np.empty(part.size, self.dtype)
        block = part // BLOCK
        for k in np.unique(block).tolist():
            here = block == k
            numbers = self._read(k * BLOCK, min(self.size, (k + 1) * BLOCK))
            found[here] = numbers[part[here] - k * BLOCK]
        return found

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield all numbers in their order, `BLOCK` at a time."""
        for first in range(0, self.size, BLOCK):
            yield self._read(first, min(self.size, first + BLOCK))

    def min(self) -> Any:
        """Return the smallest number; NaN if there is one."""
        return np.min([block.min() for block in self.blocks()])

    def max(self) -> Any:
        """Return the largest number; NaN if there is one."""
        return np.max([block.max() for block in self.blocks()])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it, in memory."""
        whole = np.empty(self.size, self.dtype)
        for first in range(0, self.size, BLOCK):
            last = min(self.size, first + BLOCK)
            whole[first:last] = self._read(first, last)
        return np.asarray(whole.reshape(self.shape), dtype, order=self.order)

    def _read(self, first: int, last: int) -> NDArray[Any]:
        numbers = np.empty(last - first, self.written)
        begin, end = first * self.written.itemsize, last * self.written.itemsize
        # Blocks are read in about their order: at the first of a stretch the next one is due.
        whole = self.size * self.written.itemsize
        for stretch in range(-(-begin // AHEAD), -(-end // AHEAD)):
            soon = (stretch + 1) * AHEAD
            self.file.expect(self.start + soon, self.start + min(whole, soon + AHEAD))
        self.file.read(self.start + begin, numbers)
        for step in self.steps:
            numbers = step(numbers)
        return numbers


Layer: TypeAlias = NDArray[Any] | StoredArray
"""A layer of a client's model, wherever it lies."""


def address_of(layer: Layer) -> int:
    """Return where a layer begins in memory; 0 where it lies in a file."""
    return 0 if isinstance(layer, StoredArray) else layer.ctypes.data
