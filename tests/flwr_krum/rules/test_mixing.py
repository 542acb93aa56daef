"""Chains of mixings and rules: what they need, and what they are."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.rules import (
    Average,
    Bucketing,
    ClientUpdates,
    Clipping,
    Krum,
    Median,
    NearestNeighborMixing,
    OneMinusPKrum,
)


@pytest.mark.parametrize(
    ("chain", "least"),
    [
        (NearestNeighborMixing(2) | Average(2), 2 * 2 + 1),  # the mixing's
        (NearestNeighborMixing(2) | Krum(2), 2 * 2 + 3),  # the rule's
        (NearestNeighborMixing(2) | NearestNeighborMixing(2) | Average(2), 2 * 2 + 1),
        (Bucketing(2, s=2, seed=0) | Krum(2), 2 * (2 * 2 + 3) - 1),  # in buckets of two, one of one
        (Bucketing(2, s=2, seed=0) | NearestNeighborMixing(2) | Average(2), 2 * (2 * 2 + 1) - 1),
    ],
)
def test_a_chain_runs_from_the_number_of_clients_with_which_each_part_has_enough(chain, least):
    V = np.random.default_rng(0).standard_normal((least, 3))
    assert chain.least(2) == least
    assert np.isfinite(chain(V).vector).all()
    with pytest.raises(ValueError, match=f"n >= {least}"):
        chain(V[:-1])


@pytest.mark.parametrize(
    ("rule", "is_bounded"), [(Median(1), True), (Average(1), False), (OneMinusPKrum(1), False)]
)
def test_a_chain_is_bounded_where_the_rule_behind_is(rule, is_bounded):
    assert (NearestNeighborMixing(1) | rule).is_bounded is is_bounded


def test_several_mixings_rank_where_one_of_them_does():
    ranks, does_not = NearestNeighborMixing(1), Clipping(1)
    assert [(a | b).is_ranking for a in (ranks, does_not) for b in (ranks, does_not)] == [
        True, True, True, False
    ]  # fmt: skip


def test_of_updates_that_are_all_alike_each_is_among_its_own_neighbours():
    updates = ClientUpdates.from_layers([(np.ones(3),)] * 5)
    M = NearestNeighborMixing(2).matrix(ClientGeometry(updates), 1)
    assert np.diagonal(M).tolist() == [1 / 3] * 5
    assert np.count_nonzero(M, axis=1).tolist() == [3] * 5


def test_what_is_neither_rule_nor_mixing_stands_behind_no_mixing():
    with pytest.raises(TypeError, match="unsupported operand"):
        NearestNeighborMixing(1) | 3


def test_a_mixing_without_a_definition_for_declared_weights_says_so():
    geometry = ClientGeometry(ClientUpdates.from_layers([(np.ones(3),)] * 5))
    with pytest.raises(NotImplementedError, match="Clipping has no definition with declared"):
        Clipping(1).weighed(geometry, np.full(5, 0.2))
