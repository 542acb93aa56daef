"""The tasks: data, split into training and test examples, and training examples into shards."""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from clients.catalogue import facts_of, located_task, task_call
from clients.settings import Settings
from clients.streams import Purpose, stream
from clients.tasks import cifar_10, digits, fashion_mnist, mnist, spambase
from clients.tasks.csv_file import CsvFile
from clients.tasks.files import DataError, data_folder
from clients.tasks.own import Own
from clients.tasks.shards import partition
from clients.tasks.splits import Rows
from clients.tasks.task import Task
from clients.tasks.written import divide, parse_split
from flwr_krum.calls import build, look_up

__all__ = [
    "LOADERS",
    "DataError",
    "Shapes",
    "Task",
    "load_task",
    "parse_split",
    "parse_task",
    "partition",
    "shapes_of",
    "shard_of",
    "shards_of",
]

Loader = Callable[..., Task]
"""Of the folder of data files, whether to download, the seed, folds and fold."""

LOADERS: Mapping[str, Callable[..., Loader]] = {
    "spambase": lambda: spambase.load,
    "mnist": mnist.Mnist,
    "digits": lambda: digits.load,
    "fashion-mnist": lambda: fashion_mnist.load,
    "cifar-10": lambda: cifar_10.load,
    "csv": CsvFile,
}
"""What takes the arguments of a task's text and returns its loader, by the names of the tasks."""

_loading = threading.Lock()


def parse_task(text: str) -> Loader:
    """Return what loads the task that a text describes.

    Raises
    ------
    ValueError
        If the text is no call, there is no such task, file or object, or an argument is not the
        task's.
    """
    try:
        call = task_call(text)
        kind = look_up(call, LOADERS)
        return Own(call, kind) if call.is_own else build(call, kind, {})
    except ValueError as error:
        raise ValueError(f"task is {text!r}: {error}") from error


def load_task(settings: Settings) -> Task:
    """Return the data that the settings ask for, loaded once per process.

    Parameters
    ----------
    settings : Settings
        Only task, seed, data_dir, download, folds and fold matter here.

    Raises
    ------
    DataError
        If data that are needed are missing, or data that are present are damaged.
    ValueError
        If a task of one's own is not there, or is none.
    """
    # Of several threads that ask at once, one loads.
    with _loading:
        return _load(
            located_task(settings.task),
            settings.data_dir,
            settings.download,
            settings.seed,
            settings.folds,
            settings.fold,
        )


@lru_cache(maxsize=4)
def _load(text: str, data_dir: str, download: bool, seed: int, folds: int, fold: int) -> Task:
    load = parse_task(text)
    try:
        task = load(data_folder(data_dir, download), download, seed, folds, fold)
    except DataError:
        raise
    except ValueError as error:
        raise ValueError(f"task is {text!r}: {error}") from error
    _shapes[text] = Shapes(tuple(task.train_x.shape[1:]), task.classes)
    return task


class Shapes(NamedTuple):
    """What a model must fit: the shape of one example, and the number of classes."""

    of_example: tuple[int, ...]
    classes: int


_shapes: dict[str, Shapes] = {}


def shapes_of(text: str) -> Shapes:
    """Return the shapes of a task; what nothing but the data tell is loaded.

    Raises
    ------
    DataError, ValueError
        As for `load_task`.
    """
    facts = facts_of(text)
    if facts.shape is not None and facts.classes is not None:
        return Shapes(facts.shape, facts.classes)
    place = located_task(text)
    if place not in _shapes:
        load_task(Settings(task=text))
    return _shapes[place]


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
