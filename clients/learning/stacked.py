"""Many copies of one model computed as one: their parameters stacked, their batches side by side.

A client of a small model spends its time between the arithmetic. Here the clients of a round pay
that once: an affine layer of n copies is one batched product, a convolution of n copies is one
convolution with n groups. (`torch.func.vmap` does the same for any model; for those of this
package, measured, in two to four times the time.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

_LAYERS = (nn.Flatten, nn.ReLU, nn.Linear, nn.Conv2d, nn.MaxPool2d)

Stack = dict[str, NDArray[np.float32]]
"""Parameters by name: (n, *shape), one slice per copy, or (1, *shape) where all are equal."""


def stack(model: nn.Module, arrays: Sequence[NDArray[Any]]) -> Stack:
    """Return arrays as a stack of equal copies of a model's parameters.

    Raises
    ------
    ValueError
        If the number of arrays or a shape differs from the model's.
    """
    shapes = _shapes(model)
    if [array.shape for array in arrays] != list(shapes.values()):
        found = [array.shape for array in arrays]
        raise ValueError(f"got arrays of shapes {found}, expected {list(shapes.values())}")
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is Inf, in silence
        return {
            name: np.array(array, np.float32)[None]
            for name, array in zip(shapes, arrays, strict=True)
        }


@lru_cache(maxsize=16)  # PyTorch walks through all modules for it
def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def fits(model: nn.Module) -> bool:
    """Say whether the model is a sequence of layers whose copies can be computed as one."""
    if not is_sequence(model):
        return False
    kinds = [type(layer) for layer in model.children()]
    linear = kinds.index(nn.Linear) if nn.Linear in kinds else len(kinds)
    return nn.Flatten in kinds[:linear] and all(map(is_plain, model.children()))


def is_sequence(model: nn.Module) -> bool:
    """Say whether a model passes its input through its layers and does nothing else, each once."""
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        return False
    return len({id(layer) for layer in model}) == len(model)


def is_plain(layer: nn.Module) -> bool:
    """Say whether a layer is one of those that are written out here, options and all."""
    if type(layer) not in _LAYERS:  # a subclass may compute something else
        return False
    match layer:
        case nn.Linear(bias=bias):
            return bias is not None
        case nn.Conv2d(bias=bias, groups=groups, dilation=dilation, padding_mode=mode):
            plain = bias is not None and not isinstance(layer.padding, str)
            return plain and groups == 1 and dilation == (1, 1) and mode == "zeros"
        case nn.Flatten(start_dim=first, end_dim=last):
            return first == 1 and last == -1
        case nn.MaxPool2d(return_indices=indices):
            return not indices
    return True


def losses_and_gradients(
    model: nn.Module, copies: Stack, x: NDArray[np.float32], y: NDArray[np.int64], trained: int
) -> tuple[NDArray[np.float32], Stack]:
    """Return each copy's mean cross-entropy on its own batch, and the gradient of some of them.

    Parameters
    ----------
    model : nn.Module
        One that `fits`; gives the layers, not the parameters.
    copies : Stack
        Of its parameters.
    x : np.ndarray
        (n, N, ...), float32: N examples for each copy.
    y : np.ndarray
        (n, N), int64 labels.
    trained : int
        How many of the copies, from the first, want their gradient: all, unless they are equal.

    Returns
    -------
    losses : np.ndarray
        (n,), float32.
    gradient : Stack
        (trained, *shape) for each parameter.
    """
    losses = []
    gradient = {k: np.empty((0, *array.shape[1:]), array.dtype) for k, array in copies.items()}
    if trained:
        leaves = _leaves(copies, trained)
        each = _losses(model, leaves, x[:trained], y[:trained])
        # No copy's loss depends on another's parameters: the sum's gradient holds each one's own.
        parts = torch.autograd.grad(each.sum(), tuple(leaves.values()))
        gradient = {name: part.numpy() for name, part in zip(leaves, parts, strict=True)}
        losses.append(each.detach().numpy())
    if trained < len(y):
        with torch.inference_mode():
            leaves = _leaves(copies, len(y) - trained)
            losses.append(_losses(model, leaves, x[trained:], y[trained:]).numpy())
    return np.concatenate(losses), gradient


def _leaves(copies: Stack, n: int) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(array).expand(n, *array.shape[1:]).requires_grad_()
        for name, array in copies.items()
    }


def _losses(
    model: nn.Module,
    leaves: Mapping[str, torch.Tensor],
    x: NDArray[np.float32],
    y: NDArray[np.int64],
) -> torch.Tensor:
    logits = _forward(model, leaves, torch.from_numpy(x)).flatten(0, 1)
    labels = torch.from_numpy(y)
    each = functional.cross_entropy(logits, labels.flatten(), reduction="none")
    return each.view_as(labels).mean(dim=1)


def _forward(model: nn.Module, leaves: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return the logits (n, N, classes)."""
    n, is_flat = len(x), False
    x = _side_by_side(x)
    for name, layer in model.named_children():
        match layer:
            case nn.Linear():
                weight, bias = leaves[f"{name}.weight"], leaves[f"{name}.bias"]
                x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
            case nn.Conv2d():
                x = _convolve(layer, leaves[f"{name}.weight"], leaves[f"{name}.bias"], x)
            case nn.MaxPool2d():
                x = layer(x)
            case nn.Flatten() if not is_flat:
                x, is_flat = x.reshape(len(x), n, -1).transpose(0, 1), True
            case nn.Flatten():
                pass
            case _:
                x = functional.relu(x)
    return x


def _side_by_side(x: torch.Tensor) -> torch.Tensor:
    """Return examples (n, N, channels, ...) as (N, n * channels, ...), the channels of all last.

    In memory, that is: oneDNN's convolutions and PyTorch's pooling take half the time there. What
    has two sides and no channels has one.
    """
    if x.dim() == 4:
        x = x.unsqueeze(2)
    x = x.transpose(0, 1).flatten(1, 2)
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _convolve(
    layer: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Convolve (N, n * channels, height, width) with one kernel per copy, as n groups of one."""
    kernels = weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    n = len(weight)
    return functional.conv2d(x, kernels, bias.flatten(), layer.stride, layer.padding, groups=n)
