"""Who is left out of sampling, for replies that were refused."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from flwr_krum.boundary.replies import ClientId, Refused, client_order

_NUMBER = re.compile(r"[-+]?\d[\d.e+-]*")


class Quarantine:
    """Count the refusals of each client, and leave those out who have too many.

    Parameters
    ----------
    after : int, optional
        Refusals from which on a client is left out; None leaves nobody out.
    """

    def __init__(self, after: int | None) -> None:
        self._after = after
        self._refused_in: defaultdict[ClientId, list[str]] = defaultdict(list)

    def note(self, time: str, refused: Sequence[Refused], received: int) -> None:
        """Remember the refusals of a round that speak against their clients.

        Liars are fewer than half of the clients. Where more than half of the replies are refused
        for one and the same reason, whatever the numbers in it, honest clients are among them: the
        reason lies in what all were sent or told.

        Parameters
        ----------
        time : str
            When the round was over, as in its report.
        refused : sequence of Refused
        received : int
            How many other replies were accepted.
        """
        kinds = [_NUMBER.sub("#", refusal.reason) for refusal in refused]
        common = Counter(kinds)
        heard = len(refused) + received
        for refusal, kind in zip(refused, kinds, strict=True):
            if 2 * common[kind] <= heard:
                self._refused_in[refusal.client].append(time)

    def among(
        self, sampled: Iterable[ClientId], spare: int, readmitted: Mapping[str, str]
    ) -> tuple[ClientId, ...]:
        """Return the sampled clients that are left out, in client order.

        Parameters
        ----------
        sampled : iterable of client ids
        spare : int
            How many may be left out at most; those of most refusals go first.
        readmitted : mapping of a client's text to a time
            Refusals up to then do not count.
        """
        if self._after is None:
            return ()
        ordered = sorted(sampled, key=client_order)
        refusals = {
            client: self._count(client, readmitted.get(str(client)))
            for client in ordered
            if client in self._refused_in
        }
        due = [client for client, count in refusals.items() if count >= self._after]
        worst = sorted(due, key=lambda client: -refusals[client])
        return tuple(sorted(worst[: max(0, spare)], key=client_order))

    def _count(self, client: ClientId, forgiven: str | None) -> int:
        """Count the refusals of a client, after the time up to which they are forgiven."""
        times = self._refused_in[client]
        return len(times) if forgiven is None else sum(time > forgiven for time in times)
