from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.supercore.task_identity import TaskIdentity

from flwr_krum.kernel import exact
from tests.flwr_krum import eventful, hard_inputs
from tests.flwr_krum.federations import Federation, FitApi, MessageApi
from tests.flwr_krum.hard_inputs import HARD, Draw
from tests.flwr_krum.runs import api as api
from tests.flwr_krum.runs import play as play


@pytest.fixture(params=["cpu:numpy", "cpu:numba"])
def device(request: pytest.FixtureRequest) -> str:
    """The ways in which a CPU can compute."""
    if request.param == "cpu:numba":
        pytest.importorskip("numba")
    return str(request.param)


@pytest.fixture
def exact_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rankings that share the exact distances of what they rank: most of what ties cost."""
    monkeypatch.setattr(exact, "exact_squared_distance", hard_inputs.exact_distance_once)


@pytest.fixture(scope="session", params=HARD)
def hard_draws(request: pytest.FixtureRequest) -> list[Draw]:
    """Inputs on which rounding decides, kind by kind."""
    return hard_inputs.hard_draws(request.param)


@pytest.fixture(scope="session", params=[MessageApi, FitApi], ids=["serverapp", "server"])
def federation(request: pytest.FixtureRequest) -> Federation:
    """One federation for each API."""
    return Federation(request.param())


@pytest.fixture(autouse=True, scope="module")
def _task_identity() -> Iterable[None]:
    """Let Flower's instruction messages be built outside a run."""
    names = ("_task_id", "_run_id", "_node_id")
    before = [getattr(TaskIdentity, name) for name in names]
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    yield
    for name, value in zip(names, before, strict=True):
        setattr(TaskIdentity, name, value)


@pytest.fixture(scope="session")
def message_federation() -> Federation:
    """A federation of the Message API, for what ``aggregate_fit`` cannot carry."""
    return Federation(MessageApi())


@pytest.fixture(scope="session")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of four rounds in which something of everything happens."""
    path = tmp_path_factory.mktemp("first-run") / "journal.jsonl"
    eventful.write_journal(path)
    return path
