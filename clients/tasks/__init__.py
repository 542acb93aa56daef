"""The tasks: data, split into training and test examples, and training examples into shards."""

from clients.tasks.files import DataError
from clients.tasks.loading import LOADERS, Shapes, load_task, parse_task, shapes_of
from clients.tasks.shards import shard_of, shards_of
from clients.tasks.task import Task
from clients.tasks.written import parse_split

__all__ = [
    "LOADERS",
    "DataError",
    "Shapes",
    "Task",
    "load_task",
    "parse_split",
    "parse_task",
    "shapes_of",
    "shard_of",
    "shards_of",
]
