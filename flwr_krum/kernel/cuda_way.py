"""Geometry and combination on a GPU, by torch: the same float64 sums, elsewhere.

torch is imported when a GPU is asked for and not before. Models pass through the GPU in pieces of
columns, so that they need not fit into its memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from flwr_krum.kernel.arrays import Float64
from flwr_krum.kernel.stored import Layer
from flwr_krum.kernel.updates import PIECE, ClientUpdates

if TYPE_CHECKING:
    import torch


@cache
def find(device: str) -> torch.device:
    """Return torch's name for a GPU.

    Raises
    ------
    ValueError
        If torch is not installed, or sees no such GPU.
    """
    try:
        import torch
    except ImportError as error:
        raise ValueError(f"device={device!r} needs torch, which is not installed") from error
    count = torch.cuda.device_count()
    found = torch.device(device)
    if (found.index or 0) >= count:
        raise ValueError(f"device={device!r} is not there: torch sees {count} CUDA GPUs")
    return found


def gram(updates: ClientUpdates, scale: float = 1.0) -> Float64:
    """Return the Gram matrix of ``scale *`` (row - global model), server rows last, in float64."""
    import torch

    device = find(updates.device)
    g = torch.zeros((updates.rows, updates.rows), dtype=torch.float64, device=device)
    for start in range(0, updates.d, PIECE):
        for piece, first, last in updates.segments(start, min(updates.d, start + PIECE)):
            block = _upload(updates.flat_rows[: updates.rows], piece, first, last, device)
            if updates.flat_reference is not None:
                block -= _upload([updates.flat_reference], piece, first, last, device)
            block *= scale
            g += block @ block.T
    return g.cpu().numpy()


def weighted_sum(
    flats: Sequence[Sequence[Layer]],
    device: str,
    weights: Float64,
    piece: int,
    first: int,
    last: int,
) -> Float64:
    """Return ``sum_i w_i V_i`` of some columns of a piece, in float64."""
    import torch

    found = find(device)
    block = _upload(flats, piece, first, last, found)
    total: Float64 = (torch.from_numpy(weights).to(found) @ block).cpu().numpy()
    return total


def _upload(
    flats: Sequence[Sequence[Layer]], piece: int, first: int, last: int, device: torch.device
) -> torch.Tensor:
    """Return (n, last - first) values of a piece on the GPU, as float64."""
    import torch

    # They travel in their own type, which is half as wide mostly, and in an order that torch takes.
    values = np.stack([flat[piece][first:last] for flat in flats])
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(native).to(device).double()
