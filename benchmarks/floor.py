"""The physical floor: one read of all inputs, and n^2 d operations at the speed of a GEMM.

No exact rule on distances can do with less reading; nobody does the products faster than BLAS does
a large float32 matrix product. Both are measured here, in the same run as everything else.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.data import Case
from benchmarks.measure import clocked

READ = "one read"
FLOOR = "floor"


def read(case: Case, threads: int) -> float:
    """Read every number once, on so many cores."""
    if threads == 1:
        return float(sum(np.dot(row, row) for row in case.rows))
    parts = [part for row in case.rows for part in np.array_split(row, threads)]
    with ThreadPoolExecutor(threads) as pool:
        return float(sum(pool.map(lambda part: float(np.dot(part, part)), parts)))


def gemm_flops(size: int = 1536, repeats: int = 5) -> float:
    """Return the operations per second of one core in a large float32 matrix product.

    Run it with BLAS pinned to one thread.
    """
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    out = np.empty_like(a)
    np.matmul(a, a, out=out)
    seconds = [clocked(lambda: np.matmul(a, a, out=out))[1] for _ in range(repeats)]
    return 2.0 * size**3 / float(np.median(seconds))


def floor_seconds(read_seconds: float, n: int, d: int, flops: float) -> float:
    """Return the larger of one read and ``n^2 d`` operations, in seconds."""
    return max(read_seconds, n * n * d / flops)
