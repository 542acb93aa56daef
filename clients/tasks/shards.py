"""Which training rows each client holds."""

from functools import lru_cache

from clients.settings import Settings
from clients.streams import Purpose, stream
from clients.tasks.splits import Rows
from clients.tasks.task import Task
from clients.tasks.written import divide


def shards_of(settings: Settings, task: Task) -> list[Rows]:
    """Return the training rows of every client that holds data, in the order of partition ids.

    Parameters
    ----------
    settings : Settings
        Only split, holders, num_clients, f and seed matter here. Where the honest alone hold
        data, there are n - f shards.
    task : Task
        The data that `settings` asks for.

    Raises
    ------
    ValueError
        If there is no such split of these rows, or a client would hold nothing.
    """
    holders = settings.num_clients - (settings.f if settings.holders == "honest" else 0)
    return list(_divided(task, settings.split, holders, settings.seed))


def shard_of(settings: Settings, task: Task, partition_id: int) -> Rows:
    """Return the training rows of one client.

    An attacker without data of its own borrows the shard of an honest client: of
    ``partition_id mod (n - f)``.

    Raises
    ------
    ValueError
        As for `shards_of`.
    """
    shards = shards_of(settings, task)
    return shards[partition_id % len(shards)]


@lru_cache(maxsize=4)  # of a split of many rows: a client asks for its own alone
def _divided(task: Task, split: str, holders: int, seed: int) -> list[Rows]:
    labels = task.train_y.numpy()
    return divide(split, labels, holders, stream(seed, Purpose.PARTITION))
