"""The distances between replies that came, worked out while others are on their way.

What is known when the last reply comes need not be worked out then. It has the same bits: what is
not known, or turns out to be refused, late or in another form, costs its time and changes nothing.
"""

from __future__ import annotations

import math
from contextlib import suppress
from threading import Event

import numpy as np

from flwr_krum.boundary.crew import Crew
from flwr_krum.boundary.intake import RefusedError, read
from flwr_krum.boundary.replies import Reply
from flwr_krum.boundary.template import ClientModel, Template
from flwr_krum.kernel.arrays import Array
from flwr_krum.kernel.device import MOST_DIFFERENCES, is_compiled
from flwr_krum.kernel.known import TOGETHER, KnownPairs
from flwr_krum.kernel.stored import StoredArray
from flwr_krum.kernel.updates import PIECE, ClientUpdates
from flwr_krum.kernel.ways import known_pairs


class Early:
    """The models of one round so far, and the distances between them.

    Models are taken in batches of three quarters of what is still to come, one batch at a time and
    on one thread: each batch reads all models before it, so that more batches would take more in
    all, and clients of this machine need the other threads. The last batch is left to the round.

    Parameters
    ----------
    template : Template
    device : str
    expected : int
        How many models will make the round.
    """

    def __init__(self, template: Template, device: str, expected: int) -> None:
        self._template = template
        self._device = device
        self._expected = expected
        self._keys = tuple(key for key in template.formats if key in template.measured)
        self._models: list[tuple[Array, ...]] = []
        self._begun = 0
        self._known: KnownPairs | None = None
        self._crew = Crew()
        self._idle = Event()
        self._idle.set()

    def take(self, reply: Reply) -> None:
        """Take a reply that came, whatever it is, and have a batch worked out where one is full."""
        try:
            model = self._model(read(reply, self._template))
        except RefusedError:
            return
        if model is None:
            return
        self._models.append(model)
        waiting, missing = len(self._models) - self._begun, self._expected - self._begun
        if self._idle.is_set() and max(TOGETHER, 3 * missing // 4) <= waiting < missing:
            self._begun += waiting // TOGETHER * TOGETHER
            self._idle.clear()
            try:
                self._crew.do(self._work)
            except RuntimeError:  # the machine has no thread to spare: nothing is begun early
                self._idle.set()

    def known(self) -> KnownPairs | None:
        """Return the distances that are known, after a batch that is being worked out."""
        self._idle.wait()
        return self._known

    def _model(self, arrays: ClientModel) -> tuple[Array, ...] | None:
        """Return the layers that are measured, where the round will read them as they lie."""
        template = self._template
        if {key: (a.shape, a.dtype) for key, a in arrays.items()} != template.formats:
            return None
        layers = []
        for key in self._keys:
            layer = arrays[key]
            if isinstance(layer, StoredArray) or not layer.flags.c_contiguous:
                return None
            if isinstance(layer.base, np.ndarray):  # of bytes no more: cast, and for this alone
                return None
            layers.append(layer)
        return tuple(layers)

    def _work(self) -> None:
        try:
            with suppress(Exception):  # the round can do without, and says itself what is wrong
                self._known = self._worked_out() or self._known
        finally:
            self._idle.set()

    def _worked_out(self) -> KnownPairs | None:
        template = self._template
        assert template.reference is not None  # of a global model that is known
        reference = tuple(template.reference[key] for key in self._keys)
        dtypes = tuple(template.formats[key][1] for key in self._keys)
        models = tuple(self._models[: self._begun])
        return known_pairs(
            ClientUpdates(models, reference, dtypes, self._device, known=self._known)
        )


def is_worth_it(template: Template, device: str, n: int) -> bool:
    """Say whether n models are so large, and compared pair by pair, that to begin early pays."""
    size = sum(math.prod(template.formats[key][0]) for key in template.measured)
    if n > MOST_DIFFERENCES or not is_compiled(device, n, size):
        return False
    if template.space or template.constants or template.narrows:
        return False
    return size > PIECE
