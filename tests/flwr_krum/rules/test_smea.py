from itertools import combinations

import numpy as np
import pytest

from flwr_krum.rules import SMEA, smea

RNG = np.random.default_rng(0)
HONEST = RNG.standard_normal((7, 5))
CLOUDS = {
    "nobody far": RNG.standard_normal((9, 5)),
    "two far": np.vstack([HONEST, 50 * RNG.standard_normal((2, 5))]),
    "two alike and near": np.vstack([HONEST, np.tile(HONEST.mean(0) - HONEST.std(0), (2, 1))]),
    "on a line": np.outer(RNG.standard_normal(9), np.ones(5)),
    "three pairs": np.repeat(RNG.standard_normal((3, 5)), 3, axis=0),
    "all alike": np.ones((9, 5)),
    "one coordinate": np.arange(9.0)[::-1, None] ** 2,
    "huge": 1e30 * RNG.standard_normal((9, 5)),
    "tiny": 1e-30 * RNG.standard_normal((9, 5)),
}


def tried_one_by_one(G, f):
    """Return the first of the sets whose covariance has the smallest top eigenvalue."""
    tops = []
    for chosen in combinations(range(len(G)), len(G) - f):
        deviations = G[list(chosen)] - G[list(chosen)].mean(axis=0)
        tops.append((float(np.linalg.norm(deviations, 2)) ** 2, chosen))
    least = min(top for top, _ in tops)
    return next(chosen for top, chosen in tops if top <= least * (1 + 1e-9))


@pytest.mark.parametrize("f", [1, 2, 4])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_sets_that_are_put_aside_are_not_the_best(cloud, f):
    G = CLOUDS[cloud]
    assert tuple(sorted(SMEA(f)(G).selected)) == tried_one_by_one(G, f)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_bound_is_never_above_the_eigenvalue(cloud):
    G = CLOUDS[cloud]
    squared = ((G[:, None] - G[None]) ** 2).sum(axis=-1)
    sets, inside = smea._sets(9, 7)
    tops = smea._tops(squared, sets)
    assert np.all(smea._lower_bounds(-0.5 * squared, inside) <= tops * (1 + 1e-12) + 1e-300)
