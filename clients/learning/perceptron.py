"""Many copies of a small multi-layer perceptron computed as one, in NumPy.

Where a layer takes a microsecond, PyTorch's dispatcher and autograd are nine tenths of a training
step. Backpropagation through affine layers and ReLU is three products a layer (Rumelhart, Hinton,
Williams: "Learning representations by back-propagating errors", 1986), so they are written out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clients.learning.stacked import Stack, is_plain, is_sequence

Floats = NDArray[np.float32]


def fits(model: nn.Module) -> bool:
    """Say whether the model is a perceptron: flat input, affine layers with ReLU between them."""
    if not is_sequence(model) or not all(map(is_plain, model.children())):
        return False
    flatten, *layers = map(type, model.children())
    between: list[type] = [nn.Linear, nn.ReLU] * (len(layers) // 2)
    return flatten is nn.Flatten and layers == [*between, nn.Linear]


def losses_and_gradients(
    model: nn.Module, copies: Stack, x: Floats, y: NDArray[np.int64], trained: int
) -> tuple[Floats, Stack]:
    """Return what `clients.learning.stacked.losses_and_gradients` returns."""
    layers = _layers(copies)
    with np.errstate(all="ignore"):  # an attacked model may overflow: its loss is then Inf or NaN
        *inputs, logits = _forward(layers, x)
        losses, slope = _losses(logits, y)
        slope = slope[:trained]
        parts: list[Floats] = []
        for (weight, _), h in zip(layers[::-1], inputs[::-1], strict=True):
            h = h[:trained]
            parts += [slope.sum(axis=1), slope.transpose(0, 2, 1) @ h]
            if len(parts) < 2 * len(layers):  # the input has no use for a gradient
                slope = _product(slope, weight)
                np.copyto(slope, 0.0, where=h <= 0.0)
    return losses, dict(zip(copies, parts[::-1], strict=True))


def _layers(copies: Stack) -> list[tuple[Floats, Floats]]:
    """Return weight and bias of each layer: (k, out, in) and (k, 1, out), where k is 1 or n."""
    tensors = list(copies.values())
    return [(w, b[:, None]) for w, b in zip(tensors[::2], tensors[1::2], strict=True)]


def _forward(layers: Sequence[tuple[Floats, Floats]], x: Floats) -> list[Floats]:
    """Return the input (n, N, in) of each layer, and the logits."""
    h = x.reshape(*x.shape[:2], -1)
    outputs = [h]
    for weight, bias in layers:
        if len(outputs) > 1:
            np.maximum(h, 0.0, out=h)
        h = _product(h, weight.transpose(0, 2, 1), bias)
        outputs.append(h)
    return outputs


def _product(h: Floats, weight: Floats, bias: Floats | float = 0.0) -> Floats:
    """Return ``h weight + bias`` (n, N, out); copies that share one weight are one product."""
    product: Floats = h.reshape(len(weight), -1, h.shape[2]) @ weight
    product += bias
    return product.reshape(*h.shape[:2], weight.shape[2])


def _losses(logits: Floats, y: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the mean cross-entropy of each copy (n,), and its slope over the logits."""
    size = y.shape[1]
    shifted = logits - logits.max(axis=2, keepdims=True)
    slope = np.exp(shifted)
    total = slope.sum(axis=2, keepdims=True)
    own = np.arange(y.size).reshape(y.shape), y
    flat = (-1, logits.shape[2])
    surprise = np.log(total[:, :, 0]) - shifted.reshape(flat)[own]
    slope /= total
    slope.reshape(flat)[own] -= 1.0
    slope /= size
    return surprise.sum(axis=1) / np.float32(size), slope
