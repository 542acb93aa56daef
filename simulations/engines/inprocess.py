"""A Grid that runs the ClientApp in this process: Flower's federation without Ray.

The unchanged ServerApp pushes messages; each is answered on the spot by the unchanged ClientApp
with the context of its node. Rounds take as long as their arithmetic and no longer.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable
from copy import copy
from itertools import count

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

FIRST_NODE_ID = 2
"""Node id of partition 0; 1 is the SuperLink's."""


class InProcessGrid(Grid):
    """n virtual nodes, each with a context of its own, that answer one at a time.

    Parameters
    ----------
    client_app : ClientApp
        Answers every message.
    num_nodes : int
        n; node ``i + FIRST_NODE_ID`` holds partition i of n.
    """

    def __init__(self, client_app: ClientApp, num_nodes: int, run_id: int = 1) -> None:
        # Outside a SuperLink nobody else tells Flower who the sender of a message is.
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        self._client_app = client_app
        self._run = Run.create_empty(run_id)
        self._replies: dict[str, Message] = {}
        self._message_ids = count(1)
        self._lock = threading.Lock()
        # Flower's server for `aggregate_fit` asks from many threads at once. There Python 3.11
        # fails, rarely, to parse an array's header (python/cpython#106905): a reply is lost.
        self._at_work = threading.Lock()
        self._contexts = {
            partition + FIRST_NODE_ID: Context(
                run_id=run_id,
                node_id=partition + FIRST_NODE_ID,
                node_config={"partition-id": partition, "num-partitions": num_nodes},
                state=RecordDict(),
                run_config={},
            )
            for partition in range(num_nodes)
        }

    def set_run(self, run: Run) -> None:
        """Set the run that the grid serves."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that the grid serves."""
        return self._run

    def factor(self) -> float | None:
        """Return nothing: what attackers note is their own."""
        return None

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Have the nodes answer, and return the ids under which the replies lie."""
        asked = list(messages)
        for message in asked:
            self._number(message)
        replies = self._answer_all(asked)
        for reply in replies:
            self._number(reply)
        ids = [message.metadata.message_id for message in asked]
        with self._lock:
            self._replies.update(zip(ids, replies, strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Hand out the replies to the given messages, each once."""
        with self._lock:
            return [self._replies.pop(id_) for id_ in message_ids if id_ in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push messages and pull their replies."""
        return self.pull_messages(self.push_messages(messages))

    def _answer_all(self, messages: list[Message]) -> list[Message]:
        """Return the reply to each message, in their order."""
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        node_id = message.metadata.dst_node_id
        received = copy(message)
        # Through bytes and back, as over a wire: no client can change what another receives.
        received.content = pickle.loads(pickle.dumps(message.content))
        try:
            with self._at_work:
                return self._client_app(received, self._contexts[node_id])
        except Exception as error:
            return failure(error, received)

    def _number(self, message: Message) -> None:
        message.metadata.__dict__["_message_id"] = str(next(self._message_ids))


def failure(error: Exception, message: Message) -> Message:
    """Return the reply of a client that breaks: it fails, and the federation goes on, as on Ray."""
    reason = f"{type(error).__name__}: {error}"
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
