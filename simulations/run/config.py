"""What a whole run is: the clients' learning problem, and the server's rule, API and rounds.

One flat run config with kebab-case keys describes both, on every engine: the command line, the
in-process engine, Ray, `flwr run .` and real nodes read the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from clients.catalogue import facts_of, located_task
from clients.fields import (
    Choice,
    Described,
    Flag,
    Number,
    Text,
    Whole,
    check,
    defaults_of,
    described,
    in_config,
    key_of,
    setting,
)
from clients.settings import Settings
from clients.tasks import parse_split, parse_task
from flwr_krum.calls import located
from flwr_krum.certified import Require
from flwr_krum.in_force import check_quorum
from flwr_krum.optimizers import OPTIMIZERS, ServerOptimizer, parse_optimizer
from flwr_krum.rules import Rule
from flwr_krum.rules.rule import ROOT
from flwr_krum.step import ServerStep

APIS = ("message", "fit")

NOTHING = "nothing"
"""What `RunConfig.require` is where nothing is required."""


@dataclass(frozen=True)
class RunConfig:
    """A complete description of a run.

    In a run config each name is written in kebab-case. Everything that clients need is in
    ``settings``, whose ``f`` is also the f that the rule is told; its keys stand beside these.

    Raises
    ------
    ValueError
        If a value is of the wrong type or illegal.
    """

    settings: Settings
    api: str = setting("message", Choice("Flower's: aggregate_train or aggregate_fit.", APIS))
    num_server_rounds: int = setting(500, Whole("Rounds.", 1, option="--rounds"))
    server_learning_rate: float = setting(1.0, Number("Scales the server's step."))
    server_optimizer: str = setting(
        "",
        Text(
            f"Moves the model by the aggregates' steps: {', '.join(OPTIMIZERS)}; arguments as in "
            "fedadam(eta=0.01). By default the aggregate is the new model.",
            "an optimizer such as 'fedadam(eta=0.01)'",
            may_be_empty=True,
        ),
    )
    certificate: bool = setting(
        False, Flag("Say in every report what is certain of the round whoever the liars are.")
    )
    require: str = setting(
        NOTHING,
        Choice(
            "What a round must have to move the model; a certificate that does not hold, or cannot "
            "be known, keeps it.",
            (NOTHING, *get_args(Require)),
        ),
    )
    distances: bool = setting(
        False,
        Flag("Keep who was how far from whom in every round, for the command certify."),
    )
    evaluate_every: int = setting(
        0, Whole("Rounds between two evaluations on the test set; 0 is the task's own.", 0)
    )
    quarantine: int = setting(
        0, Whole("Refusals after which a client is left out of sampling; 0 is never.", 0)
    )
    quorum: int = setting(
        0,
        Whole(
            "Sound replies after which a round closes without the others, when a grace is over; "
            "0 waits for all.",
            0,
        ),
    )
    round_timeout: float = setting(
        300.0,
        Number(
            "Seconds that a round waits for replies, and, when too few clients for the rule are "
            "connected, for more of them; then it goes on with what came.",
            positive=True,
        ),
    )
    run_dir: str = setting(
        "runs/latest", Text("Folder of the results; those of an older run are replaced.")
    )
    resume: bool = setting(False, Flag("Go on after the last round in the run folder."))
    tensorboard: str = setting("", Text("Folder for TensorBoard scalars.", may_be_empty=True))

    def __post_init__(self) -> None:
        check(self)
        every = self.evaluate_every or facts_of(self.settings.task).evaluate_every
        object.__setattr__(self, "evaluate_every", every)
        object.__setattr__(self, "certificate", self.certificate or self.require == "certificate")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RunConfig:
        """Read the config of a run that is to be made; missing keys take their defaults.

        Raises
        ------
        ValueError
            Also if a key belongs to neither server nor clients: a misspelt one must not pass; and
            if the rule or the optimizer cannot be had, or the rule cannot run on n clients or on
            the quorum.
        """
        made = cls.from_record(config)
        made.settings.build_attack()
        parse_task(made.settings.task)
        parse_split(made.settings.split)
        ServerStep(made.server_learning_rate, made.build_optimizer())
        rule = made.build_rule()
        try:
            rule.check(made.settings.num_clients)
        except ValueError as error:
            if "strict=False" not in str(error):
                raise
            raise ValueError(f"{error}; on the command line that is --no-strict") from error
        if made.quorum:
            check_quorum(made.quorum, rule)
        return made

    @classmethod
    def from_record(cls, config: Mapping[str, Any]) -> RunConfig:
        """Read the config of a run that was made: the file of its rule may be gone.

        Raises
        ------
        ValueError
            As for `from_config`, but for the rule and the optimizer.
        """
        unknown = sorted(set(config) - set(run_config_defaults()))
        if unknown:
            known = ", ".join(run_config_defaults())
            raise ValueError(f"unknown run config keys {unknown}, expected some of: {known}")
        return cls(Settings.from_config(config), **in_config(cls, config))

    def build_rule(self) -> Rule:
        """Return the aggregation rule, as `Settings.build_rule` does."""
        return self.settings.build_rule()

    @property
    def rule(self) -> str:
        """The aggregation rule as it is written."""
        return self.settings.rule

    def build_optimizer(self) -> ServerOptimizer | None:
        """Return the server's optimizer, if there is one.

        Raises
        ------
        ValueError
            If the text is none of an optimizer.
        """
        return parse_optimizer(self.server_optimizer) if self.server_optimizer else None

    @property
    def needs_root(self) -> bool:
        """Whether the rule asks for a model of the server's own."""
        return ROOT in self.build_rule().server_rows

    def byzantine_clients(self) -> frozenset[int]:
        """Return the partition ids that attack in a virtual run: the last f."""
        n, f = self.settings.num_clients, self.settings.f
        return frozenset(range(n - f, n)) if self.settings.attack != "none" else frozenset()

    def to_config(self) -> dict[str, Any]:
        """Return the run config, kebab-case and complete, to be read in any folder."""
        values = asdict(self)
        values.update(values.pop("settings"), rule=located(self.rule))
        values["attack"] = located(self.settings.attack)
        for name, place in (("task", located_task), ("model", located), ("split", located)):
            values[name] = place(values[name])
        values["server_optimizer"] = self.server_optimizer and located(self.server_optimizer)
        return {key_of(name): value for name, value in values.items()}


def run_settings() -> dict[str, Described]:
    """Return every setting of a run, by name: the clients', then the server's."""
    return {**described(Settings), **described(RunConfig)}


def run_config_defaults() -> dict[str, Any]:
    """Return every run config key with the value that stands for its default."""
    return {**defaults_of(Settings), **defaults_of(RunConfig)}
