"""The protocol of runs in words: data, model and settings that they share."""

from __future__ import annotations

from collections.abc import Sequence

from simulations.engines.kept import check_data
from simulations.run.config import RunConfig

_EXAMPLES = {"spambase": "e-mails", "mnist": "images"}
_NAMES = {
    ("spambase", "embedded"): "Spambase, embedded copy",
    ("spambase", "full"): "Spambase, original",
    ("mnist", "embedded"): "MNIST, the 5,000 embedded images only",
    ("mnist", "full"): "full MNIST",
}
_MODELS = {"mlp": "MLP", "convnet": "ConvNet"}


def protocol(configs: Sequence[RunConfig], data: str) -> str:
    """Return the protocol in one line.

    Parameters
    ----------
    configs : sequence of RunConfig
        The runs, in the place of their data.
    data : "embedded" | "full"

    Raises
    ------
    DataError
        If the data are not there.
    """
    first_of_task = {config.settings.task: config for config in reversed(configs)}
    tasks = [_task_words(config, data) for config in reversed(first_of_task.values())]
    common = [
        f"{symbol} = {next(iter(values)):g}"
        for symbol, values in (
            ("n", {config.settings.num_clients for config in configs}),
            ("f", {config.settings.f for config in configs}),
            ("mini-batch", {config.settings.batch_size for config in configs}),
        )
        if len(values) == 1
    ]
    return "; ".join([*tasks, ", ".join(common)] if common else tasks)


def _task_words(config: RunConfig, data: str) -> str:
    settings = config.settings
    task = check_data(config, data)
    examples = _EXAMPLES.get(task.name, "examples")
    sizes = f"{len(task.train_y):,} {examples} to train on, {len(task.test_y):,} to test"
    name = _NAMES.get((task.name, data), task.source)
    model = _MODELS.get(settings.model, settings.model)
    return f"{name} ({sizes}), {model}, rate {settings.learning_rate:g}"
