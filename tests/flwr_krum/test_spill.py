"""Rounds whose replies do not fit into memory: the bytes, the report and the refusals of memory."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.common import Code, FitIns, FitRes, Parameters, Status
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.server import Server, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy

import flwr_krum.server.strategy as fit
import flwr_krum.serverapp.strategy as messages
from flwr_krum.boundary import spill
from flwr_krum.boundary.exchange import Look
from flwr_krum.boundary.filed import Filed
from flwr_krum.boundary.messages import Limits, of_result, weighed
from flwr_krum.boundary.npy import MAX_HEADER, decode
from flwr_krum.boundary.proxies import asked_together
from flwr_krum.boundary.quorum import Quorum
from flwr_krum.boundary.spill import Spill
from flwr_krum.kernel import updates
from flwr_krum.report import RoundReport
from flwr_krum.round import Rounds
from flwr_krum.rules import RULES, Average, Krum, MultiKrum
from flwr_krum.space import LowRank
from tests.flwr_krum.boundary.grids import ScriptedGrid, blocking
from tests.flwr_krum.federations import FakeProxy
from tests.flwr_krum.npy_bytes import forge, forged_header, npy
from tests.flwr_krum.test_every_rule import build
from tests.full_disk import files_of_at_most

N = 11
NODES = tuple(range(10, 10 + N))
SHAPES = ((30, 100), (0,), (7, 5), (3,))
"""The last layer counts; the first alone is longer than what stays in memory anyway."""

MODEL = [np.zeros(s, "f4") for s in SHAPES[:3]] + [np.arange(3)]


def layers(node):
    rng = np.random.default_rng(node)
    floats = [rng.standard_normal(s).astype("f4") for s in SHAPES[:3]]
    return [*floats, rng.integers(9, size=3)]


def honest(node):
    """Return what a node sends; one writes columns first, one in float64, one another's model."""
    sent = layers(NODES[0] if node == NODES[4] else node)
    if node == NODES[1]:
        sent[0] = np.asfortranarray(sent[0])
    if node == NODES[2]:
        sent[0] = sent[0].astype("f8")
    return [npy(layer) for layer in sent]


class OverMessages:
    @staticmethod
    def content(tensors):
        arrays = {str(i): Array("", (), "numpy.ndarray", data) for i, data in enumerate(tensors)}
        return RecordDict({"arrays": ArrayRecord(arrays)})

    @staticmethod
    def run(rule, grid, timeout=20.0, rounds=1, **options):
        strategy = messages.RobustAggregation(rule, fraction_evaluate=0.0, **options)
        result = strategy.start(grid, ArrayRecord(MODEL), num_rounds=rounds, timeout=timeout)
        return strategy, [array.data for array in result.arrays.values()]


class OverFit:
    @staticmethod
    def content(tensors):
        parameters = Parameters(list(tensors), "numpy.ndarray")
        return fitres_to_recorddict(FitRes(Status(Code.OK, ""), parameters, 1, {}), True)

    @staticmethod
    def run(rule, grid, timeout=20.0, rounds=1, **options):
        initial = Parameters([npy(layer) for layer in MODEL], "numpy.ndarray")
        strategy = fit.RobustAggregation(
            rule, initial_parameters=initial, fraction_evaluate=0.0, **options
        )
        manager = SimpleClientManager()
        for node in NODES:
            manager.register(GridClientProxy(node, grid, 1))
        server = Server(client_manager=manager, strategy=strategy)
        server.fit(rounds, timeout)
        return strategy, server.parameters.tensors


@pytest.fixture(params=[OverMessages, OverFit], ids=["serverapp", "server"])
def api(request):
    return request.param


def play(api, rule, sends=honest, scripts=None, **options):
    """Run rounds in which each node sends its own npy bytes."""

    def answer(message):
        return Message(api.content(sends(message.metadata.dst_node_id)), reply_to=message)

    grid = ScriptedGrid(NODES, answer, scripts)
    try:
        return *api.run(rule, grid, **options), grid
    finally:
        grid.ended.set()


def said(report):
    """Return all that a report says but how long things took."""
    return repr(replace(report, seconds={}, arrived={}, time=""))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(updates, "SMALL", 0)  # small layers are not joined, which would read them
    return tmp_path


@pytest.mark.parametrize("name", RULES)
def test_every_rule_finds_the_same_bytes_and_says_the_same_of_the_round(api, name, folder):
    rule = build(name, unit=400.0).seeded(3)
    options = {"root": lambda model: [np.copy(x) + (x.dtype.kind == "f") for x in model]}
    options = options if "root" in rule.server_rows else {}
    here, expected, _ = play(api, rule, **options)
    there, found, _ = play(api, rule, memory=0, spill=folder, **options)
    assert here.last_report.stepped
    assert found == expected
    assert said(there.last_report) == said(here.last_report)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("budget", [16_000, 10**9])  # one that fits, whoever comes first; all
def test_what_fits_into_the_budget_stays_in_memory_and_nothing_else(
    api, budget, folder, monkeypatch
):
    written = []
    monkeypatch.setattr(
        Spill, "_written", lambda self, array, file, own=Spill._written:
        (written.append(array.nbytes), own(self, array, file))[1],
    )  # fmt: skip
    _, expected, _ = play(api, MultiKrum(2))
    _, found, _ = play(api, MultiKrum(2), memory=budget, spill=folder)
    size = sum(map(len, honest(NODES[0])))
    assert found == expected
    assert len(written) == (N - budget // size if budget < N * size else 0)


HOSTILE = {
    "no npy": b"x" * 5000,
    "a length that is not there": forge(forged_header(shape="(10000000,)"), b"\0" * 5000),
    "a header without end": forge(" " * 60_000, b"\0" * 12_000),
    "another shape": npy(np.zeros(3001, "f4")),
    "NaN": npy(np.full(SHAPES[0], np.nan, "f4")),
    "too large for float32": npy(np.full(SHAPES[0], 1e300)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_reply_is_refused_for_the_same_reason_wherever_it_lies(api, what, folder):
    def sends(node):
        tensors = honest(node)
        return [HOSTILE[what], *tensors[1:]] if node == NODES[3] else tensors

    here, expected, _ = play(api, MultiKrum(2), sends)
    there, found, _ = play(api, MultiKrum(2), sends, memory=0, spill=folder)
    assert [refused.client for refused in here.last_report.refused] in ([NODES[3]], [str(NODES[3])])
    assert said(there.last_report) == said(here.last_report)
    assert found == expected


def test_a_reply_beyond_the_largest_is_not_written(api, folder, monkeypatch):
    written = []
    own = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: (written.append(at), own(fd, data, at))[1]
    )
    most = 2 * sum(map(len, honest(NODES[0])))

    def sends(node):
        return [npy(np.zeros(most, "u1")), *honest(node)[1:]] if node == NODES[3] else honest(node)

    strategy, _, _ = play(api, MultiKrum(2), sends, memory=0, spill=folder, max_reply_bytes=most)
    (refused,) = strategy.last_report.refused
    assert refused.reason == f"more than {most} bytes (max_reply_bytes)"
    assert max(written) < N * most / 2 + most


def flooded_with_arrays(api):
    """Return a content whose arrays are few bytes each, and many."""
    return api.content([npy(np.zeros(0, "f4"))] * 9000)


def flooded_with_metrics(api):
    """Return a content with two MB of what a client says of itself."""
    if api is OverMessages:
        own = {"own": ConfigRecord({"text": "x" * 2_000_000})}
        return RecordDict({**api.content(honest(10)), **own})
    parameters = Parameters(honest(10), "numpy.ndarray")
    result = FitRes(Status(Code.OK, ""), parameters, 1, {"text": "x" * 2_000_000})
    return fitres_to_recorddict(result, True)


@pytest.mark.parametrize("flooded", [flooded_with_arrays, flooded_with_metrics])
def test_nothing_stays_in_memory_of_a_flood_beside_the_arrays(api, flooded, folder, monkeypatch):
    stays, own = [], Spill.kept

    def kept(*arguments):
        reply = own(*arguments)
        stays.append(len(pickle.dumps(reply.content)))
        return reply

    monkeypatch.setattr(Spill, "kept", kept)
    scripts = {NODES[3]: lambda _, message: Message(flooded(api), reply_to=message)}
    options = {"spill": folder, "max_reply_bytes": 10**8}
    here, expected, _ = play(api, MultiKrum(2), scripts=scripts, memory=10**9, **options)
    stays.clear()
    there, found, _ = play(api, MultiKrum(2), scripts=scripts, memory=0, **options)
    (refused,) = there.last_report.refused
    most = 2**20 + sum(2**11 + len(str(i)) for i in range(len(SHAPES)))
    assert refused.reason == f"more than {most} bytes of metrics, configurations and short arrays"
    assert said(there.last_report) == said(here.last_report)
    assert found == expected
    assert max(stays) < 10_000


def test_without_a_budget_a_client_may_say_two_megabytes_of_itself(api):
    scripts = {NODES[3]: lambda _, m: Message(flooded_with_metrics(api), reply_to=m)}
    strategy, _, _ = play(api, MultiKrum(2), scripts=scripts)
    assert len(strategy.last_report.received) == N


def test_what_stays_anyway_is_taken_from_the_budget(folder):
    def sent(text):
        content = OverMessages.content([npy(np.zeros(1000, "f4"))])
        content["own"] = ConfigRecord({"text": "x" * text})
        return Message(content, dst_node_id=1, message_type="train")

    def is_filed(reply):
        return isinstance(reply.content["arrays"]["0"].data, Filed)

    kept = Spill(20_000, folder)
    kept.begin(10**5, Limits(beside=10**6), N, 0)
    assert is_filed(kept.kept(sent(18_000)))  # with its array it does not fit, and stays in part
    assert is_filed(kept.kept(sent(10)))  # for which there is no room any more
    kept.begin(10**5, Limits(beside=10**6), N, 0)
    assert [is_filed(kept.kept(sent(10))) for _ in range(5)] == [False] * 4 + [True]


def test_nothing_is_left_on_the_disk_after_a_round(api, folder, monkeypatch):
    files = []
    monkeypatch.setattr(
        spill, "unnamed", lambda f, own=spill.unnamed: (files.append(own(f)), files[-1])[1]
    )
    kept = []
    end = Spill.end
    monkeypatch.setattr(Spill, "end", lambda self: (kept.append(self._end), end(self))[1])
    strategy, _, _ = play(api, MultiKrum(2), memory=0, spill=folder, rounds=2)
    assert len(strategy.reports) == 2
    assert max(kept) > 10 * 12_000
    open_files = [fd for fd in files if os.path.exists(f"/proc/self/fd/{fd}")]
    assert sum(os.fstat(fd).st_blocks for fd in open_files if is_of(fd, folder)) == 0


def is_of(fd, folder):
    return os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder))


def test_a_reply_that_does_not_fit_leaves_the_room_of_its_numbers_to_others(folder):
    def is_filed(size):
        content = OverMessages.content([npy(np.zeros(size, "f4"))])
        reply = kept.kept(Message(content, dst_node_id=1, message_type="train"))
        return isinstance(reply.content["arrays"]["0"].data, Filed)

    kept = Spill(20_000, folder)
    kept.begin(10**5, Limits(beside=10**6), N, 0)
    assert [is_filed(10_000), is_filed(1000), is_filed(1000)] == [True, False, False]


@pytest.mark.parametrize("short", [0, 1])
def test_a_reply_that_fills_the_budget_to_the_last_byte_stays_in_memory(short, folder):
    content = OverMessages.content([data := npy(np.zeros(1000, "f4"))])
    most = Limits(beside=10**6)
    kept = Spill(weighed(content, most).beside + len(data) - MAX_HEADER - short, folder)
    kept.begin(10**5, most, N, 0)
    reply = kept.kept(Message(content, dst_node_id=1, message_type="train"))
    assert isinstance(reply.content["arrays"]["0"].data, Filed) == bool(short)


class Trains(FakeProxy):
    """A client that Flower reaches through no grid."""

    def fit(self, ins, timeout, group_id):
        return FitRes(
            Status(Code.OK, ""), Parameters(honest(int(self.cid)), "numpy.ndarray"), 1, {}
        )


def test_what_a_client_without_a_grid_returns_is_kept_in_the_file_as_well(folder):
    kept = Spill(0, folder)
    kept.begin(10**5, Limits(), N, 0)
    ((proxy, ins),) = asked_together(
        "fit", [(Trains("10"), FitIns(Parameters([], ""), {}))], spill=kept
    )
    first, *_ = proxy.fit(ins, 5.0, 1).parameters.tensors
    assert isinstance(first, Filed)
    assert np.array_equal(np.asarray(decode(first)), layers(10)[0])
    kept.end()
    with pytest.raises(EOFError):
        np.asarray(decode(first))


# --- what is refused, and when ---


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"memory": 5}, "memory is 5 and spill is None: give both"),
        ({"spill": "."}, "memory is None and spill is '.': give both"),
        ({"memory": -1, "spill": "."}, "memory is -1, expected an integer >= 0"),
        ({"memory": 2.5, "spill": "."}, "memory is 2.5, expected an integer >= 0"),
        ({"memory": 5, "spill": "/nowhere/at/all"}, "expected a folder that is there"),
        (
            {"memory": 5, "spill": ".", "space": LowRank({"a": "b"})},
            "memory and space are both set",
        ),
    ],
)
@pytest.mark.parametrize("module", [fit, messages])
def test_an_illegal_budget_or_folder_is_refused_with_the_legal_ones(module, options, reason):
    with pytest.raises(ValueError, match=reason):
        module.RobustAggregation(Krum(1), **options)


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", ""])
def test_a_folder_that_lies_in_memory_is_refused_by_its_kind(kind, folder, monkeypatch):
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = [f"30 1 {number} / /x rw,nosuid shared:1 - {kind or 'ext4'} none rw"]
    lines.append("31 1 0:9999 / /y rw - tmpfs none rw")
    real = spill._kind_of
    monkeypatch.setattr(spill, "_kind_of", lambda number, _: real(number, lines))
    if not kind:
        Spill(5, folder)
        return
    with pytest.raises(ValueError, match=rf"lies in memory itself \({kind}\)"):
        Spill(5, folder)


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no file system in memory here")
def test_the_systems_own_folder_in_memory_is_known_as_one():
    with pytest.raises(ValueError, match="lies in memory itself"):
        Spill(5, "/dev/shm")


def test_where_there_is_no_room_nobody_is_asked_and_the_round_says_why(api, folder, monkeypatch):
    class Full:
        f_bavail, f_frsize = 5, 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    strategy, model, grid = play(api, MultiKrum(2), memory=0, spill=folder)
    assert grid.sent == {}
    (report,) = strategy.reports
    assert isinstance(report, RoundReport)
    assert not report.stepped
    assert "no room for the replies" in report.note
    assert "make room, or lower max_reply_bytes" in report.note
    assert model == [npy(layer) for layer in MODEL]
    assert strategy.reports[0].silent == ()


def test_room_is_asked_for_what_liars_may_send(folder, monkeypatch):
    class Free:
        f_bavail, f_frsize = 8 * 100 + 2 * 900 - 50, 1

    kept = Spill(50, folder)
    monkeypatch.setattr(os, "statvfs", lambda _: Free)
    kept.begin(100, Limits(900), 8, 2)
    assert kept.problem == ""
    Free.f_bavail -= 1
    kept.begin(100, Limits(900), 8, 2)
    assert "2550 bytes may be needed beside memory=50" in kept.problem


@pytest.mark.parametrize(("rule", "liars"), [(MultiKrum(2), 2), (Average(), 0)])
def test_room_is_asked_for_as_many_liars_as_the_rule_bears(rule, liars, folder, monkeypatch):
    model, most = {"w": np.zeros((100, 100), "f4")}, 10**6

    class Free:
        f_bavail, f_frsize = (N - liars) * len(npy(model["w"])) + liars * most, 1

    monkeypatch.setattr(os, "statvfs", lambda _: Free)
    rounds = Rounds(rule, memory=0, spill=folder, max_reply_bytes=most)
    assert rounds.begin(model, NODES) == frozenset()
    Free.f_bavail -= 1
    assert rounds.begin(model, NODES) == frozenset(NODES)
    assert rounds.asked == ()


def test_a_file_that_cannot_be_made_costs_the_round_and_says_why(folder):
    kept = Spill(0, folder)
    folder.rmdir()
    kept.begin(100, Limits(), N, 0)
    assert "could not be kept" in kept.problem
    assert "No such file" in kept.problem
    folder.mkdir()
    kept.begin(100, Limits(), N, 0)
    assert kept.problem == ""


def test_a_folder_that_cannot_be_written_to_is_refused(folder, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(spill, "unnamed", denied)
    with pytest.raises(ValueError, match=r"a folder that can be written to: .*Permission denied"):
        Spill(5, folder)


def test_a_result_that_is_too_large_is_let_go_and_refused_for_its_size(folder):
    kept = Spill(0, folder)
    kept.begin(100, Limits(5000), N, 0)
    parameters = Parameters([npy(np.zeros(2000, "f4"))], "numpy.ndarray")
    sent = kept.kept_result(FitRes(Status(Code.OK, ""), parameters, 1, {}))
    assert sent.parameters.tensors == []
    assert of_result("1", sent, Limits()).problem == "more than 5000 bytes (max_reply_bytes)"


def test_between_rounds_and_of_errors_nothing_is_kept(folder):
    kept = Spill(0, folder)
    asked = Message(RecordDict(), dst_node_id=1, message_type="train")
    parameters = Parameters([npy(np.zeros(2000, "f4"))], "numpy.ndarray")
    result = FitRes(Status(Code.OK, ""), parameters, 1, {})
    assert kept.kept_result(result) is result
    reply = Message(OverMessages.content(parameters.tensors), reply_to=asked)
    assert kept.pulled(lambda: reply, Look(threading.Event())) is reply
    assert isinstance(reply.content["arrays"]["0"].data, bytes)
    kept.begin(100, Limits(), N, 0)
    failed = Message(Error(0, "gone"), reply_to=asked)
    assert kept.pulled(lambda: failed, Look(threading.Event())) is failed
    assert failed.has_error()


def test_a_disk_that_fills_up_costs_the_round_and_blames_no_client(api, folder):
    with files_of_at_most(50_000):
        strategy, model, _ = play(api, MultiKrum(2), memory=0, spill=folder, quarantine=1)
    (report,) = strategy.reports
    assert not report.stepped
    assert "could not be kept" in report.note
    assert "File too large" in report.note
    assert report.refused == ()
    assert len(report.failed) == N
    assert model == [npy(layer) for layer in MODEL]


KILLED = """
import os, signal, sys
import numpy as np
from flwr_krum.boundary.messages import Limits, of_result
from flwr_krum.boundary.spill import Spill
from flwr.common import Code, FitRes, Parameters, Status
from tests.flwr_krum.npy_bytes import npy
kept = Spill(0, sys.argv[1])
kept.begin(100, Limits(), 2, 0)
sent = Parameters([npy(np.ones(10**6))], "numpy.ndarray")
kept.kept_result(FitRes(Status(Code.OK, ""), sent, 1, {}))
assert kept._end >= 8 * 10**6
print(os.listdir(sys.argv[1]))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_nothing(folder):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.strip() == "[]"
    assert os.listdir(folder) == []


def test_where_files_cannot_be_without_a_name_it_is_taken_away(folder, monkeypatch):
    own = os.open

    def without(path, flags, *mode, **more):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError("Operation not supported")
        return own(path, flags, *mode, **more)

    monkeypatch.setattr(os, "open", without)
    descriptor = spill.unnamed(folder)
    assert os.listdir(folder) == []
    assert os.fstat(descriptor).st_nlink == 0
    os.close(descriptor)


def test_nodes_that_drip_hold_up_none_of_the_few_that_are_pulled_together(api, folder, monkeypatch):
    monkeypatch.setattr(spill, "PATIENCE", 0.1)
    dripping = NODES[:3]
    strategy, _, _ = play(
        api, MultiKrum(2), memory=0, spill=folder, timeout=1.0,
        scripts=dict.fromkeys(dripping, blocking(30.0)),
    )  # fmt: skip
    assert len(strategy.last_report.received) == N - 3
    assert len(strategy.last_report.silent) == 3


def test_what_is_being_written_holds_the_next_reply_back_however_long_it_takes(folder, monkeypatch):
    monkeypatch.setattr(spill, "PATIENCE", 0.0)  # with who sends, not with the disk
    writing, go_on = threading.Semaphore(0), threading.Event()

    def slow(self, reply):
        writing.release()
        go_on.wait(10.0)
        return reply

    monkeypatch.setattr(Spill, "kept", slow)
    kept = Spill(0, folder)
    kept.begin(100, Limits(), N, 0)
    reply = Message(RecordDict(), dst_node_id=1, message_type="train")
    taken = []

    def take():
        taken.append(kept.pulled(lambda: reply, Look(threading.Event())))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert all(writing.acquire(timeout=10.0) for _ in threads[1:])
    assert not writing.acquire(timeout=0.5)
    go_on.set()
    for thread in threads:
        thread.join()
    assert taken == [reply] * 3


def test_who_waits_for_a_turn_gives_up_when_nobody_waits_for_the_reply(folder, monkeypatch):
    over, go_on = threading.Event(), threading.Event()
    kept = Spill(0, folder)
    kept.begin(100, Limits(), N, 0)
    reply = Message(RecordDict(), dst_node_id=1, message_type="train")

    def send():
        go_on.wait(10.0)
        return reply

    threads = [
        threading.Thread(target=kept.pulled, args=(send, Look(threading.Event()))) for _ in "12"
    ]
    for thread in threads:
        thread.start()
    threading.Timer(0.2, over.set).start()
    assert kept.pulled(pytest.fail, Look(over)) is None
    go_on.set()
    for thread in threads:
        thread.join()


def test_a_reply_that_nobody_waits_for_any_more_is_not_written(folder):
    over = threading.Event()
    kept = Spill(0, folder)
    kept.begin(10**5, Limits(), N, 0)
    reply = Message(OverMessages.content(honest(10)), dst_node_id=1, message_type="train")

    def late():
        over.set()
        return reply

    assert kept.pulled(late, Look(over)) is reply
    assert kept._end == 0
    assert kept.pulled(lambda: reply, Look(threading.Event())) is reply
    assert kept._end > 12_000


@pytest.mark.parametrize("quorum", [None, Quorum(7, grace=0.0, wait=0.7)])
def test_a_slow_disk_makes_nobody_late(api, folder, monkeypatch, quorum):
    own = Spill._written
    monkeypatch.setattr(Spill, "_written", lambda *a: (time.sleep(0.25), own(*a))[1])
    begin = time.monotonic()
    strategy, _, _ = play(api, MultiKrum(2), memory=0, spill=folder, quorum=quorum)
    assert time.monotonic() - begin > 0.25 * N / spill.AT_A_TIME > 1.3
    (report,) = strategy.reports
    assert report.late == ()
    assert len(report.received) == N
    assert max(report.arrived.values()) < 0.7


def test_the_global_models_own_arrays_are_not_touched_by_who_sends_them_back(folder):
    record = ArrayRecord(MODEL)
    data = [array.data for array in record.values()]

    def sends_back(message):
        return Message(RecordDict({"arrays": message.content["arrays"]}), reply_to=message)

    grid = ScriptedGrid(NODES, sends_back)
    strategy = messages.MultiKrum(
        num_malicious_nodes=2, memory=0, spill=folder, fraction_evaluate=0.0
    )
    strategy.start(grid, record, num_rounds=1, timeout=20.0)
    assert [array.data for array in record.values()] == data
    assert len(strategy.last_report.received) == N
