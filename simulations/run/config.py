"""What a whole run is: the clients' learning problem, and the server's rule, API and rounds.

One flat run config with kebab-case keys describes both, on every engine: the command line, the
in-process engine, Ray, `flwr run .` and real nodes read the same keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from clients.settings import Settings
from flwr_krum import rules

RULES = ("average", "krum", "multi-krum", "medoid", "1-p-krum")
APIS = ("message", "fit")
EVALUATE_EVERY = {"spambase": 1, "mnist": 10}


@dataclass(frozen=True)
class RunConfig:
    """A complete and legal description of a run.

    In a run config each name is written in kebab-case. Everything that clients need is in
    ``settings``; its keys stand beside these.

    Attributes
    ----------
    settings : Settings
        The learning problem; its ``f`` is also the f that the rule is told.
    rule : str (default: "multi-krum")
        "average", "krum", "multi-krum", "medoid" or "1-p-krum".
    m : int (default: 0)
        Models that Multi-Krum averages; 0 is n - f.
    strict : bool (default: True)
        False allows f beyond ``2f + 2 < n`` (the paper's 45 % of 20).
    api : str (default: "message")
        "message" (`aggregate_train`) or "fit" (`aggregate_fit`).
    num_server_rounds : int (default: 500)
    server_learning_rate : float (default: 1.0)
    evaluate_every : int (default: 1 for spambase, 10 for mnist)
        Rounds between two evaluations on the test set.
    quarantine : int (default: 0)
        Refusals after which a client is left out of sampling; 0 is never.
    round_timeout : float (default: 300)
        Seconds that a round waits for its clients' replies, and, when too few are connected for
        the rule, for more of them; then it goes on with what came.
    run_dir : str (default: "runs/latest")
        Folder for the history, the journal and the model; those of an older run are replaced.
    resume : bool (default: False)
        Go on after the last round of the run in ``run_dir``, if there is one.
    tensorboard : str (default: "")
        Folder that gets the rounds as TensorBoard scalars; "" is none.

    Raises
    ------
    ValueError
        If a value is of the wrong type or illegal, or the rule cannot run on n clients.
    """

    settings: Settings
    rule: str = "multi-krum"
    m: int = 0
    strict: bool = True
    api: str = "message"
    num_server_rounds: int = 500
    server_learning_rate: float = 1.0
    evaluate_every: int = 0
    quarantine: int = 0
    round_timeout: float = 300.0
    run_dir: str = "runs/latest"
    resume: bool = False
    tensorboard: str = ""

    def __post_init__(self) -> None:
        for name, legal in (("rule", RULES), ("api", APIS)):
            if getattr(self, name) not in legal:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {legal}")
        least_of = {"m": 0, "num_server_rounds": 1, "evaluate_every": 0, "quarantine": 0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{_key(name)} is {value!r}, expected an integer >= {least}")
        for name in ("strict", "resume"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected true or false")
        for name in ("run_dir", "tensorboard"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(
                    f"{_key(name)} is {getattr(self, name)!r}, expected the path of a folder"
                )
        timeout = self.round_timeout
        if isinstance(timeout, bool) or not (
            isinstance(timeout, int | float) and 0 < timeout < math.inf
        ):
            raise ValueError(f"round-timeout is {timeout!r}, expected a finite number > 0")
        every = self.evaluate_every or EVALUATE_EVERY[self.settings.task]
        object.__setattr__(self, "evaluate_every", every)
        self.build_rule().check(self.settings.num_clients)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RunConfig:
        """Read a run config with kebab-case keys; missing keys take their defaults.

        Raises
        ------
        ValueError
            Also if a key belongs to neither server nor clients: a misspelt one must not pass.
        """
        unknown = sorted(set(config) - set(run_config_defaults()))
        if unknown:
            known = ", ".join(run_config_defaults())
            raise ValueError(f"unknown run config keys {unknown}, expected some of: {known}")
        own = {name: config[_key(name)] for name in _own_fields() if _key(name) in config}
        return cls(Settings.from_config(config), **own)

    def build_rule(self) -> rules.Rule:
        """Return the aggregation rule."""
        f, strict = self.settings.f, self.strict
        match self.rule:
            case "average":
                return rules.Average()
            case "krum":
                return rules.Krum(f, strict=strict)
            case "multi-krum":
                return rules.MultiKrum(f, self.m or None, strict=strict)
            case "medoid":
                return rules.Medoid()
            case _:
                return rules.OneMinusPKrum(f, seed=self.settings.seed, strict=strict)

    def byzantine_clients(self) -> frozenset[int]:
        """Return the partition ids that attack in a virtual run: the last f."""
        n, f = self.settings.num_clients, self.settings.f
        return frozenset(range(n - f, n)) if self.settings.attack != "none" else frozenset()

    def to_config(self) -> dict[str, Any]:
        """Return the run config, kebab-case and complete."""
        values = asdict(self)
        values.update(values.pop("settings"))
        return {_key(name): value for name, value in values.items()}


def run_config_defaults() -> dict[str, Any]:
    """Return every run config key with the value that stands for its default."""
    clients = {_key(field.name): field.default for field in fields(Settings)}
    own = {_key(name): getattr(RunConfig, name) for name in _own_fields()}
    return {**clients, **own}


def _own_fields() -> list[str]:
    return [field.name for field in fields(RunConfig) if field.name != "settings"]


def _key(name: str) -> str:
    return name.replace("_", "-")
