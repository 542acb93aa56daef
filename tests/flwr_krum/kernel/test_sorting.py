from __future__ import annotations

import itertools

import pytest

from flwr_krum.kernel.sorting import network


def send_through(values, ranks):
    rows = list(values)
    for first, second, low, high in network(len(rows), ranks):
        a, b = rows[first], rows[second]
        if low:
            rows[first] = min(a, b)
        if high:
            rows[second] = max(a, b)
    return rows


@pytest.mark.parametrize("n", range(1, 13))
def test_a_network_sorts_all_zeros_and_ones_and_so_everything(n):
    for values in itertools.product((0, 1), repeat=n):
        assert send_through(values, range(n)) == sorted(values)


@pytest.mark.parametrize("n", range(1, 11))
def test_a_pruned_network_has_the_wanted_ranks_right(n):
    for first in range(n):
        for last in range(first + 1, n + 1):
            for values in itertools.product((0, 1), repeat=n):
                found = send_through(values, range(first, last))
                assert found[first:last] == sorted(values)[first:last]


def test_a_median_needs_fewer_comparisons_than_sorting():
    for n in (10, 21, 50):
        middle = network(n, range((n - 1) // 2, n // 2 + 1))
        results = sum(c.low + c.high for c in middle)
        assert results < 0.85 * 2 * len(network(n, range(n)))
        assert all(c.low or c.high for c in middle)
