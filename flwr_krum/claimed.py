"""What clients report about themselves, aggregated, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from flwr_krum.boundary.metrics import Claims, Metric
from flwr_krum.boundary.replies import ClientId, Reply, client_order


class Claimed(NamedTuple):
    """What clients report about themselves, aggregated.

    ``metrics`` are trimmed means by name, without the example counts; ``dropped`` says which
    metrics have none; ``doubted`` what is wrong with the reports of a client; ``counts`` how many
    examples it claims.
    """

    metrics: dict[str, Metric]
    dropped: tuple[str, ...]
    doubted: dict[ClientId, str]
    counts: dict[ClientId, float]

    def lines(self) -> list[str]:
        """Return what an operator wants to read of it."""
        doubts = [f"metrics of {client}: {doubt}" for client, doubt in self.doubted.items()]
        return [*doubts, *self.dropped]


def examine(
    replies: Sequence[Reply],
    clients: Iterable[ClientId],
    count_key: str,
    liars: Callable[[int], int],
) -> Claimed:
    """Aggregate what the given clients report about themselves, and say what is wrong with it.

    Who answers twice is not heard: which answer counts would depend on their order.

    Parameters
    ----------
    replies : sequence of Reply
    clients : iterable of client ids
    count_key : str
        The metric in which clients claim their number of examples.
    liars : callable, n -> int
        How many of n replies may lie.
    """
    answers = Counter(reply.client for reply in replies)
    reported = {reply.client: reply.metrics for reply in replies}
    heard = sorted((c for c in set(clients) if answers[c] == 1), key=client_order)
    claims = Claims([reported[client] for client in heard], liars(len(heard)))
    metrics = claims.trimmed_means(count_key)
    doubted = {heard[i]: doubt for i, doubt in claims.doubts(count_key).items()}
    for client in clients:
        if answers[client] > 1:
            doubted[client] = f"{answers[client]} replies in one round, expected 1"
    counts = {heard[i]: count for i, count in claims.numbers(count_key).items()}
    return Claimed(metrics, claims.dropped(count_key), doubted, counts)
