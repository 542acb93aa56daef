"""Containers of what a client sent that count how many of their entries were looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class CountedDict(dict[str, Any]):
    """A dictionary that counts the entries that were taken out of it one after the other."""

    looked_at = 0

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self.looked_at += 1
            yield key

    def keys(self) -> Any:
        return iter(self)

    def items(self) -> Any:
        return ((key, self[key]) for key in self)

    def values(self) -> Any:
        return (self[key] for key in self)


class CountedList(list[Any]):
    """A list that counts the same."""

    looked_at = 0

    def __iter__(self) -> Iterator[Any]:
        for entry in super().__iter__():
            self.looked_at += 1
            yield entry
