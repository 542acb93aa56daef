"""The tasks and models that have a name, as far as settings must know them: shapes and defaults.

What a name stands for is in `clients.tasks` and `clients.learning.models`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flwr_krum.calls import Call, located, look_up, parse_call

Shape = tuple[int, ...]

_MNIST, _CIFAR = (1, 28, 28), (3, 32, 32)


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task before its data are read.

    Attributes
    ----------
    shape : tuple of int, optional
        Of one example; None where only the data tell.
    classes : int, optional
        Number of labels; None where only the data tell.
    model : str
        The model that is trained unless another one is named.
    batch_size, learning_rate, evaluate_every
        What stands for 0 in the settings of these names.
    """

    shape: Shape | None
    classes: int | None
    model: str
    batch_size: int
    learning_rate: float
    evaluate_every: int


TASKS: Mapping[str, TaskFacts] = {
    "spambase": TaskFacts((57,), 2, "mlp", 3, 0.05, 1),
    "mnist": TaskFacts(_MNIST, 10, "convnet", 10, 0.1, 10),
    "digits": TaskFacts((1, 8, 8), 10, "mlp", 10, 0.1, 1),
    "fashion-mnist": TaskFacts(_MNIST, 10, "convnet", 10, 0.1, 10),
    "cifar-10": TaskFacts(_CIFAR, 10, "resnet-18", 10, 0.05, 50),
    "csv": TaskFacts(None, None, "mlp", 10, 0.05, 1),
}
"""The tasks by the names under which they are written."""

OWN_TASK = TaskFacts(None, None, "mlp", 10, 0.05, 10)
"""What is known of a task of one's own."""

MODELS: Mapping[str, Shape | None] = {
    "mlp": None,
    "logistic": None,
    "convnet": _MNIST,
    "cnn_mnist": _MNIST,
    "resnet-18": _CIFAR,
}
"""The models by their names, with the shape of the examples that they take; None is any."""


def task_call(text: str) -> Call:
    """Read a task's text; ``csv:FILE`` is short for ``csv(path=FILE)``.

    Raises
    ------
    ValueError
        If it is no call.

    Examples
    --------
    >>> print(task_call("csv:spam.csv(label=first)"))
    csv(path='spam.csv', label=first)
    """
    call = parse_call(text)
    kind, colon, path = call.name.partition(":")
    if kind != "csv" or not (colon or call.arguments):
        return call
    named = dict(
        zip(("path", "label"), ([path] if colon else []) + [*call.arguments], strict=False)
    )
    if named.keys() & call.options.keys() or len(call.arguments) + bool(colon) > 2:
        raise ValueError(f"{text!r} is no file and its label, expected csv(path=FILE, label=last)")
    return Call("csv", (), {**named, **call.options})


def facts_of(task: str) -> TaskFacts:
    """Return what is known of a task before its data are read.

    Raises
    ------
    ValueError
        If the text is no call, or of no task; whether one of one's own exists is not asked.
    """
    try:
        call = task_call(task)
        facts: TaskFacts = OWN_TASK if call.is_own else look_up(call, TASKS)
    except ValueError as error:
        raise ValueError(f"task is {task!r}: {error}") from error
    return facts


def check_model(model: str, shape: Shape | None) -> None:
    """Raise ValueError unless a text is of a model that takes examples of a shape.

    A shape that is not known yet fits all; whether one of one's own exists is not asked.
    """
    try:
        call = parse_call(model)
        if not call.is_own:
            fitting = {
                name: takes
                for name, takes in MODELS.items()
                if takes is None or shape is None or takes == shape
            }
            look_up(call, fitting)
    except ValueError as error:
        of = f" for examples of shape {shape}" if shape else ""
        raise ValueError(f"model is {model!r}{of}: {error}") from error


def located_task(text: str) -> str:
    """Return a task's text as it is read in any folder: its file by the whole path."""
    call = task_call(text)
    if call.name == "csv" and isinstance(call.options.get("path"), str):
        path = str(Path(call.options["path"]).absolute())
        return str(replace(call, options={**call.options, "path": path}))
    return located(text)
