"""Models by name or of the user's own, and their parameters as the arrays that Flower carries."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from clients.catalogue import Shape, check_model
from clients.tasks import shapes_of
from clients.tasks.torchvision_ops import import_torchvision_datasets
from flwr_krum.calls import Call, build, look_up, parse_call

# torch has one global generator, so two threads must not draw from it at once.
_drawing = threading.RLock()


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

    def __init__(self, classes: int) -> None:
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
            output=nn.Linear(16 * 7 * 7, classes),
        )
        super().__init__(layers)


class CnnMnist(nn.Sequential):
    """The model of ByzFL's benchmark on MNIST, for (N, 1, 28, 28); d = 431,080.

    Two 5x5 convolutions with ReLU and max-pooling, a hidden layer of 500. There it ends with a
    log-softmax and learns by the negative log-likelihood: that is the cross-entropy of these
    logits. Source: byzfl/fed_framework/models.py, ``cnn_mnist``.
    """

    def __init__(self, classes: int) -> None:
        layers = OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(1, 20, kernel_size=5),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, kernel_size=5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(50 * 4 * 4, 500),
            relu3=nn.ReLU(),
            fc2=nn.Linear(500, classes),
        )
        super().__init__(layers)


def _mlp(shape: Shape, classes: int) -> nn.Module:
    """Return a perceptron whose hidden layers are wider for images than for rows of a table."""
    width = 10 if len(shape) == 1 else 100
    return Mlp(math.prod(shape), (width, width), classes)


def _logistic(shape: Shape, classes: int) -> nn.Module:
    """Return a logistic regression: one affine layer."""
    layers = OrderedDict(flatten=nn.Flatten(), output=nn.Linear(math.prod(shape), classes))
    return nn.Sequential(layers)


def _resnet_18(_: Shape, classes: int) -> nn.Module:
    """Return torchvision's ResNet-18 with the stem that He et al. (2016) use on CIFAR-10.

    The first convolution is 3x3 with stride 1 in place of 7x7 with stride 2, and the max-pooling
    behind it is left out: 32 x 32 pixels would otherwise be 8 x 8 before the first block.
    """
    import_torchvision_datasets()  # helps torchvision beside a CPU-only torch
    from torchvision.models import resnet18

    model: nn.Module = resnet18(num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


BUILDERS: Mapping[str, Callable[[Shape, int], nn.Module]] = {
    "mlp": _mlp,  # d = 712 for Spambase, 89,610 for MNIST
    "logistic": _logistic,
    "convnet": lambda _, classes: ConvNet(classes),  # d = 13,738
    "cnn_mnist": lambda _, classes: CnnMnist(classes),
    "resnet-18": _resnet_18,  # d = 11,173,962
}
"""What builds a model for examples of a shape, by the names of the models."""


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
        If there is no such model for the task, or one of one's own is none.
    """
    shape, classes = shapes_of(task_name)
    check_model(model_name, shape)
    call = parse_call(model_name)
    with drawing(seed):
        if call.is_own:
            return _own(call, shape, classes)
        return build(call, lambda: BUILDERS[call.name](shape, classes), {})


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let what runs inside draw from torch's global generator, from a seed and for itself."""
    with _drawing, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _own(call: Call, shape: Shape, classes: int) -> nn.Module:
    """Build a model of the user's own, and see that it takes the examples.

    Raises
    ------
    ValueError
        If it is no model, or does not give one finite logit for each class.
    """
    try:
        kind = look_up(call, {})
        if isinstance(kind, nn.Module) or not callable(kind):
            raise ValueError(
                f"{call.name} is {type(kind).__name__}, expected what builds a model: every seed "
                "and process needs its own"
            )
        model: Any = build(call, kind, {"shape": shape, "classes": classes})
        if not isinstance(model, nn.Module):
            raise ValueError(f"{call.name} builds {type(model).__name__}, expected an nn.Module")
        _check_parts(model)
        _check_logits(model, shape, classes)
    except ValueError as error:
        raise ValueError(f"model is {str(call)!r}: {error}") from error
    return model


def _check_parts(model: nn.Module) -> None:
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise ValueError(f"parameter {frozen[0]} wants no gradient: make it a buffer")
    odd = [k for k, v in model.named_parameters() if v.dtype != torch.float32 or v.is_cuda]
    if odd:
        raise ValueError(f"parameter {odd[0]} is no float32 on the CPU, as the examples are")


def _check_logits(model: nn.Module, shape: Shape, classes: int) -> None:
    model.eval()
    try:
        with torch.no_grad():
            found = model(torch.zeros(2, *shape))
    except Exception as error:  # a model of the user's own may raise anything
        said = " ".join(str(error).split())
        raise ValueError(f"it does not take examples of shape {shape}: {said}") from error
    finally:
        model.train()
    size = tuple(getattr(found, "shape", ()))
    if size != (2, classes):
        raise ValueError(
            f"it gives {size} for 2 examples of shape {shape}, expected logits (2, {classes})"
        )


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
