"""What a client must know about the learning problem, read from a Flower run config.

The defaults are the supplement's experiments: 20 clients, Spambase on a small MLP with mini-batches
of 3, Gaussian vectors of variance 200.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from flwr_krum.attacks import FAULTS


class _TaskDefaults(NamedTuple):
    models: tuple[str, ...]  # legal ones, the default first
    batch_size: int
    learning_rate: float


_TASKS = {
    "spambase": _TaskDefaults(models=("mlp",), batch_size=3, learning_rate=0.05),
    "mnist": _TaskDefaults(models=("convnet", "mlp"), batch_size=10, learning_rate=0.1),
}

TASKS = tuple(_TASKS)
ATTACKS = ("none", "gaussian", "omniscient", "malformed")
SCHEDULES = ("constant", "inverse", "power")
ROLES_FROM = ("partition", "node")


@dataclass(frozen=True)
class Settings:
    """The learning problem, the same on every client of a run.

    In a run config each name is written in kebab-case (``batch_size`` is ``batch-size``). The
    empty model, batch size 0 and learning rate 0 stand for the task's own default and are replaced
    by it on construction, so a `Settings` that exists is complete and legal.

    Attributes
    ----------
    task : str (default: "spambase")
        "spambase" or "mnist".
    model : str (default: "mlp" for spambase, "convnet" for mnist)
        "mlp", or for mnist also "convnet".
    num_clients : int (default: 20)
        n, the number of clients; every client holds one of n shards of the training data.
    f : int (default: 0)
        Number of Byzantine clients that the server declares; so many attack unless `attack` is
        "none". 0 <= f < num_clients.
    attack : str (default: "none")
        What the Byzantine clients send: "none" (an honest update), "gaussian", "omniscient" or
        "malformed" (no model at all, see `fault`).
    attack_rounds : int (default: 0)
        Rounds, from the first, in which they send it; afterwards they are honest. 0 is all rounds,
        the only choice for "malformed".
    gaussian_variance : float (default: 200.0)
        Variance of each coordinate of a Gaussian attack vector, at least 0.
    omniscient_factor : float (default: 1e4)
        How many times the gradient an omniscient client sends, with the opposite sign; at least 0.
    omniscient_examples : int (default: 0)
        Size of the omniscient client's estimate: k fresh examples of all training data in each
        round; 0 takes the whole training data.
    fault : str (default: "nan")
        What is wrong with a malformed reply: a name in `flwr_krum.attacks.FAULTS`.
    roles : str (default: "partition")
        Where the role of a node comes from whose own configuration gives none. "partition": the
        last f partitions attack (virtual nodes); "node": from nowhere, it is honest (real nodes).
    batch_size : int (default: 3 for spambase, 10 for mnist)
        Examples in a mini-batch.
    local_steps : int (default: 1)
        Steps of gradient descent that an honest client makes in a round, at least 1.
    learning_rate : float (default: 0.05 for spambase, 0.1 for mnist)
        The rate that the schedule starts from.
    schedule : str (default: "constant")
        "constant", "inverse" or "power", see `clients.learning.schedules.learning_rate`.
    decay_rounds : int (default: 500)
        Rounds after which the "inverse" schedule has halved the rate, at least 1.
    seed : int (default: 0)
        Fixes the split, the shards, the mini-batches and the attacks; 0 <= seed < 2^32.
    folds : int (default: 0)
        k of a k-fold cross-validation, at least 2; 0 is the task's single split.
    fold : int (default: 0)
        Which of the k parts of the data is the test set, 0 <= fold < folds.
    data_dir : str (default: "data")
        Folder in which original data files are looked for before the embedded copies are taken.
    download : bool (default: False)
        Whether a missing full MNIST may be downloaded into `data_dir`.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range; the message names both.
    """

    task: str = "spambase"
    model: str = ""
    num_clients: int = 20
    f: int = 0
    attack: str = "none"
    attack_rounds: int = 0
    gaussian_variance: float = 200.0
    omniscient_factor: float = 1e4
    omniscient_examples: int = 0
    fault: str = "nan"
    roles: str = "partition"
    batch_size: int = 0
    local_steps: int = 1
    learning_rate: float = 0.0
    schedule: str = "constant"
    decay_rounds: int = 500
    seed: int = 0
    folds: int = 0
    fold: int = 0
    data_dir: str = "data"
    download: bool = False

    def __post_init__(self) -> None:
        """Check every value and put the task's own defaults in place."""
        self._check_choice("task", TASKS)
        self._check_choice("attack", ATTACKS)
        self._check_choice("schedule", SCHEDULES)
        self._check_integer("num_clients", 1)
        self._check_integer("f", 0, self.num_clients - 1)
        self._check_integer("attack_rounds", 0)
        if self.attack == "malformed" and self.attack_rounds:
            raise self._error("attack_rounds", "0: attack 'malformed' never ends")
        self._check_number("gaussian_variance")
        self._check_number("omniscient_factor")
        self._check_integer("omniscient_examples", 0)
        self._check_choice("fault", tuple(FAULTS))
        self._check_choice("roles", ROLES_FROM)
        self._check_integer("batch_size", 0)
        self._check_integer("local_steps", 1)
        self._check_number("learning_rate")
        self._check_integer("decay_rounds", 1)
        # Wider seeds would take two words of numpy's entropy and could meet another stream's.
        self._check_integer("seed", 0, 2**32 - 1)
        self._check_integer("folds", 0)
        if self.folds == 1:
            raise self._error("folds", "0 or an integer >= 2: one fold has nothing to train on")
        self._check_integer("fold", 0, max(0, self.folds - 1))
        if not isinstance(self.data_dir, str) or not self.data_dir:
            raise self._error("data_dir", "the path of a folder")
        if not isinstance(self.download, bool):
            raise self._error("download", "true or false")

        defaults = _TASKS[self.task]
        set_once = object.__setattr__  # the dataclass is frozen from here on
        set_once(self, "model", self.model or defaults.models[0])
        set_once(self, "batch_size", self.batch_size or defaults.batch_size)
        set_once(self, "learning_rate", self.learning_rate or defaults.learning_rate)
        self._check_choice("model", defaults.models, f" for task '{self.task}'")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read the settings from a run config with kebab-case keys.

        Parameters
        ----------
        config : Mapping[str, Any]
            A Flower run config. Missing keys take their defaults; keys of other components (the
            server has its own) are ignored.

        Raises
        ------
        ValueError
            As for the class itself.
        """
        keys = {field.name: _key(field.name) for field in fields(cls)}
        return cls(**{name: config[key] for name, key in keys.items() if key in config})

    def attack_is_over(self, server_round: int) -> bool:
        """Say whether the Byzantine clients are honest in a round, counted from 1."""
        return 0 < self.attack_rounds < server_round

    def _check_choice(self, name: str, choices: Sequence[str], where: str = "") -> None:
        if getattr(self, name) not in choices:
            raise self._error(name, " or ".join(f"'{choice}'" for choice in choices) + where)

    def _check_integer(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        # bool is an int to Python, but `f = true` in a config is a mistake.
        legal = isinstance(value, int) and not isinstance(value, bool) and value >= low
        if not legal or (high is not None and value > high):
            bound = f">= {low}" if high is None else f"from {low} to {high}"
            raise self._error(name, f"an integer {bound}")

    def _check_number(self, name: str) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not (math.isfinite(value) and value >= 0):
            raise self._error(name, "a finite number >= 0")

    def _error(self, name: str, legal: str) -> ValueError:
        return ValueError(f"{_key(name)} is {getattr(self, name)!r}, expected {legal}")


def _key(name: str) -> str:
    return name.replace("_", "-")
