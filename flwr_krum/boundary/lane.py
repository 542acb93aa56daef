"""Replies object by object, each distinct object of a round once, through Flower's private client.

Flower cuts a reply into objects that are named by their SHA-256, and its SuperLink checks that they
are: equal names are equal bytes. What several replies share, frozen layers above all, need not be
fetched for each. The public ``pull_messages`` cannot do that, and waits for whoever uploads slowly;
the client behind it tells the names before any data, and says at once what is not there yet.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from logging import INFO
from typing import TYPE_CHECKING, TypeAlias, cast

import flwr
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from flwr_krum.boundary.replies import in_a_sentence

if TYPE_CHECKING:  # their places are private: another version of Flower may not have them
    from flwr.proto.message_pb2 import ObjectTree
    from flwr.superlink.grid.http_grid import HttpGrid

TESTED = ("1.41.0", "1.42.0")
"""Versions of Flower whose private parts are known to be as they are used here."""

MOST_DEPTH = 5
"""Message, record dictionary, record, array, chunk."""

Children: TypeAlias = dict[str, tuple[str, ...]]
"""The children of each object of a reply, each after its children."""


class OddReplyError(ValueError):
    """A reply whose objects no honest node would send."""


class LostReplyError(Exception):
    """A reply that was announced, and whose objects will not come any more."""


class Claim:
    """A reply that the SuperLink has handed over, and what of it is here.

    Parameters
    ----------
    message_id : str

    Attributes
    ----------
    waits : bool
        Whether the next of its objects was not there yet.
    """

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        self.children: Children = {}
        self.contents: dict[str, bytes] = {}
        self.missing: deque[str] = deque()
        self.size = 0
        self.waits = False
        self.problem: OddReplyError | None = None


class ChunkLane:
    """Fetches the replies of a round; for one thread.

    Parameters
    ----------
    grid : HttpGrid
        Of a version in `TESTED`; see `open`.

    Attributes
    ----------
    fetched_bytes : int
        Bytes of all objects that were fetched in the round.
    distinct_bytes : int
        Bytes of these, each object counted once.
    """

    def __init__(self, grid: HttpGrid) -> None:
        self._client, self._node = grid._runtime_client, grid.node
        self._run_id = grid.run.run_id
        self.begin(0, 0, 0)

    @classmethod
    def open(cls, grid: Grid) -> ChunkLane | None:
        """Return a lane; None, with the reason in the log, where this grid or Flower has none."""
        if not (problem := _problem(grid)):
            return cls(cast("HttpGrid", grid))
        log(INFO, "lane: replies are fetched whole, %s", problem)
        return None

    def begin(self, objects: int, most: float, room: float, model: Collection[str] = ()) -> None:
        """Forget the last round.

        Parameters
        ----------
        objects : int
            Objects of a reply at most.
        most : float
            Bytes of a reply at most.
        room : float
            Bytes of objects that may be kept for other replies at most.
        model : collection of object ids
            Objects of the global model: replies that are still to come may have them.
        """
        self._most_objects, self._most, self._room = objects, most, room
        self._model = frozenset(model)
        self._wanted: Counter[str] = Counter()
        self._shared: dict[str, bytes] = {}
        self._fetched: set[str] = set()
        self.fetched_bytes = self.distinct_bytes = 0

    def claims(self, ids: Iterable[str]) -> dict[str, Claim]:
        """Claim the replies that are announced, and return them by the ids of their messages.

        The SuperLink hands each reply over once: whoever drops a claim has lost its reply.
        """
        from flwr.proto.runtime_pb2 import PullAppMessagesRequest

        answer = self._client.PullMessages(PullAppMessagesRequest(message_ids=list(ids)))
        return {
            message.metadata.reply_to_message_id: self._claim(message.metadata.message_id, tree)
            for message, tree in zip(answer.messages_list, answer.message_object_trees, strict=True)
        }

    def _claim(self, message_id: str, tree: ObjectTree) -> Claim:
        """Return a claim whose objects are wanted from now on."""
        claim = Claim(message_id)
        try:
            claim.children = bounded(tree, self._most_objects)
        except OddReplyError as error:
            claim.problem = error
        claim.missing.extend(claim.children)
        self._wanted.update(claim.children.keys())
        return claim

    def advance(self, claim: Claim, seconds: float = math.inf) -> Message | None:
        """Fetch what is there of a reply; return it once it is whole.

        It never waits for the node, and begins with no further object after so many seconds.
        After any other error than those below it can be gone on with: what was fetched is still
        here.

        Raises
        ------
        OddReplyError
            If it has too many objects or bytes, or others than were announced; it is then lost.
        LostReplyError
            If the SuperLink has let go of it.
        """
        end = time.monotonic() + seconds
        try:
            if claim.problem is not None:
                raise claim.problem
            while claim.missing:
                content = self._content(claim.missing[0])
                claim.waits = content is None
                if content is None:
                    return None
                self._add(claim, content)
                if time.monotonic() > end:
                    return None
            reply = _read(claim, self._most)
        except (OddReplyError, LostReplyError):
            self.drop(claim)
            raise
        self.drop(claim)
        return reply

    def _content(self, object_id: str) -> bytes | None:
        """Return an object, None if it is not there yet."""
        from flwr.proto.message_pb2 import PullObjectRequest

        if (known := self._shared.get(object_id)) is not None:
            return known
        request = PullObjectRequest(node=self._node, run_id=self._run_id, object_id=object_id)
        answer = self._client.PullObject(request)
        if not answer.object_found:
            raise LostReplyError(f"object {object_id[:12]} is gone before it was uploaded")
        if not answer.object_available:
            return None
        content: bytes = answer.object_content
        self.fetched_bytes += len(content)
        if object_id not in self._fetched:
            self._fetched.add(object_id)
            self.distinct_bytes += len(content)
        return content

    def _add(self, claim: Claim, content: bytes) -> None:
        object_id = claim.missing[0]
        claim.size += len(content)
        if claim.size > self._most:
            raise OddReplyError(
                f"it has at least {claim.size} bytes, at most {self._most} are read"
            )
        claim.contents[object_id] = content
        claim.missing.popleft()
        self._wanted[object_id] -= 1
        if self._wanted[object_id] > 0 or object_id in self._model:
            if object_id not in self._shared and len(content) <= self._room:
                self._shared[object_id] = content
                self._room -= len(content)
        else:
            self._let_go(object_id)

    def _let_go(self, object_id: str) -> None:
        self._room += len(self._shared.pop(object_id, b""))

    def drop(self, claim: Claim) -> None:
        """Let the SuperLink forget a reply, and go on without it."""
        from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest

        for object_id in claim.missing:
            self._wanted[object_id] -= 1
            if self._wanted[object_id] <= 0 and object_id not in self._model:
                self._let_go(object_id)
        claim.missing.clear()
        claim.contents.clear()
        request = ConfirmMessageReceivedRequest(
            node=self._node, run_id=self._run_id, message_object_id=claim.message_id
        )
        with suppress(Exception):  # it costs the SuperLink's memory, and no reply
            self._client.ConfirmMessageReceived(request)


def bounded(tree: ObjectTree, most: int) -> Children:
    """Return the objects of a tree, each once and after its children.

    An object may stand in several places: two layers may have a chunk of zeros in common.

    Raises
    ------
    OddReplyError
        If it has more than ``most`` places or is deeper than `MOST_DEPTH`.
    """
    order: list[ObjectTree] = []
    for depth, node in walk(tree):
        if len(order) == most:
            raise OddReplyError(f"it has more than {most} objects, expected at most so many")
        if depth > MOST_DEPTH:
            raise OddReplyError(f"its objects are nested {depth} deep, expected 1 to {MOST_DEPTH}")
        order.append(node)
    children: Children = {}
    for node in reversed(order):  # parents came before children
        children.setdefault(node.object_id, tuple(child.object_id for child in node.children))
    return children


def walk(tree: ObjectTree) -> Iterator[tuple[int, ObjectTree]]:
    """Yield the nodes of a tree with their depth, parents first; no recursion is a liar's."""
    left = [(1, tree)]
    while left:
        depth, node = left.pop()
        yield depth, node
        left += [(depth + 1, child) for child in node.children]


def _read(claim: Claim, most: float) -> Message:
    """Return a reply of its objects, whatever a liar wrote into these."""
    try:
        return _inflated(claim, most)
    except OddReplyError:
        raise
    except Exception as error:
        raise OddReplyError(f"it cannot be read: {in_a_sentence(error)}") from error


def _inflated(claim: Claim, most: float) -> Message:
    """Return a reply of its objects, after a look at how large it becomes."""
    from flwr.supercore.inflatable.inflatable_object import (
        get_object_head_values_from_object_content,
    )
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    bodies: dict[str, int] = {}
    whole = 0
    for object_id, announced in claim.children.items():
        content = claim.contents[object_id]
        kind, children, bodies[object_id] = get_object_head_values_from_object_content(content)
        if tuple(children) != announced:
            raise OddReplyError(f"object {object_id[:12]} has other children than were announced")
        if kind == "Array":  # which may name one chunk any number of times
            indices = json.loads(content[-bodies[object_id] :])["arraychunk_ids"]
            whole += sum(bodies[children[index]] for index in indices)
            if whole > most:
                raise OddReplyError(
                    f"its arrays have at least {whole} bytes, at most {most} are read"
                )
    reply = inflate_object_from_contents(claim.message_id, claim.contents)
    if not isinstance(reply, Message):
        raise OddReplyError(f"it is a {type(reply).__name__}, expected a Message")
    reply.metadata.__dict__["_message_id"] = claim.message_id
    return reply


def _problem(grid: Grid) -> str:
    """Return why a grid has no lane; empty if it has."""
    if flwr.__version__ not in TESTED:
        return f"Flower is {flwr.__version__}, tested was {', '.join(TESTED)}"
    try:
        from flwr.superlink.grid.http_grid import HttpGrid

        # By its type: a mock says of itself that it is an instance of anything.
        if not issubclass(type(grid), HttpGrid):
            return f"{type(grid).__name__} has no client of the SuperLink's"
        client = cast(HttpGrid, grid)._runtime_client
        calls = ("PullMessages", "PullObject", "ConfirmMessageReceived")
        if lacking := [name for name in calls if not callable(getattr(client, name, None))]:
            return f"its client has no {', '.join(lacking)}"
        return "" if _comes_back() else "a message did not come back from its objects as it was"
    except Exception as error:
        return f"its parts are not as expected: {type(error).__name__}: {error}"


def _comes_back() -> bool:
    """Say whether a message that is cut into objects is itself again."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

    array = Array("uint8", (3,), "numpy.ndarray", b"abc")
    message = Message(RecordDict({"arrays": ArrayRecord({"a": array})}), 1, "train")
    claim = Claim(message.object_id)
    claim.children = bounded(get_object_tree(message), MOST_DEPTH)
    claim.contents = {id_: o.deflate() for id_, o in get_all_nested_objects(message).items()}
    reply = _inflated(claim, 1024)
    return reply.content["arrays"] == message.content["arrays"]
