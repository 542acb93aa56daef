"""Which refusals speak against a client: not those that most clients share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from flwr_krum.boundary.replies import ClientId, Refused

_NUMBER = re.compile(r"[-+]?\d[\d.e+-]*")


def blamed(refused: Sequence[Refused], received: int) -> list[ClientId]:
    """Return the clients whose refusal counts towards their quarantine.

    Liars are fewer than half of the clients. Where more than half of the replies are refused for
    one and the same reason, whatever the numbers in it, honest clients are among them: the reason
    lies in what all were sent or told.

    Parameters
    ----------
    refused : sequence of Refused
    received : int
        How many other replies were accepted.
    """
    kinds = [_NUMBER.sub("#", refusal.reason) for refusal in refused]
    common = Counter(kinds)
    heard = len(refused) + received
    return [
        refusal.client
        for refusal, kind in zip(refused, kinds, strict=True)
        if 2 * common[kind] <= heard
    ]
