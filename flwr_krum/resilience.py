"""When Krum is (alpha, f)-Byzantine resilient: the paper's theorem as functions of n, f and noise.

Source: Blanchard et al., NIPS 2017, Proposition 1. Let n vectors have mean g and
``E ||V - g||^2 = d sigma^2``, f of them replaced by an adversary. If ``2f + 2 < n`` and
``eta(n, f) sqrt(d) sigma < ||g||``, then Krum's expectation lies within the angle alpha of g::

    sin(alpha) = eta(n, f) sqrt(d) sigma / ||g||
    eta(n, f)^2 = 2 (n - f + (f (n - f - 2) + f^2 (n - f - 1)) / (n - 2f - 2))
"""

from __future__ import annotations

import math

from flwr_krum.checks import whole_number
from flwr_krum.rules.krum import Krum, eta_squared
from flwr_krum.rules.rule import Rule


def eta(n: int, f: int) -> float:
    """Return ``eta(n, f)``: O(n) where f grows with n, O(sqrt(n)) where it does not.

    Raises
    ------
    ValueError
        Unless n and f are whole numbers with f >= 0 and ``2f + 2 < n``.

    Examples
    --------
    >>> round(eta(20, 6), 1)
    14.4
    """
    whole_number("n", n, 1)
    whole_number("f", f, 0)
    if 2 * f + 2 >= n:
        legal = f"f <= {(n - 3) // 2} at n={n}, or n >= {2 * f + 3} at f={f}"
        raise ValueError(f"eta needs 2f + 2 < n, got n={n}, f={f}; legal: {legal}")
    return math.sqrt(eta_squared(n, f))


def sin_alpha(n: int, f: int, *, d: int, sigma: float, grad_norm: float) -> float:
    """Return ``eta(n, f) sqrt(d) sigma / ||g||``; the guarantee holds where it is below 1.

    Parameters
    ----------
    n, f : int
        Clients, and Byzantine ones among them.
    d : int
        Coordinates, >= 1.
    sigma : float
        Standard deviation of one coordinate, >= 0.
    grad_norm : float
        ``||g||`` > 0, in the unit of sigma.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    whole_number("d", d, 1)
    if not 0.0 <= sigma < math.inf:
        raise ValueError(f"sigma must be a finite number >= 0, got {sigma!r}")
    if not 0.0 < grad_norm < math.inf:
        raise ValueError(f"grad_norm must be a finite number > 0, got {grad_norm!r}")
    return eta(n, f) * math.sqrt(d) * sigma / grad_norm


def angle(sine: float) -> float | None:
    """Return alpha in degrees, or None where ``sin(alpha) >= 1`` and there is no guarantee."""
    if not sine >= 0.0:
        raise ValueError(f"sin(alpha) must be a number >= 0, got {sine!r}")
    return math.degrees(math.asin(sine)) if sine < 1.0 else None


def max_byzantine(n: int, rule: Rule | None = None) -> int:
    """Return the largest f that a rule tolerates among n clients.

    Krum and its kin: the largest f with ``2f + 2 < n`` (Proposition 1). Averaging: 0 (Lemma 1).
    Medoid, which has no guarantee of this kind: less than half, the breakdown point of the
    geometric median, for the size of its error only.

    Raises
    ------
    ValueError
        If n is no integer >= 1, or no f >= 0 is legal.
    """
    whole_number("n", n, 1)
    rule = Krum() if rule is None else rule
    if rule.in_proposition_1 and n < 3:
        raise ValueError(f"Krum needs 2f + 2 < n, got n={n}; legal: n >= 3")
    return rule.most(n)


def required_clients(f: int) -> int:
    """Return the smallest n with ``2f + 2 < n``."""
    return 2 * whole_number("f", f, 0) + 3
