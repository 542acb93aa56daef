"""A federation of real processes on this machine: one SuperLink and its SuperNodes.

The commands are those of the deployment guide, ``docs/deploy.md``, with free ports of the loopback
interface for addresses and throw-away credentials: TLS, and a registered key per SuperNode.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from simulations.real import warm
from simulations.real.credentials import NodeKey, make_node_key, make_server_credentials
from simulations.real.flower import FlowerError, run_command, run_for_text
from simulations.real.processes import LOGS, MARK, ROOT, free_ports, guarded, start
from simulations.run.config import RunConfig

HOST = "127.0.0.1"
CONNECTION = "real"
"""The SuperLink's name in the federation's own ``config.toml``."""

APP = ("pyproject.toml", "LICENSE", "flwr_krum", "clients", "simulations")
"""What is submitted: Flower would look through every file of the folder that it is given."""

COMPLETED = "finished:completed"
"""The status of a run that ended as it should."""

SUPERLINK_PATIENCE = 60.0
NODES_PATIENCE = 60.0
PATIENCE_PER_NODE = 10.0
"""Seconds to start in; a SuperNode costs some seconds of a core, and cores may be few and busy."""

_PORT_TRIES = 3

NodeConfig = Mapping[str, str | int]


class FederationError(RuntimeError):
    """A federation cannot start, or has lost its SuperLink."""


@dataclass
class Node:
    """A SuperNode: its key, which is registered, and its process, which may come and go."""

    name: str
    config: NodeConfig
    key: NodeKey
    node_id: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        """Whether the SuperNode's process runs."""
        return self.process is not None and self.process.poll() is None


class Federation:
    """A SuperLink with TLS and node authentication, and its SuperNodes, for as long as a block.

    Parameters
    ----------
    folder : Path
        Gets the credentials and Flower's home, which are removed afterwards, and ``logs``.
    node_configs : sequence of mapping
        What each SuperNode is started with: "partition-id", "num-partitions", "role", ...
    forked : sequence of str
        The programs that are forked from one that has loaded everything, of `warm.PROGRAMS`. What
        is forked shares that memory: to measure a program's own, leave it out.
    programs : Path, optional
        The folder of Flower's programs; by default they are those beside this interpreter.

    Attributes
    ----------
    nodes : list of Node
        In the order of ``node_configs``; each is registered under its place in it.
    home : Path
        Flower's home; every process of the federation has it in its environment.
    """

    def __init__(
        self,
        folder: Path,
        node_configs: Sequence[NodeConfig],
        forked: Sequence[str] = warm.PROGRAMS,
        programs: Path | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.home = self.folder / "home"
        self.logs = self.folder / LOGS
        self._doors = self.folder / "doors"
        self.nodes: list[Node] = []
        self.port = 0
        self.superlink: subprocess.Popen[bytes] | None = None
        self._node_configs = node_configs
        self._forked = forked if warm.SUPPORTED else ()
        self._programs = programs or Path(sys.executable).parent
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process of the federation."""
        places = [self._doors, self._programs, os.environ.get("PATH", "")]
        return {
            **os.environ,
            MARK: str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            # Everything lies on this machine: a second is long there, and no proxy can help.
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
            "NO_PROXY": HOST,
            "no_proxy": HOST,
            # Flower looks for its own programs in the path.
            "PATH": os.pathsep.join(map(str, places)),
        }

    def submit(self, config: RunConfig) -> str:
        """Submit this repository's app and return the id of its run."""
        return self.submit_app(self._app(), config.to_config())

    def submit_app(self, app: Path, run_config: Mapping[str, bool | float | str]) -> str:
        """Submit the app in a folder, with settings of its own, and return the id of its run."""
        toml = self.folder / "run.toml"
        toml.write_text("".join(f"{k} = {_toml(v)}\n" for k, v in run_config.items()))
        submitted = ("run", str(app), CONNECTION, "--run-config", str(toml))
        return str(run_command(self.env, *submitted)["run-id"])

    def status(self, run_id: str) -> str:
        """Return the status of a run, such as "running" or "finished:completed".

        Raises
        ------
        FederationError
            If the SuperLink is gone.
        FlowerError
            If it does not answer for long.
        """
        return str(self._look("ls", CONNECTION, "--run-id", run_id)["runs"][0]["status"])

    def save_log(self, run_id: str) -> Path:
        """Fetch what the ServerApp of a run has logged, and return the file that it is in."""
        log = self.logs / "server-app.log"
        log.write_text(run_for_text(self.env, "log", run_id, CONNECTION, "--show"))
        return log

    def check(self) -> None:
        """Raise FederationError if the SuperLink is gone."""
        if self.superlink is not None and (code := self.superlink.poll()) is not None:
            raise FederationError(f"the SuperLink is gone, {_ending(code)}: {self.log_of()}")

    def connected(self) -> set[str]:
        """Return the names of the nodes that are online, in the eyes of the SuperLink."""
        listed = self._look("supernode", "ls", CONNECTION)["nodes"]
        online = {node["node-id"] for node in listed if node["status"] == "online"}
        return {node.name for node in self.nodes if node.node_id in online}

    def wait_until_connected(self, progress: Callable[[set[str]], None] | None = None) -> None:
        """Wait until all nodes are connected; ``progress`` gets those that are, now and then.

        Raises
        ------
        FederationError
            If a process ends, or time is up.
        """
        deadline = time.monotonic() + NODES_PATIENCE + PATIENCE_PER_NODE * len(self.nodes)
        while True:
            self.check()
            connected = self.connected()
            if progress is not None:
                progress(connected)
            if len(connected) == len(self.nodes):
                return
            for node in self.nodes:
                if not node.running:
                    raise FederationError(f"node {node.name} did not start: {_tail(node.log)}")
            if time.monotonic() > deadline:
                missing = ", ".join(n.name for n in self.nodes if n.name not in connected)
                raise FederationError(f"nodes {missing} did not connect in time; see {self.logs}")
            time.sleep(0.5)

    def register(self, key: NodeKey, name: str) -> str:
        """Register a node's key with the SuperLink and return its node id."""
        command = ("supernode", "register", str(key.public), CONNECTION, "--name", name)
        return str(run_command(self.env, *command)["node-id"])

    def start_node(self, node: Node) -> None:
        """Start a node, or start it again: the same key makes it the same node."""
        (port,) = free_ports(1)
        node.process = start(
            [
                *(self._programs / "flower-supernode", "--superlink", f"{HOST}:{self.port}"),
                *("--root-certificates", self._credentials.authority),
                *("--auth-supernode-private-key", node.key.private),
                *("--host", HOST, "--port", str(port)),
                *("--node-config", _node_config(node.config)),
            ],
            self.env,
            node.log,
        )

    def _look(self, *command: str) -> dict[str, Any]:
        """Ask the SuperLink something, and again if it is too busy to answer."""
        deadline = time.monotonic() + SUPERLINK_PATIENCE
        while True:
            self.check()
            try:
                return run_command(self.env, *command)
            except FlowerError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1.0)

    def log_of(self) -> str:
        """Return the end of the SuperLink's log."""
        return _tail(self.logs / "superlink.log")

    def _start(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.logs.mkdir()
        # Not in the folder: the path of a socket must be short.
        short = Path(tempfile.mkdtemp(prefix="flwr-krum-"))
        self._exit.enter_context(guarded(self.home, self.folder, short))
        if self._forked:
            inside = short / "warm.socket"
            warm.write_doors(self._doors, inside, self._forked)
            command: list[str | Path] = ["python", "-m", warm.__name__, inside]
            start(command, self.env, self.logs / "warm.log", cwd=ROOT)
        self._credentials = make_server_credentials(self.folder / "certificates", [HOST])
        self._start_superlink()
        for place, config in enumerate(self._node_configs):
            name = str(place)
            key = make_node_key(self.folder / "keys", f"node-{name}")
            log = self.logs / f"node-{name}.log"
            self.nodes.append(Node(name, config, key, self.register(key, name), log))
        for node in self.nodes:
            self.start_node(node)

    def _start_superlink(self) -> None:
        """Start the SuperLink, on another port if somebody took the one that was free."""
        for left in reversed(range(_PORT_TRIES)):
            (self.port,) = free_ports(1)
            self.superlink = start(
                [
                    *(self._programs / "flower-superlink", "--host", HOST),
                    *("--port", str(self.port)),
                    *("--ssl-ca-certfile", self._credentials.authority),
                    *("--ssl-certfile", self._credentials.certificate),
                    *("--ssl-keyfile", self._credentials.key),
                    *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
                ],
                self.env,
                self.logs / "superlink.log",
            )
            if self._superlink_answers():
                break
            if not left or "address already in use" not in self.log_of():
                raise FederationError(f"the SuperLink did not start: {self.log_of()}")
        (self.home / "config.toml").write_text(
            f'[superlink.{CONNECTION}]\naddress = "{HOST}:{self.port}"\n'
            f"root-certificates = {_toml(str(self._credentials.authority))}\n"
        )

    def _superlink_answers(self) -> bool:
        """Wait for the SuperLink; False if it ends, or does not answer in time."""
        context = ssl.create_default_context(cafile=self._credentials.authority)
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        deadline = time.monotonic() + SUPERLINK_PATIENCE
        assert self.superlink is not None
        while self.superlink.poll() is None and time.monotonic() < deadline:
            health = f"https://{HOST}:{self.port}/health"
            with contextlib.suppress(OSError), direct.open(health, timeout=5.0):
                return True
            time.sleep(0.1)
        return False

    def _app(self) -> Path:
        app = self.folder / "app"
        if not app.exists():
            for name in APP:
                source = ROOT / name
                if source.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source, app / name, ignore=ignored)
                else:
                    app.mkdir(exist_ok=True)
                    shutil.copy(source, app)
        return app


def not_completed(status: str, log: Path) -> FederationError:
    """Return the error that a run is which ended in another way than `COMPLETED`."""
    said = [line for line in log.read_text().splitlines() if line.strip()][-12:]
    return FederationError("\n".join([f"the run is {status}; the end of {log}:", *said]))


def _node_config(config: NodeConfig) -> str:
    """Return a node config as Flower reads it: TOML values, separated by spaces."""
    return " ".join(f"{key}={_toml(value)}" for key, value in config.items())


def _toml(value: bool | float | str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _ending(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _tail(log: Path, lines: int = 6) -> str:
    """Return the last lines of a log that say something."""
    text = log.read_text(errors="replace") if log.exists() else ""
    said = [line for line in text.splitlines() if line.strip()]
    return " | ".join(said[-lines:]) or "its log is empty"
