"""Where the arithmetic of a round happens: NumPy, compiled kernels, or a GPU.

The choice changes how long a round takes and the last digits of a score; never who is selected.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec

DEVICES = ("cpu", "cpu:numpy", "cpu:numba", "cuda", "cuda:0 and so on")
"""Legal devices: "cpu" is the fastest way that is installed, the others name one."""

MOST_COMPILED = 500
"""Clients up to which compiled kernels were measured to beat NumPy's calls and BLAS."""

MOST_DIFFERENCES = 200
"""Clients up to which compiled differences were measured to beat float32 products of BLAS."""

LEAST_COMPILED = 2**12
"""Numbers in all updates from which the compiled kernels are worth their calls."""

_LEGAL = re.compile(r"cpu(:numpy|:numba)?|cuda(:\d{1,3})?")


def check_device(device: object) -> None:
    """Raise ValueError unless the device is one of DEVICES."""
    if not (isinstance(device, str) and _LEGAL.fullmatch(device)):
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")


def is_cuda(device: str) -> bool:
    """Say whether the device is a GPU."""
    return device.startswith("cuda")


def is_compiled(device: str, n: int, d: int) -> bool:
    """Say whether the device uses compiled kernels for n updates of d numbers."""
    if device == "cpu":
        return n <= MOST_COMPILED and n * d >= LEAST_COMPILED and numba_is_installed()
    return device == "cpu:numba"


@cache
def numba_is_installed() -> bool:
    """Say whether numba can be imported; it is the extra ``fast``."""
    return find_spec("numba") is not None
