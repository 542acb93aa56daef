"""``python -m flwr_krum.nodes``: who takes part in a run, and the operator's word on that."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flwr_krum.boundary.replies import ClientId, client_order, on_one_line, quoted
from flwr_krum.fates import Fate, fates
from flwr_krum.journal import read_journal
from flwr_krum.lines import writing
from flwr_krum.lock import Lock
from flwr_krum.orders import Orders, orders_beside, read_orders, write_orders
from flwr_krum.report import RoundReport, time_after

_WHY = 60
"""Characters of a reason that the list shows; the journal has the rest."""

_COUNTED: tuple[Fate, ...] = ("selected", "passed over", "refused", "failed", "silent")


class OrderError(ValueError):
    """An order cannot be given; the message says why."""


@dataclass(frozen=True)
class Run:
    """What is known of a run: its rounds, and the orders about its nodes."""

    reports: Sequence[RoundReport]
    orders: Orders

    @property
    def nodes(self) -> list[str]:
        """Every node that a round or an order names, numbers first."""
        named = {str(client) for report in self.reports for client in fates(report)}
        return sorted(named | self.orders.barred, key=client_order)


def main(arguments: Sequence[str] | None = None) -> int:
    """List nodes, or give an order about some; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.order == "list":
            lines = list(listed(_run(options.journal)))
        else:
            lines = list(_ordered(options.journal, options.order, options.nodes))
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(*(on_one_line(line, len(line)) for line in lines), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m flwr_krum.nodes",
        description="Say which nodes of a run are asked. The next round obeys; the run need not "
        "be stopped, and obeys again when it goes on after a stop.",
    )
    orders = parser.add_subparsers(dest="order", required=True)
    for name, told in {
        "list": "every node with what became of it",
        "quarantine": "ask these nodes no more",
        "release": "ask these nodes again, and forgive the refusals up to now",
    }.items():
        order = orders.add_parser(name, help=told, description=told)
        order.add_argument("--journal", type=Path, required=True, help="that of the run")
        if name != "list":
            order.add_argument("nodes", nargs="+", metavar="NODE", help="as the journal names it")
    return parser


def _run(journal: Path) -> Run:
    """Read a run; where its orders are gone, those that its last round obeyed stand."""
    _check_exists(journal)
    reports = read_journal(journal)
    try:
        orders = read_orders(orders_beside(journal))
    except FileNotFoundError:
        orders = Orders(frozenset(reports[-1].bars if reports else ()))
    return Run(reports, orders)


def _check_exists(journal: Path) -> None:
    """Raise OrderError where there is no journal: orders beside it would bar nobody."""
    if not journal.exists():
        raise OrderError(
            f"{journal} does not exist, expected the journal of a run; a run makes it at its start"
        )


def check_names(nodes: Sequence[str], known: Sequence[str]) -> None:
    """Raise OrderError if a name is blank, or has blanks around it, that no round or order has."""
    if odd := [node for node in nodes if node not in known and (node.strip() or None) != node]:
        raise OrderError(
            f"{', '.join(map(quoted, odd))}: expected the name of a node, without blanks around it"
        )


def _ordered(journal: Path, order: str, nodes: Sequence[str]) -> Iterator[str]:
    """Give an order, and yield what is to be said of it."""
    _check_exists(journal)  # before there is a lock beside it
    path = orders_beside(journal)
    with writing(path):
        lock = Lock(path.with_name(path.name + ".lock"), str(path))
    with lock:
        run = _run(journal)
        check_names(nodes, run.nodes)
        give = quarantine if order == "quarantine" else release
        after = replace(run, orders=give(run, nodes))
        write_orders(path, after.orders)
    yield f"barred: {', '.join(after.orders.names) or 'nobody'}"
    yield from remarks(after, [node for node in nodes if node not in run.nodes])


def quarantine(run: Run, nodes: Sequence[str]) -> Orders:
    """Return the orders with these nodes barred, whether or not a round has named them."""
    kept = {node: t for node, t in run.orders.readmitted.items() if node not in nodes}
    return Orders(run.orders.barred.union(nodes), kept)


def release(run: Run, nodes: Sequence[str]) -> Orders:
    """Return the orders with these nodes readmitted, and the refusals up to now forgiven.

    Raises
    ------
    OrderError
        If one is neither barred nor in the journal.
    """
    if unknown := [node for node in nodes if node not in run.nodes]:
        raise OrderError(
            f"{', '.join(unknown)}: neither barred nor named by any round; known are "
            f"{', '.join(run.nodes) or 'none yet'}"
        )
    forgiven = dict.fromkeys(nodes, time_after(run.reports))
    return Orders(run.orders.barred.difference(nodes), {**run.orders.readmitted, **forgiven})


def remarks(run: Run, strangers: Sequence[str]) -> Iterator[str]:
    """Yield what an operator should know before the next round."""
    if strangers:
        yield f"no round has named {', '.join(strangers)} so far: is it spelt as in the journal?"
    if not run.reports:
        return
    last = run.reports[-1]
    known = [client for client, fate in fates(last).items() if fate != "quarantined"]
    known += [client for client in last.barred if not run.orders.bar(client)]
    left = sum(not run.orders.bar(client) for client in known)
    if last.needed is not None and left < last.needed:
        yield (
            f"only {left} of the nodes of round {last.server_round} are left to be asked, and "
            f"{last.rule} needs {last.needed} replies: no round can use them by its rule. With "
            'on_infeasible="skip", the default, the model stays as it is until nodes are '
            "released, others join, or f is lowered"
        )


def listed(run: Run) -> Iterator[str]:
    """Yield a table of the nodes: their state, what became of them in all rounds, and why last."""
    counts: Counter[tuple[str, Fate]] = Counter()
    why: dict[str, str] = {}
    for report in run.reports:
        counts.update((str(client), fate) for client, fate in fates(report).items())
        reasons = [*((r.client, r.reason) for r in report.refused), *report.failed.items()]
        why.update(
            (str(client), f"round {report.server_round}: {on_one_line(text, _WHY)}")
            for client, text in reasons
        )
    rows = [("node", "state", *_COUNTED, "last refused or failed")]
    for node in run.nodes:
        told = [str(counts[node, fate]) for fate in _COUNTED]
        rows.append((on_one_line(node), _state(run, node), *told, why.get(node, "")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(t.ljust(width) for t, width in zip(row, widths, strict=True)).rstrip()


def _state(run: Run, node: str) -> str:
    if node in run.orders.barred:
        return "barred"
    found: dict[ClientId, Fate] = fates(run.reports[-1]) if run.reports else {}
    fate = {str(client): fate for client, fate in found.items()}.get(node)
    if fate is None:
        return "not asked"
    return "in quarantine" if fate == "quarantined" else "asked"


if __name__ == "__main__":
    sys.exit(main())
