"""Who is left out of sampling, for replies that were refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flwr_krum.boundary.replies import ClientId, Refused, client_order


class Quarantine:
    """Count the refusals of each client, and leave those out who have too many.

    Parameters
    ----------
    after : int, optional
        Refusals from which on a client is left out; None leaves nobody out.
    """

    def __init__(self, after: int | None) -> None:
        self._after = after
        self._refusals: Counter[ClientId] = Counter()

    def note(self, refused: Iterable[Refused]) -> None:
        """Remember the refusals of a round."""
        self._refusals.update(refusal.client for refusal in refused)

    def among(self, sampled: Iterable[ClientId], spare: int) -> tuple[ClientId, ...]:
        """Return the sampled clients that are left out, in client order.

        Parameters
        ----------
        sampled : iterable of client ids
        spare : int
            How many may be left out at most; those of most refusals go first.
        """
        if self._after is None:
            return ()
        ordered = sorted(sampled, key=client_order)
        due = [client for client in ordered if self._refusals[client] >= self._after]
        worst = sorted(due, key=lambda client: -self._refusals[client])
        return tuple(sorted(worst[: max(0, spare)], key=client_order))
