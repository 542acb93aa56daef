"""The malformed client: replies that are no model."""

from flwr.app import RecordDict

from clients.honest import HonestClient
from flwr_krum.attacks import FAULTS


class MalformedClient(HonestClient):
    """A Byzantine worker that trains honestly and breaks its reply on the way out.

    What is wrong with it is the setting ``fault``: NaN, another shape, swapped names, a header
    that claims terabytes, an absurd number of examples, and whatever else a server must survive.
    """

    def spoil(self, content: RecordDict) -> None:
        """Break the reply."""
        FAULTS[self.settings.fault](content)
