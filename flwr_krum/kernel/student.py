"""Student's distribution: what it exceeds by chance.

Source: Abramowitz and Stegun, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import math
from functools import lru_cache

CHANCE = 0.05
"""How often Gaussian noise in one direction misses the bound of a direction, by default."""


@lru_cache(maxsize=64)
def student(freedom: int, chance: float = CHANCE) -> float:
    """Return what a Student variable of so many degrees of freedom exceeds in size by chance.

    Examples
    --------
    >>> round(student(13), 2)
    2.16
    """
    low, high = 0.0, math.pi / 2.0
    for _ in range(60):
        angle = 0.5 * (low + high)
        low, high = (angle, high) if within(angle, freedom) < 1.0 - chance else (low, angle)
    return math.tan(high) * math.sqrt(freedom)


def within(angle: float, freedom: int) -> float:
    """Return the probability that ``|t| < sqrt(freedom) tan(angle)``."""
    cosine, is_odd = math.cos(angle), freedom % 2
    term = cosine if is_odd else 1.0
    total = 0.0 if freedom == 1 else term
    for i in range(2 + is_odd, freedom - 1, 2):
        term *= cosine * cosine * (i - 1) / i
        total += term
    inner = total * math.sin(angle)
    return 2.0 / math.pi * (angle + inner) if is_odd else inner
