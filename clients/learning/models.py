"""The paper's models, and their parameters as the lists of arrays that Flower carries."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn

# torch has one global generator, so two threads must not build at once.
_building = threading.Lock()


class Mlp(nn.Sequential):
    """A multi-layer perceptron with two hidden layers and ReLU.

    Parameters
    ----------
    inputs : int
        Number of features of an example; examples of any shape are flattened.
    hidden : tuple[int, int]
        Widths of the hidden layers.
    classes : int
        Number of outputs.
    """

    def __init__(self, inputs: int, hidden: tuple[int, int], classes: int) -> None:
        layers = OrderedDict[str, nn.Module](
            flatten=nn.Flatten(),
            hidden1=nn.Linear(inputs, hidden[0]),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(hidden[0], hidden[1]),
            relu2=nn.ReLU(),
            output=nn.Linear(hidden[1], classes),
        )
        super().__init__(layers)


class ConvNet(nn.Sequential):
    """Four 3x3 convolutions with ReLU and a final fully connected layer, for (N, 1, 28, 28).

    The supplement says "a 4-layer convolutional network with a final fully connected layer" and no
    more. Strides take the place of pooling: 28 -> 14 -> 14 -> 7 -> 7 pixels a side.
    """

    def __init__(self) -> None:
        layers = OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(1, 8, kernel_size=3, stride=2, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(8, 16, kernel_size=3, padding=1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(16, 16, kernel_size=3, padding=1),
            relu4=nn.ReLU(),
            flatten=nn.Flatten(),
            output=nn.Linear(16 * 7 * 7, 10),
        )
        super().__init__(layers)


_MODELS = {
    ("spambase", "mlp"): lambda: Mlp(57, (10, 10), 2),  # d = 712
    ("mnist", "mlp"): lambda: Mlp(784, (100, 100), 10),  # d = 89610
    ("mnist", "convnet"): ConvNet,  # d = 13738
}


def build_model(task_name: str, model_name: str, seed: int) -> nn.Module:
    """Build a task's model with PyTorch's default initialisation, determined by the seed.

    Parameters
    ----------
    task_name, model_name : str
        As in `Settings.task` and `Settings.model`.
    seed : int
        Equal seeds give equal parameters; torch's global generator is left as it was.

    Raises
    ------
    ValueError
        If there is no such model for the task.
    """
    if (task_name, model_name) not in _MODELS:
        legal = ", ".join(f"{task}/{model}" for task, model in _MODELS)
        raise ValueError(f"no model '{model_name}' for task '{task_name}', expected one of {legal}")
    with _building, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _MODELS[task_name, model_name]()


@lru_cache
def layers_of(task_name: str, model_name: str) -> tuple[str, ...]:
    """Return the names of a model's parameters and buffers, in state-dict order."""
    return tuple(build_model(task_name, model_name, 0).state_dict())


def places_of(keys: Iterable[str], layers: Sequence[str]) -> list[int]:
    """Return the place in the model of each array that a server sent, by its key.

    Parameters
    ----------
    keys : iterable of str
        In the order in which they came. Numbers from 0 are places, for so Flower names the arrays
        of a list.
    layers : sequence of str
        As `layers_of` returns them.

    Raises
    ------
    ValueError
        If a layer is missing or foreign.
    """
    sent = list(keys)
    names = [str(place) for place in range(len(layers))]
    if set(sent) != set(names):
        names = list(layers)
    if set(sent) != set(names):
        missing, foreign = set(layers).difference(sent), set(sent).difference(layers)
        raise ValueError(
            f"the message's arrays are not the model's: missing {sorted(missing) or 'none'}, "
            f"foreign {sorted(foreign) or 'none'}"
        )
    place = {name: i for i, name in enumerate(names)}
    return [place[key] for key in sent]


def parameters_of(model: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of a model's parameters and buffers by name, in state-dict order."""
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def load_parameters(model: nn.Module, arrays: Sequence[np.ndarray]) -> None:
    """Write arrays into a model, in state-dict order, and leave the arrays as they are.

    Parameters
    ----------
    model : nn.Module
        Its parameters and buffers are overwritten in place and keep their dtypes.
    arrays : Sequence[np.ndarray]
        One array per parameter or buffer, of the same shape.

    Raises
    ------
    ValueError
        If the number of arrays or a shape differs from the model's.
    """
    state = model.state_dict()
    if len(arrays) != len(state):
        raise ValueError(f"got {len(arrays)} arrays, expected {len(state)}: {', '.join(state)}")
    # A server under attack may send numbers that float32 cannot hold; they become Inf, silently.
    with np.errstate(over="ignore", invalid="ignore"):
        for (name, tensor), array in zip(state.items(), arrays, strict=True):
            if array.shape != tensor.shape:
                raise ValueError(
                    f"'{name}' has shape {array.shape}, expected {tuple(tensor.shape)}"
                )
            np.copyto(tensor.numpy(), array)
