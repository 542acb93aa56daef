"""The model that a run begins with, where a client is trusted to hand it in.

Whoever names the initial model has the federation: a NaN in it refuses every honest reply, whole
numbers leave no distance to measure, and numbers near the largest make honest training diverge.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from logging import INFO, WARNING

import numpy as np
from flwr.common import Code, GetParametersIns, GetParametersRes, Parameters
from flwr.common.logger import log
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy

from flwr_krum.boundary.bfloat16 import widened
from flwr_krum.boundary.intake import decode_model
from flwr_krum.boundary.npy import SERIALIZATION
from flwr_krum.boundary.proxies import within
from flwr_krum.boundary.replies import ClientId, on_one_line, quoted
from flwr_krum.kernel.arrays import Array

LARGEST = 1e6
"""Magnitude beyond which no number of a model belongs that training is to begin with."""

PATIENCE = 600.0
"""Seconds to wait for one client's model."""


class InitialModelError(ValueError):
    """A model is none that a run can begin with, or no client has one; the text says why."""


def by_position(parameters: Parameters) -> dict[str, bytes]:
    """Return npy bytes with their positions for keys: ``aggregate_fit`` has no names."""
    return {str(position): tensor for position, tensor in enumerate(parameters.tensors)}


def ask_a_client(
    client_manager: ClientManager, name_of: Callable[[ClientProxy], ClientId]
) -> Parameters:
    """Return the initial model of a client, the first in random order whose model is sound.

    Parameters
    ----------
    client_manager : ClientManager
    name_of : callable, ClientProxy -> int or str
        What a client is called in the log.

    Raises
    ------
    InitialModelError
        If no client has a sound one.
    """
    (first,) = client_manager.sample(1)  # waits until there is one
    others = [client for client in client_manager.all().values() if client.cid != first.cid]
    refused = []
    for client in [first, *random.sample(others, len(others))]:
        try:
            parameters = _model_of(client)
        except Exception as error:  # whatever one client does, the next is asked
            name, why = name_of(client), on_one_line(error)
            refused.append(f"{name}: {why}")
            log(WARNING, "initial model of client %s refused: %s", name, why)
        else:
            log(INFO, "initial model: that of client %s", name_of(client))
            return parameters
    reasons = "; ".join(refused[:3])
    raise InitialModelError(f"no client has an initial model to begin with: {reasons}")


def _model_of(client: ClientProxy) -> Parameters:
    ask = partial(client.get_parameters, GetParametersIns({}), PATIENCE, 0)
    answer: GetParametersRes = within(PATIENCE, ask, client)
    if answer.status.code != Code.OK:
        raise InitialModelError(f"it has none: {answer.status.message}")
    if answer.parameters.tensor_type != SERIALIZATION:
        kind = quoted(answer.parameters.tensor_type, 40)
        raise InitialModelError(f"serialized as {kind}, expected {SERIALIZATION!r}")
    check_initial(decode_model(by_position(answer.parameters)))
    return answer.parameters


def check_initial(model: Mapping[str, Array]) -> None:
    """Check a model that a client hands in.

    Raises
    ------
    InitialModelError
        If no array has float numbers, or one of them is not finite or larger than `LARGEST`.
    """
    read = {key: widened(array) for key, array in model.items() if array.size}
    floats = {key: array for key, array in read.items() if array.dtype.kind == "f"}
    if not floats:
        raise InitialModelError("no array of it has float numbers: there is nothing to train")
    for key, array in floats.items():
        largest = float(np.abs(array).max())
        if not np.isfinite(largest):
            what = "NaN" if np.isnan(largest) else "Inf"
            raise InitialModelError(f"array {quoted(key)}: holds {what}")
        if largest > LARGEST:
            raise InitialModelError(
                f"array {quoted(key)}: holds {largest:g}, expected at most {LARGEST:g}"
            )
