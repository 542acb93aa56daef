"""Lemma 2 measured: Krum's time over n and d."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flwr_krum.rules import ClientUpdates, Krum


@dataclass(frozen=True)
class Fit:
    """``log time = exponent * log size + constant``, with the exponent's standard error."""

    exponent: float
    error: float


def krum_seconds(n: int, d: int, repeats: int = 5, seed: int = 0) -> float:
    """Return the median processor time of one Krum on n float32 vectors of d coordinates."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d), dtype=np.float32)
    # One way of computing for all sizes: what is fastest changes with n.
    updates = ClientUpdates.from_layers([[row] for row in rows], device="cpu:numpy")
    rule = Krum(max(0, (n - 3) // 4))
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        rule(updates)
        seconds.append(time.process_time() - start)
    return float(np.median(seconds[1:]))  # the first one warms caches


def fit(sizes: Sequence[int], seconds: Sequence[float]) -> Fit:
    """Fit a power law by least squares on logarithms."""
    x, y = np.log(sizes), np.log(seconds)
    design = np.stack([x, np.ones_like(x)], axis=1)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = y - design @ solution
    variance = residual @ residual / max(1, len(x) - 2)
    error = np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])
    return Fit(float(solution[0]), float(error))


def exponents(
    ns: Sequence[int] = (50, 100, 200, 400),
    ds: Sequence[int] = (250_000, 500_000, 1_000_000, 2_000_000, 4_000_000),
    n: int = 20,
    d: int = 50_000,
) -> tuple[Fit, Fit]:
    """Return the exponents of time in n (at d) and in d (at n)."""
    over_n = fit(ns, [krum_seconds(k, d) for k in ns])
    over_d = fit(ds, [krum_seconds(n, k) for k in ds])
    return over_n, over_d
