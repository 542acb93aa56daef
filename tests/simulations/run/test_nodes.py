import time

from simulations.run.nodes import RoundGrid, wait_for_nodes
from tests.flwr_krum.boundary.grids import ScriptedGrid


class Leaving(ScriptedGrid):
    """A grid whose nodes leave and come back."""

    offline = frozenset()

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if node not in self.offline]


def test_a_round_is_shown_the_same_nodes_until_the_next_begins():
    inner = Leaving([2, 3, 4])
    grid = RoundGrid(inner, timeout=5.0, least=2)
    assert list(grid.get_node_ids()) == [2, 3, 4]
    grid.begin_round()
    inner.offline = {4}
    assert list(grid.get_node_ids()) == [2, 3, 4]
    grid.begin_round()
    assert list(grid.get_node_ids()) == [2, 3]


def test_a_round_waits_for_enough_nodes_and_not_for_ever():
    inner = Leaving([2, 3, 4])
    inner.offline = {3, 4}
    grid = RoundGrid(inner, timeout=0.5, least=2)
    start = time.monotonic()
    grid.begin_round()
    assert 0.5 <= time.monotonic() - start < 20.0
    assert list(grid.get_node_ids()) == [2]


def test_waiting_for_nodes_ends_when_they_are_there():
    start = time.monotonic()
    assert wait_for_nodes(Leaving([2, 3, 4]), 3, 60.0) == [2, 3, 4]
    assert time.monotonic() - start < 20.0
