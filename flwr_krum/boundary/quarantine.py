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
        self._refused_in: defaultdict[ClientId, list[int]] = defaultdict(list)

    def note(self, server_round: int, refused: Sequence[Refused], received: int) -> None:
        """Remember the refusals of a round that speak against their clients.

        Liars are fewer than half of the clients. Where more than half of the replies are refused
        for one and the same reason, whatever the numbers in it, honest clients are among them: the
        reason lies in what all were sent or told.

        Parameters
        ----------
        server_round : int
        refused : sequence of Refused
        received : int
            How many other replies were accepted.
        """
        kinds = [_NUMBER.sub("#", refusal.reason) for refusal in refused]
        common = Counter(kinds)
        heard = len(refused) + received
        for refusal, kind in zip(refused, kinds, strict=True):
            if 2 * common[kind] <= heard:
                self._refused_in[refusal.client].append(server_round)

    def among(
        self, sampled: Iterable[ClientId], spare: int, readmitted: Mapping[str, int]
    ) -> tuple[ClientId, ...]:
        """Return the sampled clients that are left out, in client order.

        Parameters
        ----------
        sampled : iterable of client ids
        spare : int
            How many may be left out at most; those of most refusals go first.
        readmitted : mapping of a client's text to a round
            Refusals up to that round do not count.
        """
        if self._after is None:
            return ()
        ordered = sorted(sampled, key=client_order)
        refusals = {
            client: sum(t > readmitted.get(str(client), 0) for t in self._refused_in[client])
            for client in ordered
            if client in self._refused_in
        }
        due = [client for client, count in refusals.items() if count >= self._after]
        worst = sorted(due, key=lambda client: -refusals[client])
        return tuple(sorted(worst[: max(0, spare)], key=client_order))
