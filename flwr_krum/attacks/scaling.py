"""Lengths and squares of numbers of any size: divided by a power of two, which rounds nothing."""

from __future__ import annotations

import math

import numpy as np

from flwr_krum.kernel.arrays import Float64

SAFE = 2.0**-400
"""Between this and its inverse, a norm has lost nothing to squares beyond what a float64 holds."""


def scaled(values: Float64) -> tuple[Float64, int]:
    """Return values divided by ``2^exponent``, at most 1 in size, and the exponent.

    What is not finite, or all zero, is left as it is.
    """
    largest = float(np.abs(values).max(initial=0.0))
    exponent = math.frexp(largest)[1] if math.isfinite(largest) else 0
    divided: Float64 = np.ldexp(values, -exponent)
    return divided, exponent


def length(vector: Float64) -> float:
    """Return the Euclidean norm; infinite only if no float64 holds it."""
    with np.errstate(over="ignore"):
        plain = float(np.linalg.norm(vector))
    if SAFE < plain < 1.0 / SAFE:
        return plain
    divided, exponent = scaled(vector)
    return float(np.ldexp(np.linalg.norm(divided), exponent))
