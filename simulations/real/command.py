"""``python -m simulations real``: the federation of a virtual run as processes of this machine."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from flwr.common.config import parse_config_args
from rich.console import Console
from rich.live import Live
from typer import Option

from flwr_krum.journal import read_journal
from flwr_krum.report import RoundReport
from simulations.real.federation import (
    COMPLETED,
    Federation,
    FederationError,
    Node,
    NodeConfig,
    not_completed,
)
from simulations.real.flower import FlowerError
from simulations.real.view import Federated, NodeState, activity, line_of, losses, render
from simulations.run.config import RunConfig
from simulations.run.folder import alone_in
from simulations.run.history import HISTORY_FILE, JOURNAL_FILE, RoundRecord, read_history
from simulations.show.options import with_settings
from simulations.show.sentences import say

LOCK_FILE = "real.lock"
"""Of this command; the ServerApp that it starts is another process, with a lock of its own."""
POLL = 1.0

_SETTINGS = (
    "num_clients", "f", "attack", "rule", "num_server_rounds", "task", "api", "seed",
    "quorum", "round_timeout", "resume", "run_dir",
)  # fmt: skip
_DEFAULTS = {"num_clients": 10, "num_server_rounds": 5, "run_dir": "runs/real"}


class Interrupted(KeyboardInterrupt):
    """A signal asks the command to end."""


def add_real(app: typer.Typer, conclude: Callable[[RunConfig, Console], None]) -> None:
    """Add the command to a command line.

    Parameters
    ----------
    app : typer.Typer
        The command line.
    conclude : callable, (config, console) -> None
        Says what came out of a run, and draws its picture: the same as for a virtual run.
    """

    @app.command()
    @with_settings(_SETTINGS, _DEFAULTS, called={"num_clients": "--nodes", "f": "--byzantine"})
    def real(
        options: dict[str, Any],
        run_config: Annotated[
            str, Option(help="Any other settings, as for `flwr run`: \"batch-size=32 fault='inf'\"")
        ] = "",
    ) -> None:
        """Run a federation of real processes: TLS, registered keys, a SuperNode per client.

        The model has the bytes of a virtual run with --engine inprocess.
        """
        console = Console()
        try:
            others = parse_config_args([run_config])
            config = RunConfig.from_config({"roles": "node", **options, **others})
            with _interruptible(), alone_in(Path(config.run_dir), LOCK_FILE):
                _run(config, console)
        except (FederationError, FlowerError) as error:
            say(console, error)
            raise typer.Exit(1) from error
        except Interrupted as name:
            with contextlib.suppress(OSError):  # the terminal may be what is gone
                console.print(f"{name}: all is ended; the same command with --resume goes on")
            raise typer.Exit(130) from None
        conclude(config, console)
        for line in losses(read_journal(Path(config.run_dir, JOURNAL_FILE))):
            console.print(line, soft_wrap=True, highlight=False)


def node_configs(config: RunConfig) -> list[NodeConfig]:
    """Return what each node of a run is started with: the last f attack, the others are honest."""
    n, byzantine = config.settings.num_clients, config.byzantine_clients()
    return [
        {
            "partition-id": place,
            "num-partitions": n,
            "role": config.settings.attack if place in byzantine else "honest",
        }
        for place in range(n)
    ]


def _run(config: RunConfig, console: Console) -> None:
    """Run a federation from its start to its end; its results are in the run folder.

    Raises
    ------
    FederationError
        If it cannot start, its SuperLink dies, or the run ends in another way than completed.
    """
    folder = Path(config.run_dir)
    federation = Federation(folder / "federation", node_configs(config))
    watch = _Watch(config, federation, console)
    watch.stage(f"starting a SuperLink and {config.settings.num_clients} SuperNodes")
    with federation, watch:
        federation.wait_until_connected(lambda connected: watch.update("connecting", connected))
        run_id = federation.submit(config)
        status = "submitted"
        try:
            while not status.startswith("finished"):
                time.sleep(POLL)
                status = federation.status(run_id)
                watch.update(status)
        except FederationError as error:
            done = watch.rounds_done()
            raise FederationError(
                f"{error}\n{done} rounds are done; the same command with --resume goes on"
            ) from error
        log = federation.save_log(run_id)
    if status != COMPLETED:
        raise not_completed(status, log)


class _Watch:
    """The live view: drawn anew at each update on a terminal, else a line per stage and round."""

    def __init__(self, config: RunConfig, federation: Federation, console: Console) -> None:
        self._config = config
        self._federation = federation
        self._console = console
        self._folder = Path(config.run_dir)
        self._printed = 0
        self._stage = ""
        # Rounds of an older run are replaced when the ServerApp starts, not now.
        self._since = 0.0 if config.resume else time.time()
        # No thread of its own: the loop that follows the run draws.
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> None:
        if self._console.is_terminal:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the terminal may be what is gone
            self._live.stop()

    def stage(self, what: str) -> None:
        """Say what the command has come to, once, where there is no terminal to draw on."""
        if not self._console.is_terminal and what != self._stage:
            self._stage = what
            self._console.print(what, soft_wrap=True, highlight=False)

    def update(self, status: str, connected: set[str] | None = None) -> None:
        """Show the run as it is now."""
        reports, history = self._rounds()
        if self._console.is_terminal:
            nodes = [_state_of(node, connected) for node in self._federation.nodes]
            rounds = self._config.num_server_rounds
            run = Federated(status, rounds, nodes, reports, history)
            self._live.update(render(run), refresh=True)
            return
        records = {record.round: record for record in history}
        for report in reports:
            if self._printed < report.server_round and report.server_round in records:
                self._printed = report.server_round
                self._console.print(
                    line_of(report, records[report.server_round]), soft_wrap=True, highlight=False
                )
        if connected is not None:
            status = f"{status}: {len(connected)} of {len(self._federation.nodes)} SuperNodes"
        self.stage(status)

    def rounds_done(self) -> int:
        """Return how many rounds are on record."""
        _, history = self._rounds()
        return history[-1].round if history else 0

    def _rounds(self) -> tuple[list[RoundReport], list[RoundRecord]]:
        journal, history = self._folder / JOURNAL_FILE, self._folder / HISTORY_FILE
        if not history.exists() or history.stat().st_mtime < self._since:
            return [], []
        return read_journal(journal) if journal.exists() else [], read_history(self._folder)


def _state_of(node: Node, connected: set[str] | None) -> NodeState:
    if not node.running:
        code = None if node.process is None else node.process.returncode
        return NodeState(int(node.name), str(node.config["role"]), f"ended ({code})", "gone")
    now = activity(node.log.read_text(errors="replace"))
    if connected is not None:
        now = "connected" if node.name in connected else "starting"
    assert node.process is not None
    process = f"pid {node.process.pid}"
    return NodeState(int(node.name), str(node.config["role"]), process, now)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the signals that end a program into an exception, so that it ends in order."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number).name)

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
