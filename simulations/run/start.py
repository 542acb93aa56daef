"""What a run starts from: the initial model, or the last one of the run that it goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from logging import WARNING
from pathlib import Path
from typing import NamedTuple

from flwr.common.logger import log

from clients.learning.models import build_model, parameters_of
from flwr_krum.kernel.arrays import Array
from flwr_krum.lines import FileError, writing
from flwr_krum.moments import OptimizerStateError, remembered
from flwr_krum.optimizers import ServerOptimizer
from simulations.run.config import NOTHING, RunConfig
from simulations.run.history import (
    DISTANCES_FILE,
    HISTORY_FILE,
    JOURNAL_FILE,
    MODEL_FILE,
    RoundRecord,
    read_config,
    read_history,
    read_saved,
)

MAY_CHANGE = (
    *("num-server-rounds", "evaluate-every", "run-dir", "resume", "tensorboard", "data-dir"),
    *("round-timeout", "roles", "distances", "quorum"),
)
"""Keys in which a resumed run may differ from its beginning."""

UNSAID = {"server-optimizer": "", "split": "iid", "holders": "all", "require": NOTHING}
"""What the config of a run does not say that was made before there were other values."""


class Start(NamedTuple):
    """What a run starts from: rounds done, the model, their records, and what the server remembers.

    That is the optimizer's state, and the last step.
    """

    done: int
    model: dict[str, Array]
    past: Sequence[RoundRecord] = ()
    state: dict[str, Array] | None = None
    last_step: dict[str, Array] | None = None


def start_of(config: RunConfig) -> Start:
    """Return what a run starts from.

    Raises
    ------
    ValueError
        If the run in the folder was another one, or is over.
    """
    folder = Path(config.run_dir)
    if not config.resume or not (folder / MODEL_FILE).exists():
        return _beginning(config)
    before, now = {**UNSAID, **read_config(folder)}, config.to_config()
    others = sorted(
        key for key in now if key not in MAY_CHANGE and before.get(key, now[key]) != now[key]
    )
    if others:
        changes = ", ".join(f"{key} was {before[key]!r} and is {now[key]!r}" for key in others)
        raise ValueError(f"{folder} holds another run: {changes}")
    done, model, state, last_step = read_saved(folder)
    if done >= config.num_server_rounds:
        raise ValueError(
            f"{folder} holds {done} rounds, num-server-rounds is {config.num_server_rounds}: "
            "nothing is left to do"
        )
    if done == 0:
        return _beginning(config)
    optimizer = config.build_optimizer()
    if optimizer is not None:
        _check_state(folder / MODEL_FILE, optimizer, state, done)
    kept = None if optimizer is None else state
    if config.settings.remembers:
        said = "%s: what clients remembered of %s rounds is gone, they begin anew"
        log(WARNING, said, folder, done)
    return Start(done, _checked(model, config), _past(folder, done), kept, last_step)


def _past(folder: Path, done: int) -> list[RoundRecord]:
    """Return the records of the rounds that are done.

    Raises
    ------
    FileError
        If one of them is not on record.
    """
    past = [record for record in read_history(folder) if record.round <= done]
    rounds = [record.round for record in past]
    if len(rounds) != done + 1 or rounds != list(range(done + 1)):
        raise FileError(
            f"{folder / HISTORY_FILE} holds {len(rounds)} of the {done + 1} rounds 0 to {done} "
            f"whose model is in {MODEL_FILE}: without them the run cannot go on"
        )
    return past


def _check_state(
    path: Path, optimizer: ServerOptimizer, state: dict[str, Array], done: int
) -> None:
    """Raise FileError unless a file holds what an optimizer remembers of the rounds so far."""
    try:
        remembered(optimizer.start, state, done, None)
    except OptimizerStateError as error:
        raise FileError(
            f"{path}: it does not hold what {optimizer} remembers of {done} rounds, without which "
            "the run cannot go on"
        ) from error


def _checked(model: dict[str, Array], config: RunConfig) -> dict[str, Array]:
    """Return the model of an earlier run, in the order of this run's.

    Raises
    ------
    FileError
        If it is another one's.
    """
    expected = _initial_model(config)
    forms = [{key: (a.shape, a.dtype) for key, a in arrays.items()} for arrays in (model, expected)]
    if forms[0] != forms[1]:
        keys = sorted(key for key in forms[0] | forms[1] if forms[0].get(key) != forms[1].get(key))
        path = Path(config.run_dir, MODEL_FILE)
        raise FileError(f"{path}: not the model of this run: it differs in {', '.join(keys)}")
    return {key: model[key] for key in expected}


def _beginning(config: RunConfig) -> Start:
    """Clear the folder of an older run's rounds, and return the initial model."""
    for name in (MODEL_FILE, JOURNAL_FILE, DISTANCES_FILE):
        path = Path(config.run_dir, name)
        with writing(path):
            path.unlink(missing_ok=True)
    return Start(0, _initial_model(config))


def _initial_model(config: RunConfig) -> dict[str, Array]:
    settings = config.settings
    return parameters_of(build_model(settings.task, settings.model, settings.seed))
