"""Have the memory of what is let go given back to the system, and not kept for later."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
"""What glibc's ``mallopt`` calls the size from which a block is the system's own."""

LARGE = 2**17
"""Bytes of a block that goes back as soon as it is freed: where glibc itself begins."""


def give_back() -> None:
    """Have each large block of this process given back when it is freed, from now on.

    glibc raises its limit to the largest block that was freed, up to 32 MiB, and keeps smaller ones
    for the thread that had them: replies that came in sixteen threads one after the other would
    take the memory of sixteen. Other C libraries do not, or are left as they are.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
