"""Many copies of one model, computed as one: their parameters stacked, their batches side by side.

A client of a small model spends its time between the arithmetic. Here the clients of a round pay
that once: a linear layer of n copies is one batched product, a convolution of n copies is one
convolution with n groups. (`torch.func.vmap` does the same for any model; for the three of this
package, measured, in two to four times the time.)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

Stack = dict[str, torch.Tensor]
"""Parameters by name, each (n, *shape): one slice per copy."""

_LAYERS = (nn.Flatten, nn.ReLU, nn.Linear, nn.Conv2d)


def is_stackable(model: nn.Module) -> bool:
    """Say whether the model is a sequence of layers whose copies can be computed as one."""
    return isinstance(model, nn.Sequential) and all(isinstance(m, _LAYERS) for m in model)


def stack(model: nn.Module, n: int) -> Stack:
    """Return n copies of a model's parameters, which share their memory until they are changed."""
    return {name: p.detach().expand(n, *p.shape) for name, p in model.named_parameters()}


def losses(model: nn.Module, copies: Stack, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return each copy's mean cross-entropy on its own batch, (n,).

    Parameters
    ----------
    model : nn.Module
        Stackable; gives the layers, not the parameters.
    copies : Stack
        n copies of its parameters.
    x : torch.Tensor
        (n, N, ...), float32: N examples for each copy.
    y : torch.Tensor
        (n, N), int64 labels.
    """
    logits = _forward(model, copies, x).flatten(0, 1)
    each = functional.cross_entropy(logits, y.flatten(), reduction="none")
    return each.view_as(y).mean(dim=1)


def losses_and_gradients(
    model: nn.Module, copies: Stack, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, Stack]:
    """Return each copy's mean loss and the gradient of it, parameters as for `losses`."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in copies.items()}
    each = losses(model, leaves, x, y)
    # No copy's loss depends on another's parameters: the sum's gradient holds every one's own.
    parts = torch.autograd.grad(each.sum(), tuple(leaves.values()))
    return each.detach(), dict(zip(leaves, parts, strict=True))


def _forward(model: nn.Module, copies: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return the logits (n, N, classes)."""
    for name, layer in model.named_children():
        match layer:
            case nn.Linear():
                weight, bias = copies[f"{name}.weight"], copies[f"{name}.bias"]
                x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
            case nn.Conv2d():
                x = _convolve(layer, copies[f"{name}.weight"], copies[f"{name}.bias"], x)
            case nn.Flatten():
                x = x.flatten(2)
            case nn.ReLU():
                x = functional.relu(x)
            case _:
                raise TypeError(f"layer {name!r} is a {type(layer).__name__}, cannot be stacked")
    return x


def _convolve(
    layer: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Convolve (n, N, channels, height, width) with one kernel per copy, as n groups of one."""
    grouped = functional.conv2d(
        x.transpose(0, 1).flatten(1, 2),
        weight.flatten(0, 1),
        bias.flatten(),
        layer.stride,
        layer.padding,
        groups=len(weight),
    )
    return grouped.view(len(grouped), len(weight), -1, *grouped.shape[2:]).transpose(0, 1)
