"""What the page needs to know of a run, wherever that comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from flwr_krum.boundary.replies import ClientId
from flwr_krum.report import RoundReport


class Evaluation(NamedTuple):
    """How good the model was after a round; 0 is the initial one."""

    round: int
    accuracy: float | None
    loss: float | None


class ShownRun(Protocol):
    """A run as the page shows it."""

    @property
    def label(self) -> str:
        """What it is called among the others."""

    @property
    def what(self) -> str:
        """What it was, in a line."""

    @property
    def reports(self) -> Sequence[RoundReport]:
        """Its rounds."""

    @property
    def clients(self) -> Sequence[ClientId]:
        """Those that are known before a round names them."""

    @property
    def byzantine(self) -> frozenset[ClientId] | None:
        """Who attacks; None where nobody knows, as outside of simulations."""

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """How good the model was, as far as it was measured."""

    @property
    def wanted_rounds(self) -> int | None:
        """How many rounds it is to have."""

    @property
    def batch_size(self) -> int | None:
        """The clients' mini-batch, for the advice."""

    @property
    def outcome(self) -> Mapping[str, str]:
        """What the summary says before the reports, the same headings for all runs of a page."""

    @property
    def setup(self) -> Mapping[str, str]:
        """What the summary says behind them, likewise."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What it was made with."""

    @property
    def sources(self) -> Mapping[str, object]:
        """Where it comes from."""
