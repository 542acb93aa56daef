"""The tasks: data, split into training and test examples, and training examples into shards."""

import threading
from functools import lru_cache

from clients.settings import Settings
from clients.tasks import mnist, spambase
from clients.tasks.files import DataError, data_folder
from clients.tasks.shards import partition
from clients.tasks.task import Task

__all__ = ["DataError", "Task", "load_task", "partition"]

_LOADERS = {"spambase": spambase.load, "mnist": mnist.load}
_loading = threading.Lock()


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
    """
    # Of several threads that ask at once, one loads.
    with _loading:
        return _load(
            settings.task,
            settings.data_dir,
            settings.download,
            settings.seed,
            settings.folds,
            settings.fold,
        )


@lru_cache(maxsize=4)
def _load(name: str, data_dir: str, download: bool, seed: int, folds: int, fold: int) -> Task:
    return _LOADERS[name](data_folder(data_dir, download), download, seed, folds, fold)
