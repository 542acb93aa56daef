"""What has to stand beside an arena's numbers: how they were made, from what, and by what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.fields import described, key_of
from clients.settings import Settings
from simulations.arena.plan import DECIDED, Arena, left_out
from simulations.engines.making import Provenance
from simulations.run.config import RunConfig, run_config_defaults, run_settings
from simulations.run.origin import Origin

ALWAYS = ("task", "model", "split", "num-clients", "f", "knowledge", "evaluate-every")
"""Settings that are named even where they are the default."""

READING = (
    "Accuracy is that of the last model on the test set, the mean over the seeds; best is the "
    "greatest of a run's evaluations, which flatters a rule that rises and then falls. The runs of "
    "one seed share split, initial model and mini-batches across the rules. Intervals are "
    "two-sided 95 % Student t over the seeds. The worst case is over the attacks that are here, "
    "and its interval is that of the one cell. How far a rule is behind the best one is the mean "
    "of the seeds' differences, attack by attack and worst case by worst case; ? where their "
    "interval reaches 0 and it cannot be told. A model is destroyed when its loss is not finite."
)


@dataclass(frozen=True)
class Facts(Provenance):
    """How an arena came to be.

    Attributes
    ----------
    settings : mapping of key to value
        What all runs share, as far as it is not the default.
    seeds : str
    rounds : int
    versions : mapping of name to version
    left_out : mapping of name to reason
    """

    settings: Mapping[str, str]
    seeds: str
    rounds: int
    versions: Mapping[str, str]
    left_out: Mapping[str, str]


def facts_of(arena: Arena, configs: Sequence[RunConfig], provenance: Provenance) -> Facts:
    """Gather the facts of an arena whose runs, of which there is one at least, are made."""
    return Facts(
        **vars(provenance),
        settings=_settings(configs[0]),
        seeds=", ".join(map(str, arena.all_seeds)),
        rounds=arena.rounds,
        versions=_versions(configs),
        left_out=left_out(arena),
    )


def _settings(config: RunConfig) -> dict[str, str]:
    usual, of_clients = run_config_defaults(), described(Settings)
    found = {}
    for name in run_settings():
        key, holder = key_of(name), config.settings if name in of_clients else config
        value = getattr(holder, name)
        if key not in DECIDED and (key in ALWAYS or value != usual[key]):
            found[key] = str(value)
    return found


def _versions(configs: Iterable[RunConfig]) -> dict[str, str]:
    """Return the versions that made the runs: several where they were made by several."""
    found: dict[str, dict[str, None]] = {}
    for config in configs:
        origin = Origin.read(Path(config.run_dir))
        for name, version in (origin.versions if origin else {}).items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(versions) for name, versions in found.items()}
