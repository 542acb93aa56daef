"""Thousands of damaged replies through both strategies: none raises, and memory stays where it is.

Half are damaged as arrays (bits, lengths, headers), half as Flower's serialized records; of those
only what Flower itself can still read gets as far as a strategy.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from itertools import count
from logging import CRITICAL, getLogger
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from flwr_krum.kernel.ways import warm_up
from flwr_krum.rules import Average, Krum, Medoid, MultiKrum, OneMinusPKrum
from tests.flwr_krum.federations import MessageApi, sent_array
from tests.flwr_krum.npy_bytes import npy

API = MessageApi()

QUICK, ALL = 3_000, 20_000
BATCH, HONEST, F = 50, 5, 50
MEMORY = 64 * 2**20
MODEL = {
    "w": np.arange(384, dtype=np.float32).reshape(24, 16),
    "k": np.array(7),
    "b": np.ones(3, np.float32),
}
RULES = [
    Average(),
    Krum(F, strict=False),
    MultiKrum(F, strict=False),
    Medoid(f=0),
    OneMinusPKrum(F, p=0.5, strict=False),
]

# --- damage ---

WORDS = [
    b"'descr': '<f4'", b"'descr': '|O'", b"'descr': '<f8'", b"'descr': [('a','<f4')]", b"(-1,)",
    b"(4, 3)", b"(12,)", b"(99999999999,)", b"(0, 9223372036854775808)", b"9" * 400, b"(" * 60,
    b"True", b"None", b"{", b"\\", b"\x00", b"[[[[", b"0x" + b"f" * 200, b"1and 2", b"lambda:0",
    b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00\xff\xff\xff\xff", b"'shape': ()",
    np.float32(np.nan).tobytes() * 3, np.float32(np.inf).tobytes(), b"\xff" * 8, b"",
]  # fmt: skip


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def cut_out(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 20)]


def insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = rng.choice(WORDS)


def overwrite(data: bytearray, rng: random.Random) -> None:
    word, start = rng.choice(WORDS), rng.randrange(len(data))
    data[start : start + len(word)] = word


def repeat(data: bytearray, rng: random.Random) -> None:
    data += data[rng.randrange(len(data)) :] * rng.randint(1, 3)


def edit_header(data: bytearray, rng: random.Random) -> None:
    """Put a word in the place of something between two quotes, brackets or commas."""
    text = bytes(data[10:128])
    places = [i for i, c in enumerate(text) if c in b"'(),: {}"]
    if places:
        start = 10 + rng.choice(places)
        data[start : start + rng.randint(0, 10)] = rng.choice(WORDS)


DAMAGE: list[Callable[[bytearray, random.Random], None]] = [
    flip_bits, flip_bits, truncate, cut_out, insert, overwrite, repeat, edit_header, edit_header,
]  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if changed:
            rng.choice(DAMAGE)(changed, rng)
    return bytes(changed)


def damaged_arrays(content: RecordDict, rng: random.Random) -> RecordDict:
    """Damage one or two arrays of a reply, sometimes the name of one."""
    ((key, record),) = content.array_records.items()
    arrays = dict(record.items())
    for name in rng.sample(list(arrays), rng.choice((1, 1, 2))):
        array = arrays.pop(name)
        if rng.random() < 0.1:
            name = name + rng.choice(("x", "\x00", "\u2028", "w" * 300))
        data = damaged(array.data, rng)
        arrays[name] = Array(array.dtype, array.shape, array.stype, data)
    changed = RecordDict(dict(content.items()))
    changed[key] = ArrayRecord(arrays)
    return changed


def damaged_record(data: bytes, rng: random.Random) -> RecordDict | None:
    """Damage a serialized reply; None if Flower cannot read it any more."""
    try:
        proto = ProtoRecordDict.FromString(damaged(data, rng))
        return recorddict_from_proto(proto)
    except Exception:
        return None


def hostile_replies(content: RecordDict, seed: int):
    """Yield damaged replies without an end."""
    rng = random.Random(seed)
    data = recorddict_to_proto(content).SerializeToString()
    for number in count():
        if number % 2:
            yield damaged_arrays(content, rng)
        elif (reply := damaged_record(data, rng)) is not None:
            yield reply


# --- the test ---


@contextmanager
def quiet():
    logger = getLogger("flwr")
    level = logger.level
    logger.setLevel(CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def restart_peak() -> None:
    """Let the peak of this process start from what it uses now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Return the largest number of bytes that this process has used since the restart."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def honest_replies(federation):
    for client in range(1, HONEST + 1):
        shift = 0.01 * client
        model = {k: np.asarray(a + np.asarray(shift, a.dtype)) for k, a in MODEL.items()}
        yield client, federation.content(model, 10, {"loss": 0.1 * client})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory: Linux only")
@pytest.mark.parametrize("replies", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_thousands_of_damaged_replies_neither_raise_nor_take_memory(federation, replies):
    content = federation.content(MODEL, 10, {"loss": 0.5})
    stream = hostile_replies(content, seed=20171204)
    honest = list(honest_replies(federation))
    strategies = [federation.custom(rule, quarantine=3, largest_step=math.inf) for rule in RULES]
    outcomes = {"refused": 0, "received": 0, "unreadable": 0}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning per damaged reply would flood a server's log
        warnings.filterwarnings("ignore", category=SyntaxWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warm_up("cpu", 100, 10**7)  # what a process loads once, whoever sends what
        restart_peak()
        before = peak_memory()
        for t in range(1, replies // BATCH + 1):
            strategy = strategies[t % len(strategies)]
            hostile = [(HONEST + i, next(stream)) for i in range(1, BATCH + 1)]
            model = [*MODEL.values()] if not federation.names_arrays else MODEL
            federation.configure(strategy, model, range(1, HONEST + BATCH + 1), t)
            found, _ = federation.deliver(strategy, [*honest, *hostile], t)
            assert_sound(strategy.reports[-1], found, federation)
            outcomes["refused"] += len(strategy.reports[-1].refused)
            outcomes["received"] += len(strategy.reports[-1].received) - HONEST
            outcomes["unreadable"] += len(strategy.reports[-1].failed)
        grown = peak_memory() - before
    assert sum(outcomes.values()) == replies
    assert outcomes["refused"] > replies / 4
    assert outcomes["received"] > replies / 20
    assert grown < MEMORY


def assert_sound(report, found, federation):
    honest = {federation.name(client) for client in range(1, HONEST + 1)}
    assert honest <= set(report.received)
    assert all(0 < len(refused.reason) < 1000 for refused in report.refused)
    assert report.stepped
    assert [a.shape for a in found.values()] == [a.shape for a in MODEL.values()]
    assert [a.dtype for a in found.values()] == [a.dtype for a in MODEL.values()]
    assert all(np.isfinite(array).all() for array in found.values())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory: Linux only")
def test_the_peak_of_memory_is_measured():
    restart_peak()
    before = peak_memory()
    np.ones(MEMORY // 4)
    assert peak_memory() - before > MEMORY


def test_damage_is_seeded_and_of_every_kind(federation):
    content = federation.content(MODEL, 10, {"loss": 0.5})
    first, again, other = (
        [next(stream).object_id for _ in range(40)]
        for stream in (hostile_replies(content, seed) for seed in (0, 0, 1))
    )
    assert first == again != other
    assert len({*first, content.object_id}) > 30


# --- metrics ---

NUMBERS = [0.0, -1.0, 1e308, -1e308, float("nan"), float("inf"), 2**63 - 1, -(2**63), 10**15]


@pytest.mark.parametrize("seed", range(3))
def test_random_metrics_neither_raise_nor_touch_the_model(seed):
    rng = random.Random(seed)
    strategy = API.module.Krum(num_malicious_nodes=1)
    arrays = {key: sent_array(npy(array)) for key, array in MODEL.items()}
    with quiet(), warnings.catch_warnings(action="ignore"):
        for t in range(1, 101):
            replies = []
            for node in range(1, 8):
                records = {
                    f"r{i}": MetricRecord(
                        {
                            rng.choice(["loss", "num-examples", "x" * 90, "", "accepted"]): (
                                rng.choice(NUMBERS)
                                if rng.random() < 0.7
                                else [float(rng.choice(NUMBERS)) for _ in range(rng.randint(0, 3))]
                            )
                            for _ in range(rng.randint(0, 4))
                        }
                    )
                    for i in range(rng.randint(0, 3))
                }
                content = RecordDict({"arrays": ArrayRecord(arrays), **records})
                replies.append(API.reply(node, content))
            found, _ = strategy.aggregate_train(t, replies)
            strategy.aggregate_evaluate(t, replies)
            assert [a.numpy().tolist() for a in found.values()] == [
                a.tolist() for a in MODEL.values()
            ]
