"""A run in which a node hangs, and when what it costs is over."""

from pathlib import Path

from flwr_krum.journal import read_journal
from tests.simulations.processes import follow, stopped, until

HANGING = 2
"""The place of the node that hangs, and its name."""

TIMEOUT = 240.0
"""Seconds that a round may take; a busy machine, on which six nodes answer in one, needs them."""

PATIENCE = 900.0
"""Seconds for what takes some rounds: a busy machine may need a minute for each."""


def run_with_a_hanging_node(federation, made):
    """Run an app to its end, and return its reports; a node hangs until a round has missed it.

    It is stopped when the first round is over: by then the server has compiled its kernels.
    """
    journal = Path(made.run_dir, "journal.jsonl")

    def reports():
        return read_journal(journal) if journal.exists() else []

    run_id = federation.submit(made)
    until(reports, PATIENCE)
    with stopped(federation.nodes[HANGING].process):
        before = len(reports())
        until(lambda: any(map(is_missed, reports()[before:])), PATIENCE)
    assert follow(federation, run_id, PATIENCE) == "finished:completed"
    return reports()


def is_missed(report):
    """Late or silent; or failed, where the SuperLink took it for gone before the round was over."""
    return HANGING in {*report.late, *report.silent, *report.failed}
