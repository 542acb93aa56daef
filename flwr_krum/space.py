"""The space in which distances between models are taken, where it is not that of their arrays."""

from __future__ import annotations

from flwr_krum.boundary.low_rank import LowRank
from flwr_krum.rules.rule import Rule

__all__ = ["LowRank", "check_space"]


def check_space(space: LowRank | None, rule: Rule) -> None:
    """Check that a space is one that the rule has a use for.

    Raises
    ------
    TypeError, ValueError
        If it is no LowRank; if the rule looks at single coordinates.
    """
    if space is None:
        return
    if not isinstance(space, LowRank):
        raise TypeError(f"space must be LowRank(pairs=...) or None, got {space!r}")
    if rule.is_coordinate_wise:
        raise ValueError(
            f"space is given, but {rule} sorts single coordinates of A and of B, which change with "
            "a client's basis, and does not ask for distances alone: leave space out, or take a "
            "rule that weighs clients, such as MultiKrum()"
        )
