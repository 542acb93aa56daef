"""What a client must know about the learning problem, read from a Flower run config.

The defaults are the supplement's experiments: 20 clients, Spambase on a small MLP with mini-batches
of 3, Gaussian vectors of variance 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clients.catalogue import MODELS, TASKS, check_model, facts_of
from clients.fields import Choice, Flag, Number, Text, Whole, check, error, in_config, setting
from flwr_krum.attacks import ATTACKS, FAULTS, WRAPPERS, Attack
from flwr_krum.attacks.attack import KNOWLEDGE
from flwr_krum.attacks.written import parse_attack
from flwr_krum.rules import RULES, Rule
from flwr_krum.rules.written import parse_rule

SCHEDULES = ("constant", "inverse", "power")
ROLES_FROM = ("partition", "node")
HOLDERS = ("all", "honest")
MOMENTUM_OVER = ("rounds", "steps")


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
        Text(
            f"What the Byzantine clients send: {', '.join(ATTACKS)}, or a class of your own as "
            f"my_attacks.py:MyAttack; before it, with a |, {', '.join(WRAPPERS)}; arguments as in "
            "sign-flip(scale=10).",
            "none, or an attack such as 'sign-flip(scale=10)'",
        ),
    )
    knowledge: str = setting(
        "default",
        Choice(
            "Whose honest updates the attackers know: their own, those of all attackers, or "
            "everybody's; by default what the attack is defined on.",
            ("default", *KNOWLEDGE),
        ),
    )
    attack_rounds: int = setting(
        0, Whole("Rounds, from the first, in which they send it; 0 is all.", 0)
    )
    gaussian_variance: float = setting(
        200.0, Number("Of gaussian; deprecated: write gaussian(variance=200).")
    )
    omniscient_factor: float = setting(
        1e4, Number("Of omniscient; deprecated: write omniscient(factor=1e4).")
    )
    omniscient_examples: int = setting(
        0, Whole("Of omniscient; deprecated: write omniscient(examples=0).", 0)
    )
    fault: str = setting(
        "nan",
        Choice("Of malformed; deprecated: write malformed(fault=nan).", tuple(FAULTS)),
    )
    rule: str = setting(
        "multi-krum",
        Text(
            f"Aggregation rule: {', '.join(RULES)}, or a class of your own as my_rules.py:MyRule; "
            "arguments as in multi-krum(m=4). Attackers that search know it.",
            "a rule such as 'multi-krum(m=4)'",
        ),
    )
    m: int = setting(
        0, Whole("Models that multi-krum averages; deprecated: write multi-krum(m=4).", 0)
    )
    strict: bool = setting(
        True, Flag("Insist on the rule's bound on f; deprecated: write krum(strict=False).")
    )
    roles: str = setting(
        "partition",
        Choice(
            "Role of a node that names none itself: the last f partitions attack (virtual "
            "nodes), or it is honest (real nodes).",
            ROLES_FROM,
        ),
    )
    batch_size: int = setting(
        0, Whole("Examples in a mini-batch; 0 is the task's own.", 0, lambda _: 100_000)
    )
    local_steps: int = setting(
        1,
        Whole(
            "Steps of gradient descent that an honest client makes in a round.",
            1,
            lambda _: 100_000,
        ),
    )
    local_epochs: int = setting(
        0, Whole("Passes over its shard that it makes instead, in mini-batches; 0 is none.", 0)
    )
    momentum: float = setting(
        0.0,
        Number(
            "b of the momentum m <- b m + (1 - b) g that an honest client keeps over the rounds.",
            below=1.0,
        ),
    )
    momentum_over: str = setting(
        "rounds",
        Choice("Over what it keeps it: the rounds, or the steps of one of them.", MOMENTUM_OVER),
    )
    weight_decay: float = setting(0.0, Number("l of the decay g <- g + l w at an honest client."))
    clip_norm: float = setting(
        0.0, Number("Norm to which an honest client cuts each gradient; 0 is any.")
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
        if ":" not in self.attack:  # a file of the user's own may be gone when a run is read
            self.build_attack()
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

    @property
    def is_plain(self) -> bool:
        """Whether an honest step is the gradient alone."""
        return not (self.momentum or self.weight_decay or self.clip_norm)

    @property
    def keeps_momentum(self) -> bool:
        """Whether a client's momentum goes on in the next round."""
        return self.momentum > 0 and self.momentum_over == "rounds"

    @property
    def remembers(self) -> bool:
        """Whether clients keep something over the rounds: a momentum, or an attack its notes."""
        attack = self.build_attack()
        return self.keeps_momentum or (attack is not None and "memory" in attack.needs)

    def build_attack(self, text: str = "") -> Attack | None:
        """Return the attack, or the one that another text describes; None of "none".

        Raises
        ------
        ValueError
            If the text is none of an attack.
        """
        wanted = text or self.attack
        if wanted == "none":
            return None
        return _parsed(
            wanted,
            self.gaussian_variance,
            self.omniscient_factor,
            self.omniscient_examples,
            self.fault,
            self.seed,
        )

    def build_rule(self) -> Rule:
        """Return the aggregation rule, with the run's f and seed where it names none.

        Raises
        ------
        ValueError
            If the text is none of a rule.
        """
        usual: dict[str, Any] = {"f": self.f, "seed": self.seed}
        if self.m:
            usual["m"] = self.m
        if not self.strict:
            usual["strict"] = False
        return parse_rule(self.rule, **usual)


@lru_cache(maxsize=64)  # settings are read anew from every message
def _parsed(
    text: str, variance: float, factor: float, examples: int, fault: str, seed: int
) -> Attack:
    deprecated: dict[str, dict[str, object]] = {
        "gaussian": {"variance": variance},
        "omniscient": {"factor": factor, "examples": examples},
        "malformed": {"fault": fault},
    }
    name = text.rpartition("|")[2].partition("(")[0].strip()
    return parse_attack(text, seed=seed, **deprecated.get(name, {}))
