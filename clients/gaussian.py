"""The Gaussian client: random vectors in place of gradients."""

import math

from flwr.common import NDArrays

from clients.byzantine import ByzantineClient
from clients.honest import in_dtypes_of
from clients.learning.schedules import learning_rate
from clients.streams import Purpose, stream


class GaussianClient(ByzantineClient):
    """A Byzantine worker that knows nothing and sends noise.

    Its vector is V ~ N(0, variance * I) (variance 200 in the paper's supplement), drawn afresh by
    every client in every round; it reaches Flower as the model ``w - rate * V``.
    """

    def forge(self, parameters: NDArrays, server_round: int) -> NDArrays:
        """Return ``w - rate * V``, and integer buffers as they are."""
        rng = stream(self.settings.seed, Purpose.GAUSSIAN, self.partition_id, server_round)
        rate = learning_rate(self.settings, server_round)
        scale = rate * math.sqrt(self.settings.gaussian_variance)
        proposal = [
            array - scale * rng.standard_normal(array.shape)
            if array.dtype.kind == "f"
            else array.copy()
            for array in parameters
        ]
        return in_dtypes_of(parameters, proposal)
