"""Who the nodes of a run are: names that are their own in every run, and a count that holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from flwr_krum.boundary.replies import ClientId, on_one_line


def name_nodes(grid: Grid) -> tuple[dict[int, ClientId], list[str]]:
    """Give every connected node a name that is its own in every run.

    That is the name under which its key was registered with the SuperLink, where it has one (a
    number is taken as such), else the partition that it says it holds. A name that two nodes
    claim is nobody's, and a registered one is never another's: no node can pass for another.

    Returns
    -------
    names : dict of node id to name
        Without the nodes that have none.
    problems : list of str
        Why they have none.
    """
    nodes = {node.node_id: node.name for node in grid.get_nodes()}
    registered = {node: _as_client_id(name) for node, name in nodes.items() if name}
    unnamed = [node for node in nodes if node not in registered]
    questions = [Message(RecordDict(), node, "query") for node in unnamed]
    answers = {reply.metadata.src_node_id: reply for reply in grid.send_and_receive(questions)}
    claims: dict[int, ClientId] = {}
    problems = []
    for node in unnamed:
        try:
            claims[node] = _partition_in(answers.get(node))
        except ValueError as error:
            problems.append(f"node {node} cannot say its partition: {on_one_line(error)}")
    names: dict[int, ClientId] = {}
    # What the operator registered is settled before what nodes say of themselves is heard.
    for claimants in (registered, claims):
        taken, counts = set(names.values()), Counter(claimants.values())
        for node, name in claimants.items():
            if name in taken or counts[name] > 1:
                problems.append(f"node {node} claims the name {name}, which is another's as well")
            else:
                names[node] = name
    return names, problems


def _as_client_id(name: str) -> ClientId:
    return int(name) if name.isdecimal() and len(name) < 19 else name


def _partition_in(reply: Message | None) -> int:
    """Return the partition that a node claims.

    Raises
    ------
    ValueError
        If it claims none, whatever it says instead.
    """
    if reply is None:
        raise ValueError("no answer in time")
    if reply.has_error():
        raise ValueError(reply.error.reason)
    partition = reply.content.metric_records.get("node", MetricRecord()).get("partition-id")
    if not isinstance(partition, int) or partition < 0:
        raise ValueError(f"it answers {partition!r}")
    return partition


class SteadyNodes:
    """The nodes of a grid as they were first counted, as soon as there are enough of them.

    Flower counts the nodes, and samples among them as they are then; if one has left in between,
    it waits for that many without end. So one node that comes and goes could stop a run.

    Parameters
    ----------
    grid : Grid
        Everything else is its own.
    enough : int
        Nodes that the sampling waits for in any case.
    """

    def __init__(self, grid: Grid, enough: int) -> None:
        self._grid = grid
        self._enough = enough
        self._nodes: list[int] = []

    def get_node_ids(self) -> list[int]:
        """Return the nodes."""
        if not self._nodes or len(self._nodes) < self._enough:
            self._nodes = list(self._grid.get_node_ids())
        return list(self._nodes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)
