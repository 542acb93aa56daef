"""Replies beyond a budget of memory: to an unnamed file as each arrives, and gone with its round.

The file has no name, or none any more: nobody else finds it, and the system takes it back when the
process ends, however it ends. What a reply is judged by stays in memory; only numbers that may be
aggregated are written, as the reply's own bytes in C order.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Condition, Lock, get_ident
from typing import cast

from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common import FitRes, Parameters

from flwr_krum.boundary.exchange import Look
from flwr_krum.boundary.filed import Filed, Sent
from flwr_krum.boundary.freed import give_back
from flwr_krum.boundary.messages import EVERYTHING, LetGo, Limits, weighed, weighed_result
from flwr_krum.boundary.npy import MAX_HEADER, UndecodableError, decode
from flwr_krum.boundary.replies import on_one_line
from flwr_krum.kernel.arrays import Array as Numbers
from flwr_krum.kernel.arrays import are_finite
from flwr_krum.kernel.stored import StoredArray, StoredFile

LINE = 64
"""Bytes at whose multiples arrays begin: enough for every dtype, and no more than arrays are."""

AT_A_TIME = 2
"""Replies that are pulled together: while one is on its way, another is written."""

_TURN = 0.25
"""Seconds after which who waits for a turn looks whether somebody's patience is over."""

PATIENCE = 2.0
"""Seconds after which a pull no longer holds others up: f nodes may drip on purpose."""


class Spill:
    """The replies of one federation that do not fit into its memory, round by round.

    Parameters
    ----------
    memory : int
        Bytes of a round's replies that stay in memory.
    folder : str or Path
        Where the others go, on a disk.

    Raises
    ------
    ValueError
        If the folder is none, cannot be written to, or lies in memory itself.
    """

    def __init__(self, memory: int, folder: str | Path) -> None:
        self.memory, self.folder = memory, Path(folder)
        self.problem = ""
        """Why the round cannot keep its replies; empty if it can."""
        if not self.folder.is_dir():
            raise ValueError(f"spill is {str(folder)!r}, expected a folder that is there")
        if kind := memory_behind(self.folder):
            raise ValueError(
                f"spill is {str(folder)!r}, which lies in memory itself ({kind}): expected a "
                "folder on a disk"
            )
        try:
            StoredFile(unnamed(self.folder))
        except OSError as error:
            raise ValueError(
                f"spill is {str(folder)!r}, expected a folder that can be written to: {error}"
            ) from error
        give_back()
        self._lock = Lock()
        self._file: StoredFile | None = None
        self._most = EVERYTHING
        self._held = self._end = 0
        self._turns = Condition(self._lock)
        self._pulls: dict[int, float] = {}
        """Since when each thread waits for a sender; infinite while it writes what came."""

    def begin(self, usual: float, most: Limits, honest: int, liars: int) -> None:
        """Open the file of a round before its clients are asked, or say why that would not do.

        Parameters
        ----------
        usual : float
            Bytes of a reply as the model is written.
        most : Limits
            The largest that is read.
        honest, liars : int
            How many clients send the former, and how many may send the latter.
        """
        self.end()
        self.problem, self._most = "", most
        needed = honest * min(usual, most.size) + liars * most.size - self.memory
        try:
            state = os.statvfs(self.folder)
            free = state.f_bavail * state.f_frsize
            if needed > free:
                self.problem = (
                    f"no room for the replies: {needed:.4g} bytes may be needed beside "
                    f"memory={self.memory}, and spill={str(self.folder)!r} has {free:.4g}; make "
                    "room, or lower max_reply_bytes"
                )
                return
            self._file = StoredFile(unnamed(self.folder))
        except OSError as error:
            self._fail(error)

    def end(self) -> None:
        """Give the disk back: also where somebody still holds a reply, it cannot be read again."""
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file.descriptor, 0)
        self._file, self._held, self._end = None, 0, 0

    def lend(self) -> int:
        """Return how many bytes of the memory hold no replies in this round, but parts of some."""
        with self._lock:
            lent = max(0, self.memory - self._held) // 2
            self._held += lent
        return lent

    def pulled(self, pull: Callable[[], Message | None], look: Look) -> Message | None:
        """Pull a reply when few others are on their way, and keep it if somebody waits for it."""
        if self._file is None:
            return pull()
        with look.held_back():
            if not self._has_turn(look):
                return None
        try:
            reply = pull()
            if reply is None or look.over.is_set():
                return reply
            with look.held_back():
                with self._turns:
                    self._pulls[get_ident()] = math.inf
                return self.kept(reply)
        finally:
            with self._turns:
                del self._pulls[get_ident()]
                self._turns.notify()

    def _has_turn(self, look: Look) -> bool:
        """Wait for a turn to pull, and say whether it came before nobody waited any more."""
        with self._turns:
            while not look.over.is_set():
                now = time.monotonic()
                if sum(now - since < PATIENCE for since in self._pulls.values()) < AT_A_TIME:
                    self._pulls[get_ident()] = now
                    return True
                self._turns.wait(_TURN)
        return False

    def kept(self, reply: Message) -> Message:
        """Return a reply whose arrays are kept where there is room for them."""
        file = self._file
        if file is None or reply.has_error():
            return reply
        problem, rest = weighed(reply.content, self._most)
        if problem:
            reply.content = LetGo(problem)
            return reply
        content = RecordDict()
        # Flower's `array_records` is part of a cycle that would hold the arrays for some time.
        records = [r for r in reply.content.values() if isinstance(r, ArrayRecord)]
        sent = [array.data for record in records for array in record.values()]
        data = iter(self._kept(sent, rest, file))
        for name, record in reply.content.items():
            content[name] = record
            if isinstance(record, ArrayRecord):
                content[name] = kept = ArrayRecord()
                for key, array in record.items():
                    kept[key] = own = Array(array.dtype, array.shape, array.stype, b"")
                    own.data = next(data)  # of which a constructor would ask that it be bytes
        reply.content = content
        return reply

    def kept_result(self, result: FitRes) -> FitRes:
        """Return a result of ``aggregate_fit`` whose arrays are kept where there is room."""
        file = self._file
        if file is None:
            return result
        problem, rest = weighed_result(result, self._most)
        if problem:
            return LetGo(problem).result()
        tensors = self._kept(result.parameters.tensors, rest, file)
        return replace(result, parameters=Parameters(tensors, result.parameters.tensor_type))

    def _kept(self, arrays: Sequence[bytes], rest: int, file: StoredFile) -> list[bytes]:
        """Return arrays as they are kept, beside so many bytes of their reply that stay anyway."""
        whole = rest + sum(max(0, len(data) - MAX_HEADER) for data in arrays)
        with self._lock:
            fits = self._held + whole <= self.memory
            self._held += whole if fits else rest
        if fits:
            return list(arrays)
        # Flower calls them bytes, and only carries them.
        return [cast(bytes, self._filed(data, file)) for data in arrays]

    def _filed(self, data: bytes, file: StoredFile) -> Sent:
        """Return what stays in memory of npy bytes; short ones do as they are."""
        if len(data) <= MAX_HEADER or isinstance(data, Filed):
            return data
        judged_by = Filed(data[:MAX_HEADER], len(data))
        if self.problem:
            return judged_by
        try:
            array = decode(data)
        except UndecodableError:
            return judged_by
        try:
            return Filed(data[: len(data) - array.nbytes], len(data), self._written(array, file))
        except OSError as error:
            self._fail(error)
            return judged_by

    def _written(self, array: Numbers, file: StoredFile) -> StoredArray:
        with self._lock:
            start = self._end
            self._end += -(-array.nbytes // LINE) * LINE
        left, place = array.reshape(-1).view("u1").data, start
        while left:
            count = os.pwrite(file.descriptor, left, place)
            left, place = left[count:], place + count
        return StoredArray(
            file,
            start,
            array.dtype,
            array.dtype,
            array.shape,
            order="C" if array.flags.c_contiguous else "F",
            is_aligned=array.flags.aligned,
            is_finite=(array.dtype.kind == "f" and are_finite([array])) or None,
        )

    def _fail(self, error: OSError) -> None:
        self.problem = (
            f"the replies could not be kept in spill={str(self.folder)!r}: {on_one_line(error)}"
        )


def unnamed(folder: Path) -> int:
    """Return the descriptor of a new file that has no name, or no more."""
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):  # not every file system has them
            return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    descriptor, name = tempfile.mkstemp(dir=folder)
    os.unlink(name)
    return descriptor


def memory_behind(folder: Path) -> str:
    """Return the kind of a file system that keeps its files in memory; empty for any other."""
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), open("/proc/self/mountinfo") as mounts:
        return _kind_of(number, mounts)
    return ""


def _kind_of(number: str, mounts: Iterable[str]) -> str:
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if before.split(" ")[2] == number and kind in ("tmpfs", "ramfs"):
            return kind
    return ""
