"""What every client has in common that sends a vector of its own making."""

from abc import abstractmethod

from flwr.common import NDArrays

from clients.honest import HonestClient


class ByzantineClient(HonestClient):
    """A Byzantine worker that forges its model and reports an honest client's loss."""

    @abstractmethod
    def forge(self, parameters: NDArrays, server_round: int) -> NDArrays:
        """Return the model to send, of the shapes and dtypes of the parameters."""

    def propose(self, parameters: NDArrays, server_round: int) -> tuple[NDArrays, float]:
        """Return the forged model, and the loss on the mini-batch of an honest client."""
        return self.forge(parameters, server_round), self.first_loss(parameters, server_round)
