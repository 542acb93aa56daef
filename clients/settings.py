"""What a client must know about the learning problem, read from a Flower run config.

The defaults are the supplement's experiments: 20 clients, Spambase on a small MLP with mini-batches
of 3, Gaussian vectors of variance 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.catalogue import MODELS, TASKS, check_model, facts_of
from clients.fields import Choice, Flag, Number, Text, Whole, check, error, in_config, setting
from flwr_krum.attacks import FAULTS

ATTACKS = ("none", "gaussian", "omniscient", "malformed")
SCHEDULES = ("constant", "inverse", "power")
ROLES_FROM = ("partition", "node")
HOLDERS = ("all", "honest")


@dataclass(frozen=True)
class Settings:
    """The learning problem, the same on every client of a run.

    In a run config each name is written in kebab-case (``batch_size`` is ``batch-size``). The
    empty model, batch size 0 and learning rate 0 stand for the task's own default and are replaced
    by it on construction, so a `Settings` that exists is complete and legal.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range; the message names both.
    """

    task: str = setting(
        "spambase",
        Text(
            f"What is learnt: {', '.join(TASKS)} (as csv:FILE), or one of your own as "
            "file.py:Object.",
            "a task such as 'mnist'",
        ),
    )
    model: str = setting(
        "",
        Text(
            f"{', '.join(MODELS)}, or one of your own as file.py:Object; by default the task's "
            "own.",
            "a model's name",
            may_be_empty=True,
        ),
    )
    split: str = setting(
        "iid",
        Text(
            "Who holds which examples: iid, dirichlet(alpha=0.1), gamma-similarity(gamma=0.33), "
            "shards, or another one of docs/own-parts.md, or one of your own as file.py:Object.",
            "a split such as 'dirichlet(alpha=0.1)'",
        ),
    )
    holders: str = setting(
        "all",
        Choice(
            "Who holds data: all n clients, or the honest n - f alone; an attacker then borrows "
            "an honest client's.",
            HOLDERS,
        ),
    )
    num_clients: int = setting(
        20, Whole("Clients, n: each holds one of n shards of the training data.", 1, option="-n")
    )
    f: int = setting(
        0,
        Whole(
            "Byzantine clients, which the rule is told too; so many attack.",
            0,
            lambda settings: settings.num_clients - 1,
        ),
    )
    attack: str = setting(
        "none",
        Choice("What the Byzantine clients send: malformed is no model at all.", ATTACKS),
    )
    attack_rounds: int = setting(
        0, Whole("Rounds, from the first, in which they send it; 0 is all.", 0)
    )
    gaussian_variance: float = setting(
        200.0, Number("Variance of each coordinate of a Gaussian vector.")
    )
    omniscient_factor: float = setting(
        1e4, Number("How many times the gradient an omniscient client sends, reversed.")
    )
    omniscient_examples: int = setting(
        0, Whole("Fresh examples of its estimate in each round; 0 is all training data.", 0)
    )
    fault: str = setting("nan", Choice("What is wrong with a malformed reply.", tuple(FAULTS)))
    roles: str = setting(
        "partition",
        Choice(
            "Role of a node that names none itself: the last f partitions attack (virtual "
            "nodes), or it is honest (real nodes).",
            ROLES_FROM,
        ),
    )
    batch_size: int = setting(0, Whole("Examples in a mini-batch; 0 is the task's own.", 0))
    local_steps: int = setting(
        1, Whole("Steps of gradient descent that an honest client makes in a round.", 1)
    )
    learning_rate: float = setting(
        0.0, Number("The rate that the schedule starts from; 0 is the task's own.")
    )
    schedule: str = setting(
        "constant",
        Choice(
            "Of the rate: the last two sum to infinity, their squares do not.",
            SCHEDULES,
        ),
    )
    decay_rounds: int = setting(
        500, Whole("Rounds after which the schedule inverse has halved the rate.", 1)
    )
    # Wider seeds would take two words of numpy's entropy and could meet another stream's.
    seed: int = setting(
        0,
        Whole("Decides every draw: split, shards, batches, attacks.", 0, lambda _: 2**32 - 1),
    )
    folds: int = setting(0, Whole("k of a k-fold cross-validation; 0 is one split.", 0))
    fold: int = setting(
        0,
        Whole(
            "Which of the k parts is the test set, from 0.",
            0,
            lambda settings: max(0, settings.folds - 1),
        ),
    )
    data_dir: str = setting(
        "data", Text("Folder of original data files, looked at before the embedded copies.")
    )
    download: bool = setting(False, Flag("Fetch full MNIST into the data folder."))

    def __post_init__(self) -> None:
        """Check every value and put the task's own defaults in place."""
        check(self)
        if self.attack == "malformed" and self.attack_rounds:
            raise error(self, "attack_rounds", "0: attack 'malformed' never ends")
        if self.folds == 1:
            raise error(self, "folds", "0 or an integer >= 2: one fold has nothing to train on")
        own = facts_of(self.task)
        set_once = object.__setattr__  # the dataclass is frozen from here on
        set_once(self, "model", self.model or own.model)
        set_once(self, "batch_size", self.batch_size or own.batch_size)
        set_once(self, "learning_rate", self.learning_rate or own.learning_rate)
        check_model(self.model, own.shape)

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
        return cls(**in_config(cls, config))

    def attack_is_over(self, server_round: int) -> bool:
        """Say whether the Byzantine clients are honest in a round, counted from 1."""
        return 0 < self.attack_rounds < server_round
