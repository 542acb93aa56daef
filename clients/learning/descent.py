"""What becomes of a gradient before it is a step: clipped, decayed, averaged over rounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.learning.stacked import Stack
from clients.settings import Settings


def directed(
    settings: Settings, gradient: Stack, copies: Stack, velocity: Stack
) -> tuple[Stack, Stack]:
    """Return the direction of a step of each copy, and its velocity.

    With C, l and b the settings ``clip_norm``, ``weight_decay`` and ``momentum``, in this order::

        g <- g min(1, C / ||g||)
        g <- g + l w
        m <- b m + (1 - b) g,    and the direction is m

    (worker momentum: El Mhamdi, Guerraoui, Rouault, ICLR 2021; Karimireddy, He, Jaggi, ICML 2021.)
    What is 0 is left out.

    Parameters
    ----------
    settings : Settings
    gradient, copies : Stack
        Of n copies; the parameters may be (1, *shape) where all are equal.
    velocity : Stack
        m of each copy; empty without momentum.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # in silence, as PyTorch
        if settings.clip_norm:
            gradient = _clipped(gradient, settings.clip_norm)
        if settings.weight_decay:
            decay = np.float32(settings.weight_decay)
            gradient = {name: part + decay * copies[name] for name, part in gradient.items()}
        if settings.momentum:
            keep, add = np.float32(settings.momentum), np.float32(1.0 - settings.momentum)
            gradient = velocity = {
                name: keep * velocity[name] + add * part for name, part in gradient.items()
            }
    return gradient, velocity


def _clipped(gradient: Stack, most: float) -> Stack:
    squares = [_squares(part) for part in gradient.values()]
    norms = np.sqrt(np.sum(squares, axis=0))
    factors = np.minimum(1.0, most / np.maximum(norms, 1e-300)).astype(np.float32)
    return {
        name: part * factors.reshape(-1, *[1] * (part.ndim - 1)) for name, part in gradient.items()
    }


def _squares(part: NDArray[np.float32]) -> NDArray[np.float64]:
    flat = part.reshape(len(part), -1).astype(np.float64)
    squares: NDArray[np.float64] = np.einsum("nd,nd->n", flat, flat)
    return squares


def as_rows(stack: Stack) -> NDArray[np.float32]:
    """Return a stack of n copies as rows (n, d)."""
    return np.concatenate([part.reshape(len(part), -1) for part in stack.values()], axis=1)


def from_rows(rows: NDArray[np.float32], like: Stack) -> Stack:
    """Return rows (n, d) as a stack of n copies, of the names and shapes of another."""
    sizes = [part[0].size for part in like.values()]
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return {
        name: part.reshape(len(rows), *like[name].shape[1:])
        for name, part in zip(like, parts, strict=True)
    }
