"""The nodes of a run as its server sees them, and waiting for them that ends.

Flower waits for ever for nodes that never come back. `RoundGrid` shows a strategy those that are
there when a round begins.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from flwr.serverapp import Grid

from flwr_krum.boundary.arrivals import ArrivingGrid


class RoundGrid(ArrivingGrid):
    """A grid that waits ``timeout`` seconds at most, for replies and for nodes.

    Parameters
    ----------
    grid : Grid
        Does the work.
    timeout : float
        Seconds to wait for replies, and for enough nodes at the beginning of a round.
    least : int
        Nodes without which a round is not worth beginning.
    """

    def __init__(self, grid: Grid, timeout: float, least: int) -> None:
        super().__init__(grid, timeout)
        self._patience = timeout
        self._least = least
        self._connected: list[int] | None = None

    def begin_round(self) -> None:
        """Fix the nodes of the coming round: those connected once there are enough, or in the end.

        Strategies count the nodes before they sample them, and wait for ever if one has left in
        between; so they are shown the same nodes until the next round begins.
        """
        self._connected = wait_for_nodes(self._grid, self._least, self._patience)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of the round."""
        if self._connected is None:
            return super().get_node_ids()
        return list(self._connected)


def wait_for_nodes(grid: Grid, count: int, timeout: float) -> list[int]:
    """Return the connected nodes as soon as there are ``count``, or those there are in the end."""
    deadline = time.monotonic() + timeout
    while len(nodes := list(grid.get_node_ids())) < count and time.monotonic() < deadline:
        time.sleep(0.2)
    return nodes
