"""Tasks by name: each is loaded once per process."""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from clients.catalogue import facts_of, located_task, task_call
from clients.settings import Settings
from clients.tasks import cifar_10, digits, fashion_mnist, mnist, spambase
from clients.tasks.csv_file import CsvFile
from clients.tasks.files import DataError, data_folder
from clients.tasks.own import Own
from clients.tasks.task import Task
from flwr_krum.calls import build, look_up, reading

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
    with reading("task", text):
        call = task_call(text)
        kind = look_up(call, LOADERS)
        return Own(call, kind) if call.is_own else build(call, kind, {})


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
