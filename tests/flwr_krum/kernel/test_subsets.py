from itertools import combinations
from math import comb

import numpy as np
import pytest

from flwr_krum.kernel.subsets import IN_CACHE, MOST_IN_TABLE, Halves, most_left_out


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8])
def test_every_set_is_seen_once_with_the_sums_over_its_clients_and_pairs(n):
    rng = np.random.default_rng(n)
    pairs, values = rng.random((n, n)), rng.random(n)
    pairs += pairs.T
    halves = Halves(pairs, n - 1)
    left, right = halves.sums(values)
    for k in range(n):
        seen = []
        for block in halves.leaving(k):
            sums = left[block.left, None] + right[block.right]
            assert sums.shape == block.pairs.shape
            for i in range(sums.size):
                S = halves.members(block, i)
                assert sums.flat[i] == pytest.approx(values[S].sum())
                assert block.pairs.flat[i] == pytest.approx(pairs[np.ix_(S, S)].sum())
                seen.append(tuple(S.tolist()))
        assert sorted(seen) == list(combinations(range(n), n - k))


def test_blocks_are_small_and_come_in_a_fixed_order():
    halves = Halves(np.ones((20, 20)), 9)
    shapes = [block.pairs.shape for block in halves.leaving(9)]
    assert max(a * b for a, b in shapes) <= IN_CACHE
    assert sum(a * b for a, b in shapes) == comb(20, 9)
    assert shapes == [block.pairs.shape for block in halves.leaving(9)]


def test_a_far_client_takes_no_digits_from_sets_without_it():
    rng = np.random.default_rng(1)
    pairs = rng.random((8, 8))
    pairs += pairs.T
    pairs[0] = pairs[:, 0] = 1e30
    halves = Halves(pairs, 1)
    for block in halves.leaving(1):
        for i in range(block.pairs.size):
            S = halves.members(block, i)
            if 0 not in S:
                exact = pairs[np.ix_(S, S)].sum()
                assert block.pairs.flat[i] == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize(
    ("n", "most_sets", "k"),
    [(1, 10**6, 0), (2, 10**6, 0), (20, 10**6, 9), (25, 10**6, 7), (20, 19, 0), (20, 0, -1)],
)
def test_so_many_may_be_left_out_as_there_are_sets_enough(n, most_sets, k):
    assert most_left_out(n, most_sets) == k
    assert k < n / 2


def test_no_table_is_larger_than_what_memory_bears():
    n = 1400  # C(1400, 2) sets are fewer than a million, but a table of them is 1.4 GB
    assert comb(n, 2) < 10**6
    assert most_left_out(n, 10**6) == 1
    half = n // 2
    assert half * (1 + half + comb(half, 2)) > MOST_IN_TABLE
