"""The machine and the versions that numbers belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from benchmarks.measure import CORES
from benchmarks.peers import Contestant

LIBRARIES = ("numpy", "numba", "scipy", "torch", "flwr", "byzfl", "krum", "byzpy")
VECTORS = ("avx512f", "avx2", "asimd", "sse2")
"""Vector instructions as the kernel calls them, widest first."""


def describe(present: Mapping[str, Contestant]) -> dict[str, str]:
    """Return what numbers depend on: processor, memory, libraries, date; no name, no path."""
    neighbours = ", ".join(f"{name} {peer.neighbours}" for name, peer in present.items())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{_processor()}, {CORES} cores, {_vectors()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "python": platform.python_version(),
        "BLAS of numpy": _blas(),
        **{name: found for name in LIBRARIES if (found := _version(name))},
        **({"closest others in a Krum score": neighbours} if neighbours else {}),
    }


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _processor() -> str:
    family = f"family {_cpuinfo('cpu family')} model {_cpuinfo('model')}"
    return f"{_cpuinfo('model name') or platform.machine()} ({family})"


def _vectors() -> str:
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    return next((vector for vector in VECTORS if vector in flags), "no vector instructions")


def _blas() -> str:
    pools: list[dict[str, Any]] = threadpool_info()
    blas = [pool for pool in pools if pool["user_api"] == "blas" and "numpy" in pool["filepath"]]
    return ", ".join(f"{p['internal_api']} {p['version']} {p['architecture']}" for p in blas[:1])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
