"""Tensors as the arrays that Flower's records carry, and back; torch's bfloat16 too.

``ArrayRecord`` cannot hold a bfloat16 tensor. What it holds is exactly a float32, in which it
travels and is aggregated; a client rounds it on the way in. Works without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flwr_krum.kernel.arrays import Array


def to_arrays(tensors: Mapping[str, Any]) -> dict[str, Array]:
    """Return copies of tensors as arrays by key, bfloat16 as float32.

    Parameters
    ----------
    tensors : mapping of key to torch.Tensor
        Such as ``model.state_dict()``, or what peft's ``get_peft_model_state_dict`` returns.
    """
    return {key: _to_array(tensor) for key, tensor in tensors.items()}


def from_arrays(arrays: Mapping[str, Array], like: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays as tensors by key, in the dtype and on the device of those that they replace.

    Parameters
    ----------
    arrays : mapping of key to array
    like : mapping of key to torch.Tensor
        Such as the model's ``state_dict()``; other keys of it are left out.

    Raises
    ------
    ValueError
        If an array has no tensor of its key, or another shape.
    """
    unknown = sorted(arrays.keys() - like.keys())
    if unknown:
        raise ValueError(f"no tensor is called {unknown[0]!r}, expected some of {sorted(like)}")
    for key, array in arrays.items():
        if array.shape != tuple(like[key].shape):
            raise ValueError(
                f"array {key!r} has shape {array.shape}, expected {tuple(like[key].shape)}"
            )
    return {key: like[key].new_tensor(np.array(array)) for key, array in arrays.items()}


def _to_array(tensor: Any) -> Array:
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return np.array(tensor.detach().cpu().numpy())
