"""U1: what the paper fixes exactly, checked without a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flwr_krum.resilience import eta
from flwr_krum.rules import Average, Krum, Medoid, MultiKrum, Rule
from flwr_krum.rules.krum import inverse_square_root


@dataclass(frozen=True)
class Fact:
    """A statement, what it demands, and what was found."""

    says: str
    expected: str
    found: str

    @property
    def holds(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.found


def facts() -> list[Fact]:
    """Work out every fact.

    Returns
    -------
    list of Fact
        The rules' relations on random vectors (n = 20, f = 6), ties, the bound on f, the chance of
        1-p Krum, and eta(n, f) as the paper defines it.
    """
    V = np.random.default_rng(0).standard_normal((20, 50))
    twins = np.array([[9.0], [0.0], [5.0], [0.0], [0.0], [0.0], [0.0]])
    chances = [inverse_square_root(t) for t in range(1, 501)]
    one, all_ = MultiKrum(6, m=1)(V), MultiKrum(6, m=20)(V)
    return [
        Fact("Multi-Krum with m = 1 is Krum", "same", _same(one.vector, Krum(6)(V).vector)),
        Fact("Multi-Krum with m = n is averaging", "same", _same(all_.vector, Average()(V).vector)),
        Fact("Krum: of equal scores the smallest index", "1", str(Krum(1)(twins).selected[0])),
        Fact("Medoid: of equal sums the smallest index", "1", str(Medoid()(twins).selected[0])),
        Fact("2f + 2 < n is demanded: n = 20, f = 8", "runs", _runs(lambda: Krum(8), 20)),
        Fact("2f + 2 < n is demanded: n = 20, f = 9", "refused", _runs(lambda: Krum(9), 20)),
        Fact("1-p Krum: p_1 = 1", "1", f"{chances[0]:g}"),
        Fact("1-p Krum: sum of p_t over 500 rounds", "43.28", f"{sum(chances):.2f}"),
        *(
            Fact(f"eta({n}, {f})", expected, f"{eta(n, f):.1f}")
            for n, f, expected in (
                (15, 5, "14.0"),
                (20, 6, "14.4"),
                (20, 7, "18.9"),
                (40, 18, "84.9"),
            )
        ),
    ]


def _same(a: np.ndarray, b: np.ndarray) -> str:
    return "same" if np.allclose(a, b, rtol=1e-12, atol=0.0) else "different"


def _runs(rule: Callable[[], Rule], n: int) -> str:
    try:
        rule().check(n)
    except ValueError:
        return "refused"
    return "runs"
