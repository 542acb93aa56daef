"""Replies object by object, each distinct object of a round once, through Flower's private client.

Flower cuts a reply into objects that are named by their SHA-256, and its SuperLink checks that they
are: equal names are equal bytes. What several replies share, frozen layers above all, need not be
fetched for each. The public ``pull_messages`` cannot do that, and waits for whoever uploads slowly;
the client behind it tells the names before any data, and says at once what is not there yet.

What a reply consists of is what its own objects name, from its message on. The tree that is
announced with it is only a guess of that: a SuperLink that keeps objects in memory has the children
of an object from whoever announced it first, so that a liar can give an honest reply a tree.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from logging import INFO
from typing import TYPE_CHECKING, cast

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


class OddReplyError(ValueError):
    """A reply whose objects no honest node would send; they are its own, whoever announced what."""


class LostReplyError(Exception):
    """A reply that was announced, and will not come any more; nobody knows through whom."""


class Claim:
    """A reply that the SuperLink has handed over, and what of it is here.

    Parameters
    ----------
    message_id : str
        Names its first object; empty where not even that is known.
    announced : object ids
        What it seems to consist of.
    problem : LostReplyError, optional
        Why nothing of it will come.

    Attributes
    ----------
    guesses : dict of object ids
        Those of the announced that were not fetched yet, in their order.
    contents : dict of object id to bytes
    numbers, beside : int
        Bytes of these that are parts of arrays, and of all else.
    reached : set of object ids
        Those that are named by contents, from the message on, and are here.
    waits : bool
        Whether the next of its objects was not there yet.
    """

    def __init__(
        self,
        message_id: str,
        announced: Iterable[str] = (),
        problem: LostReplyError | None = None,
    ) -> None:
        self.message_id = message_id
        self.problem = problem
        self.guesses = dict.fromkeys(announced)
        self.contents: dict[str, bytes] = {}
        self.numbers = self.beside = 0
        self.reached: set[str] = set()
        self.waits = False
        self._left = [(1, message_id)]
        self._places = 0

    def lacking(self, most: int) -> str | None:
        """Return the next object that it needs and that is not here; None once it is whole.

        An object may stand in several places: two layers may have a chunk of zeros in common.

        Raises
        ------
        OddReplyError
            If it has more than ``most`` places, or is deeper than `MOST_DEPTH`.
        """
        while self._left:
            depth, object_id = self._left[-1]
            if (content := self.contents.get(object_id)) is None:
                return object_id
            self._left.pop()
            self._places += 1
            self.reached.add(object_id)
            children = _children(content)
            if self._places + len(self._left) + len(children) > most:
                raise OddReplyError(f"it has more than {most} objects, expected at most so many")
            if children and depth == MOST_DEPTH:
                raise OddReplyError(
                    f"its objects are nested {depth + 1} deep, expected 1 to {MOST_DEPTH}"
                )
            self._left += [(depth + 1, child) for child in reversed(children)]
        return None

    def add(self, object_id: str, content: bytes) -> None:
        """Keep an object."""
        self.contents[object_id] = content
        numbers = _numbers(content)
        self.numbers += numbers
        self.beside += len(content) - numbers

    def keep_reached(self) -> None:
        """Let go of what was fetched on a guess."""
        reached = {id_: self.contents[id_] for id_ in self.contents if id_ in self.reached}
        self.contents, self.numbers, self.beside = {}, 0, 0
        for object_id, content in reached.items():
            self.add(object_id, content)


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
        self.begin(0, 0, 0, 0)

    @classmethod
    def open(cls, grid: Grid) -> ChunkLane | None:
        """Return a lane; None, with the reason in the log, where this grid or Flower has none."""
        if not (problem := _problem(grid)):
            return cls(cast("HttpGrid", grid))
        log(INFO, "lane: replies are fetched whole, %s", problem)
        return None

    def begin(
        self, objects: int, most: float, beside: float, room: float, model: Collection[str] = ()
    ) -> None:
        """Forget the last round.

        Parameters
        ----------
        objects : int
            Objects of a reply at most.
        most : float
            Bytes of a reply's arrays at most.
        beside : float
            Bytes of all else in it at most: metrics, keys, names.
        room : float
            Bytes of objects that may be kept for other replies at most.
        model : collection of object ids
            Objects of the global model: replies that are still to come may have them.
        """
        self._most_objects, self._most, self._beside = objects, most, beside
        self._room = room
        self._model = frozenset(model)
        self._wanted: Counter[str] = Counter()
        self._shared: dict[str, bytes] = {}
        self._fetched: set[str] = set()
        self.fetched_bytes = self.distinct_bytes = 0

    def claim(self, id_: str) -> Claim | None:
        """Claim the reply to the message of an id; None if there is none yet.

        The SuperLink hands each reply over once: whoever drops a claim has lost its reply. It lets
        go of all replies of a call before it looks at the first of them: hence one a call, so that
        none which cannot be looked at takes others with it.
        """
        from flwr.proto.runtime_pb2 import PullAppMessagesRequest

        try:
            answer = self._client.PullMessages(PullAppMessagesRequest(message_ids=[id_]))
        except ValueError as error:  # so says Flower of an answer that cannot be parsed
            return Claim("", problem=LostReplyError(f"what announces it cannot be read: {error}"))
        found = None
        for message, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            claim = Claim(message.metadata.message_id, announced(tree, self._most_objects))
            self._wanted.update(claim.guesses.keys())
            if found is None and message.metadata.reply_to_message_id == id_:
                found = claim
            else:
                self.drop(claim)
        return found

    def advance(self, claim: Claim, seconds: float = math.inf) -> Message | None:
        """Fetch what is there of a reply; return it once it is whole.

        It never waits for the node, and begins with no further object after so many seconds.
        After any other error than those below it can be gone on with: what was fetched is still
        here.

        Raises
        ------
        OddReplyError
            If it has too many objects or bytes, or cannot be put together; it is then lost.
        LostReplyError
            If the SuperLink has let go of it.
        """
        end = time.monotonic() + seconds
        try:
            if claim.problem is not None:
                raise claim.problem
            while (needed := claim.lacking(self._most_objects)) is not None:
                if (content := self._content(needed)) is not None:
                    self._add(claim, needed, content, is_needed=True)
                    claim.waits = False
                else:
                    claim.waits = not self._guessed(claim, needed, end)
                if claim.waits or time.monotonic() > end:
                    return None
            claim.keep_reached()
            reply = _read(claim, self._most)
        except (OddReplyError, LostReplyError):
            self.drop(claim)
            raise
        self.drop(claim)
        return reply

    def _guessed(self, claim: Claim, needed: str, end: float) -> bool:
        """Fetch what was announced of a reply as far as it is there; say whether anything was.

        Nodes upload children first: while the message is missing, nothing is certain. It is looked
        for before each turn, so that a list that somebody else has shaped takes up no more.
        """
        found = False
        while claim.guesses and not claim.reached and needed not in claim.contents:
            guess = next(iter(claim.guesses))
            content = None
            with suppress(LostReplyError):  # it may be no part of the reply
                content = self._content(guess)
            if content is None:
                break
            self._add(claim, guess, content, is_needed=False)
            found = True
            if time.monotonic() > end:
                break
        return found

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

    def _add(self, claim: Claim, object_id: str, content: bytes, *, is_needed: bool) -> None:
        if self._excess(claim, content):
            claim.keep_reached()
            self._guess_no_more(claim)
            if not is_needed:
                return
            if excess := self._excess(claim, content):
                raise OddReplyError(excess)
        claim.add(object_id, content)
        if object_id in claim.guesses:
            del claim.guesses[object_id]
            self._wanted[object_id] -= 1
        if self._wanted[object_id] > 0 or object_id in self._model:
            if object_id not in self._shared and len(content) <= self._room:
                self._shared[object_id] = content
                self._room -= len(content)
        else:
            self._let_go(object_id)

    def _excess(self, claim: Claim, content: bytes) -> str:
        """Say of what a reply has more than is read with one more object; empty if of nothing."""
        numbers = _numbers(content)
        if (size := claim.numbers + numbers) > self._most:
            return f"its arrays have at least {size} bytes, at most {self._most} are read"
        if (size := claim.beside + len(content) - numbers) > self._beside:
            return (
                f"it has at least {size} bytes of metrics, configurations and keys, at most "
                f"{self._beside} are read"
            )
        return ""

    def _let_go(self, object_id: str) -> None:
        self._room += len(self._shared.pop(object_id, b""))

    def drop(self, claim: Claim) -> None:
        """Let the SuperLink forget a reply, and go on without it."""
        from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest

        self._guess_no_more(claim)
        claim.contents.clear()
        if not claim.message_id:
            return
        request = ConfirmMessageReceivedRequest(
            node=self._node, run_id=self._run_id, message_object_id=claim.message_id
        )
        with suppress(Exception):  # it costs the SuperLink's memory, and no reply
            self._client.ConfirmMessageReceived(request)

    def _guess_no_more(self, claim: Claim) -> None:
        """Let go of what was kept for a reply and nobody else is known to need."""
        for object_id in claim.guesses:
            self._wanted[object_id] -= 1
            if self._wanted[object_id] <= 0 and object_id not in self._model:
                self._let_go(object_id)
        claim.guesses.clear()


def announced(tree: ObjectTree, most: int) -> list[str]:
    """Return the objects of a tree, each once and after its children.

    None of a tree that has more than ``most`` places or is deeper than `MOST_DEPTH`: it is no
    guess that would do.
    """
    order: dict[str, None] = {}
    for place, (depth, node) in enumerate(walk(tree)):
        if place == most or depth > MOST_DEPTH:
            return []
        order[node.object_id] = order.pop(node.object_id, None)
    return list(reversed(order))  # parents came before children


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

    whole = 0
    for content in claim.contents.values():
        kind, children, size = get_object_head_values_from_object_content(content)
        if kind == "Array":  # which may name one chunk any number of times
            indices = json.loads(content[-size:])["arraychunk_ids"]
            parts = [claim.contents[child] for child in children]
            if not all(map(_is_chunk, parts)):  # an array of arrays would unfold twice
                raise OddReplyError("an array of it names other objects than chunks")
            whole += sum(_numbers(parts[index]) for index in indices)
            if whole > most:
                raise OddReplyError(
                    f"its arrays have at least {whole} bytes, at most {most} are read"
                )
    reply = inflate_object_from_contents(claim.message_id, claim.contents)
    if not isinstance(reply, Message):
        raise OddReplyError(f"it is a {type(reply).__name__}, expected a Message")
    reply.metadata.__dict__["_message_id"] = claim.message_id
    return reply


def _children(content: bytes) -> list[str]:
    """Return the objects that an object consists of."""
    from flwr.supercore.inflatable.inflatable_object import (
        get_object_children_ids_from_object_content,
    )

    try:
        return get_object_children_ids_from_object_content(content)
    except ValueError as error:
        raise OddReplyError(f"it cannot be read: {in_a_sentence(error)}") from error


def _numbers(content: bytes) -> int:
    """Return how many bytes of an object are part of an array; its head is not."""
    return len(content) - content.find(b"\0") - 1 if _is_chunk(content) else 0


def _is_chunk(content: bytes) -> bool:
    return content.startswith(b"ArrayChunk ")


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
    contents = {id_: o.deflate() for id_, o in get_all_nested_objects(message).items()}
    claim = Claim(message.object_id, announced(get_object_tree(message), MOST_DEPTH))
    if list(claim.guesses) != list(contents):
        return False
    for object_id, content in contents.items():
        claim.add(object_id, content)
    if claim.lacking(MOST_DEPTH) is not None or claim.numbers != len(array.data):
        return False
    reply = _inflated(claim, 1024)
    return reply.content["arrays"] == message.content["arrays"]
