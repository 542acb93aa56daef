"""Honest and Byzantine Flower clients, the models they train and the tasks they train on.

The theory is "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (Blanchard,
El Mhamdi, Guerraoui, Stainer; NIPS 2017), called "the paper" in this package.
"""

from clients.adversary import Adversary
from clients.honest import HonestClient
from clients.learning.models import build_model, load_parameters, parameters_of
from clients.learning.schedules import learning_rate
from clients.learning.steps import evaluate
from clients.roles import build_client, partition_of, role_of
from clients.settings import Settings
from clients.tasks import DataError, Task, load_task, shards_of

__all__ = [
    "Adversary",
    "DataError",
    "HonestClient",
    "Settings",
    "Task",
    "build_client",
    "build_model",
    "evaluate",
    "learning_rate",
    "load_parameters",
    "load_task",
    "parameters_of",
    "partition_of",
    "role_of",
    "shards_of",
]
