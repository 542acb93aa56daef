"""What one round did, in a form that can be read, logged and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr_krum.intake import ClientId, Refused


@dataclass(frozen=True)
class RoundReport:
    """One round of robust aggregation.

    Attributes
    ----------
    server_round : int
        The round t >= 1.
    rule : str
        The rule in force, with its parameters for this round.
    byzantine : int
        The f in force: the declared one less the refused replies.
    received, refused, failed, silent
        Client ids whose replies were accepted; refused, with the reason; came back as an error,
        with its text; were asked and did not answer.
    scores : mapping of client id to score
        Empty where the rule has none.
    selected : client ids, best first
    weights : mapping of client id to weight, of the selected
    stepped : bool
        Whether the global model moved.
    note : str
        Why it did not, or what else was out of the ordinary.
    seconds : mapping of stage to seconds
    """

    server_round: int
    rule: str
    byzantine: int
    received: tuple[ClientId, ...] = ()
    refused: tuple[Refused, ...] = ()
    failed: Mapping[ClientId, str] = field(default_factory=dict)
    silent: tuple[ClientId, ...] = ()
    scores: Mapping[ClientId, float] = field(default_factory=dict)
    selected: tuple[ClientId, ...] = ()
    weights: Mapping[ClientId, float] = field(default_factory=dict)
    stepped: bool = False
    note: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what an operator wants to read after the round."""
        heard = f"{len(self.received)} accepted, {len(self.refused)} refused"
        lines = [f"{self.rule}: {heard}, {len(self.failed)} failed, {len(self.silent)} silent"]
        lines += [f"refused {refused.client}: {refused.reason}" for refused in self.refused]
        if self.selected:
            lines.append(f"selected: {', '.join(map(str, self.selected))}")
        if self.note:
            lines.append(self.note)
        if not self.stepped:
            lines.append("the global model stays as it is")
        return tree(lines)


def tree(lines: Sequence[str]) -> list[str]:
    """Return the lines as branches in Flower's log style."""
    return [f"\t{'└──' if i == len(lines) - 1 else '├──'} {line}" for i, line in enumerate(lines)]
