"""Server optimisers against loops over single numbers, and what they remember between runs."""

from __future__ import annotations

import io
import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAdam as FlowersFedAdam
from flwr.serverapp.strategy import FedAvgM as FlowersFedAvgM

from flwr_krum.boundary.bfloat16 import narrowed
from flwr_krum.boundary.npy import decode
from flwr_krum.boundary.replies import Reply
from flwr_krum.moments import Moments, OptimizerStateError
from flwr_krum.optimizers import (
    OPTIMIZERS,
    SGD,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedYogi,
    parse_optimizer,
)
from flwr_krum.report import RoundReport
from flwr_krum.round import Rounds
from flwr_krum.rules import Average, Krum, MultiKrum
from tests.flwr_krum.federations import FakeGrid, MessageApi
from tests.flwr_krum.npy_bytes import npy

ALL = [
    SGD(eta=0.5, decay=0.1),
    FedAvgM(eta=0.5, beta=0.8),
    FedAdagrad(eta=0.2, tau=1e-2),
    FedAdagrad(eta=0.2, beta_1=0.5),
    FedAdam(eta=0.05),
    FedYogi(eta=0.05, beta_1=0.8, beta_2=0.9, tau=1e-4),
]


def by_the_paper(optimizer, x, d, m, v):
    """Return the step of one number and its moments, as the papers write them."""
    o = optimizer
    if isinstance(o, SGD):
        return o.eta * (d - o.decay * x), m, v
    if isinstance(o, FedAvgM):
        m = o.beta * m + d
        return o.eta * m, m, v
    m = o.beta_1 * m + (1 - o.beta_1) * d
    if isinstance(o, FedAdagrad):
        v = v + d * d
    elif isinstance(o, FedYogi):
        v = v - (1 - o.beta_2) * (d * d) * math.copysign(v != d * d, v - d * d)
    else:
        v = o.beta_2 * v + (1 - o.beta_2) * (d * d)
    return o.eta * m / (math.sqrt(v) + o.tau), m, v


class Loop:
    """A model under an optimiser, number by number."""

    def __init__(self, optimizer, model):
        self.optimizer, self.model = optimizer, {k: a.copy() for k, a in model.items()}
        floats = {k: a for k, a in model.items() if a.dtype.kind == "f"}
        wide = {k: np.float64 if a.dtype == np.float64 else np.float32 for k, a in floats.items()}
        first = getattr(optimizer, "tau", 0.0) ** 2
        self.m = {k: np.zeros(a.shape, wide[k]) for k, a in floats.items()}
        self.v = {k: np.full(a.shape, first, wide[k]) for k, a in floats.items()}

    def step(self, aggregate):
        for key, goal in aggregate.items():
            if goal.dtype.kind != "f":
                self.model[key] = goal
                continue
            x, m, v = self.model[key], self.m[key], self.v[key]
            for i in np.ndindex(goal.shape):
                d = float(goal[i]) - float(x[i])
                now = float(x[i])
                step, m[i], v[i] = by_the_paper(self.optimizer, now, d, float(m[i]), float(v[i]))
                x[i] = now + step


def a_model(rng, count=0):
    return {
        "w": rng.standard_normal((3, 4)).astype(np.float32),
        "h": rng.standard_normal(5).astype(np.float16),
        "steps": np.array([count, -count]),
        "d": np.asfortranarray(rng.standard_normal((2, 3))),
        "s": np.array(rng.standard_normal(), np.float32),
        "none": np.zeros((0, 2), np.float32),
    }


def moved(model, rng, count, scale=0.3):
    new = a_model(rng, count)
    return {
        k: (model[k] + scale * a).astype(a.dtype) if a.dtype.kind == "f" else a
        for k, a in new.items()
    }


def reply(client, arrays, rng=None):
    keys = list(arrays)
    if rng is not None:
        rng.shuffle(keys)
    return Reply(client, {key: npy(arrays[key]) for key in keys})


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape), key
        assert found[key].tobytes() == array.tobytes(), key


def decoded(model):
    return {key: decode(data) for key, data in model.items()}


# --- what they compute ---


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_fifty_rounds_are_those_of_a_loop_over_single_numbers_whatever_the_order_of_the_keys(
    optimizer,
):
    rng = np.random.default_rng(0)
    model = a_model(rng)
    rounds = Rounds(Krum(1), server_optimizer=optimizer)
    loop = Loop(optimizer, model)
    for t in range(1, 51):
        rounds.begin(model, range(5))
        sent = {client: moved(model, rng, t) for client in range(5)}
        made, report = rounds.finish(t, [reply(c, arrays, rng) for c, arrays in sent.items()])
        assert report.stepped
        assert report.optimizer == str(optimizer)
        loop.step(sent[report.selected[0]])
        model = decoded(made)
        assert list(model) == list(loop.model)
        assert_same(model, loop.model)
    state = Moments.from_arrays(rounds.optimizer_state)
    assert (state.kind, state.server_round) == (type(optimizer).__name__, 50)
    expected = {"m": loop.m, "v": loop.v}
    assert set(state.arrays) == set(optimizer.beginning)
    for name, arrays in state.arrays.items():
        assert_same(arrays, expected[name])


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_both_apis_take_the_papers_steps_from_the_mean_of_the_selected(federation, optimizer):
    rng = np.random.default_rng(1)
    layers = list(a_model(rng).values())[:5]
    strategy = federation.custom(MultiKrum(1, m=1), server_optimizer=optimizer)
    loop = Loop(optimizer, dict(enumerate(layers)))
    for t in range(1, 6):
        sent = {c: list(moved(a_model(rng), rng, t).values())[:5] for c in range(1, 6)}
        federation.configure(strategy, layers, sent, t)
        layers, _ = federation.aggregate(strategy, sent, t)
        loop.step(dict(enumerate(sent[int(strategy.last_report.selected[0])])))
        assert_same(dict(enumerate(layers)), loop.model)


def test_blocks_leave_no_seam():
    rng = np.random.default_rng(2)
    x, F = ({"w": rng.standard_normal(20_001).astype(np.float32)} for _ in range(2))
    optimizer = FedAdam()
    whole, after = optimizer.step(optimizer.start, x, F, 1)
    cuts = (0, 5, 8192, 16384, 20_001)
    for i, j in itertools.pairwise(cuts):
        part, _ = optimizer.step(optimizer.start, {"w": x["w"][i:j]}, {"w": F["w"][i:j]}, 1)
        assert part["w"].tobytes() == whole["w"][i:j].tobytes()
    assert after.arrays["m"]["w"].dtype == np.float32


def test_a_lasting_step_is_ten_times_as_long_under_momentum_and_as_long_as_eta_under_adam():
    for optimizer, limit in ((FedAvgM(), 10 * 0.5), (FedAdam(eta=0.1), 0.1)):
        moments, x = optimizer.start, np.zeros(1)
        for t in range(1, 1500):
            (before, x) = x, optimizer.step(moments, {"w": x}, {"w": x + 0.5}, t)
            x, moments = x[0]["w"], x[1]
        assert x - before == pytest.approx(limit, rel=1e-2)


def test_momentum_without_memory_and_rate_one_is_the_plain_aggregate():
    rng = np.random.default_rng(3)
    model, aggregate = ({"w": rng.integers(-9, 9, 7).astype(np.float32)} for _ in range(2))
    made, _ = FedAvgM(eta=1, beta=0).step(FedAvgM().start, model, aggregate, 1)
    assert_same(made, aggregate)


def test_no_coordinate_steps_further_than_adams_bound_whatever_is_sent():
    optimizer = FedAdam(eta=0.1)
    bound = 0.1 * (1 - 0.9) / math.sqrt(1 - 0.99) / math.sqrt(1 - 0.9**2 / 0.99)
    assert bound == pytest.approx(0.235, abs=1e-3)
    rng = np.random.default_rng(4)
    x, moments = {"w": np.zeros(50)}, optimizer.start
    for t in range(1, 100):
        D = rng.standard_normal(50) * 10.0 ** rng.integers(-6, 7, 50)
        new, moments = optimizer.step(moments, x, {"w": x["w"] + D}, t)
        assert np.abs(new["w"] - x["w"]).max() <= bound
        x = new


# --- what stays as it is ---


def arrays_of(state):
    return {key: array.tobytes() for key, array in state.items()}


@pytest.fixture
def begun():
    """Rounds with an optimiser that has taken two steps, its model, and its state."""

    def make(rule=None, optimizer=None, model=None, **options):
        model = {"w": np.zeros(4, np.float32)} if model is None else model
        optimizer = optimizer or FedAdam()
        rounds = Rounds(rule or Krum(1), server_optimizer=optimizer, **options)
        for t in (1, 2):
            rounds.begin(model, range(5))
            sent = {k: a + a.dtype.type(1) for k, a in model.items()}
            made, report = rounds.finish(t, [reply(c, sent) for c in range(5)])
            assert report.stepped, report.note
            model = decoded(made)
        rounds.begin(model, range(5))
        return rounds, model, arrays_of(rounds.optimizer_state)

    return make


@pytest.mark.parametrize("reason", ["few", "nobody", "veto", "nan"])
def test_a_round_without_a_step_leaves_the_state_alone(begun, reason):
    rounds, model, state = begun()
    bad = {"w": np.full(4, np.nan, np.float32)}
    replies = {"few": [reply(0, model)], "nobody": [], "nan": [reply(c, bad) for c in range(5)]}
    sent = replies.get(reason, [reply(c, model) for c in range(5)])
    made, report = rounds.finish(3, sent, veto="no" if reason == "veto" else "")
    assert made is None
    assert report.optimizer == ""
    assert arrays_of(rounds.optimizer_state) == state


def test_a_step_to_an_aggregate_too_far_away_leaves_model_and_state_alone(begun):
    rounds, model, state = begun(Average())
    sent = [reply(c, {"w": model["w"] + np.float32(1)}) for c in range(4)]
    lie = reply(4, {"w": model["w"] + np.float32(1000)})
    made, report = rounds.finish(3, [*sent, lie])
    assert made is None
    # Adam would take a short step even to there: it is the aggregate's that is measured.
    assert "times as long as the median update, more than largest_step=10" in report.note
    assert arrays_of(rounds.optimizer_state) == state


OVERFLOWS = {
    "the model": (FedAvgM(), np.float16, 60_000, (1000, 1000, 1100)),
    "the second moment": (FedAdam(), np.float32, 0, (1, 1, 1e25)),
    "the momentum": (FedAvgM(eta=1e-6), np.float64, 0, (1e308, 0, 1.5e308)),
}


@pytest.mark.parametrize("what", OVERFLOWS)
def test_a_step_that_is_not_finite_leaves_model_and_state_alone(what):
    optimizer, dtype, first, steps = OVERFLOWS[what]
    rounds = Rounds(Krum(1), server_optimizer=optimizer)
    model = {"w": np.full(3, first, dtype)}
    for t, step in enumerate(steps, 1):
        state = arrays_of(rounds.optimizer_state)
        rounds.begin(model, range(5))
        sent = {"w": (model["w"] + step).astype(dtype)}
        assert np.isfinite(sent["w"]).all()
        made, report = rounds.finish(t, [reply(c, sent) for c in range(5)])
        if t < len(steps):
            assert report.stepped, report.note
            model = decoded(made)
    assert made is None
    assert report.note == "the server optimizer's step is not finite: it is not taken"
    assert arrays_of(rounds.optimizer_state) == state
    rounds.begin(model, range(5))
    assert rounds.finish(9, [reply(c, model) for c in range(5)])[1].stepped


def test_arrays_that_do_not_travel_and_constants_stay_and_have_no_moments():
    mask = np.array([0.0, -np.inf, 1.0], np.float32)
    model = {"b": np.ones(2, np.float32), "mask": mask, "w": np.zeros(3, np.float32)}
    rounds = Rounds(Krum(1), server_optimizer=FedAvgM(), shared_keys=["mask", "w"])
    for t in range(1, 4):
        rounds.begin(model, range(5))
        sent = {"w": model["w"] + np.float32(1), "mask": model["mask"] + np.float32(1)}
        made, report = rounds.finish(t, [reply(c, sent) for c in range(5)])
        assert report.stepped, report.note
        model = decoded(made)
    assert model["b"].tolist() == [1, 1]
    assert model["mask"][1] == -np.inf
    assert np.isfinite(model["mask"][[0, 2]]).all()
    assert "optimizer/m/b" not in rounds.optimizer_state
    assert all(np.isfinite(a).all() for k, a in rounds.optimizer_state.items() if "/m/" in k)


def test_an_array_that_misses_a_round_keeps_its_moments():
    model = {"a": np.zeros(2, np.float32), "w": np.zeros(3, np.float32)}
    rounds = Rounds(Krum(1), server_optimizer=FedAvgM())
    states = []
    for t, keys in enumerate((["a", "w"], ["w"], ["a", "w"]), 1):
        rounds.begin(model, range(5))
        sent = {key: model[key] + np.float32(1) for key in keys}
        made, _ = rounds.finish(t, [reply(c, sent) for c in range(5)])
        model = decoded(made)
        states.append(rounds.optimizer_state["optimizer/m/a"].tolist())
    assert states == [[1, 1], [1, 1], pytest.approx([1.9, 1.9])]


def test_a_bfloat16_array_has_moments_of_float32():
    model = {"w": narrowed(np.zeros(3, np.float32))}
    rounds = Rounds(Krum(1), server_optimizer=FedAvgM())
    rounds.begin(model, range(5))
    sent = {"w": narrowed(np.ones(3, np.float32))}
    made, _ = rounds.finish(1, [reply(c, sent) for c in range(5)])
    assert decode(made["w"]).tobytes() == sent["w"].tobytes()
    assert rounds.optimizer_state["optimizer/m/w"].dtype == np.float32


def test_a_journal_that_cannot_be_written_leaves_the_state_alone(tmp_path, begun):
    rounds, model, state = begun(journal=tmp_path / "journal")
    (tmp_path / "journal").write_text("somebody else's")
    with pytest.raises(ValueError, match="somebody else writes it as well"):
        rounds.finish(3, [reply(c, model) for c in range(5)])
    assert arrays_of(rounds.optimizer_state) == state


# --- between runs ---


def saved(arrays):
    """Return arrays as they come back from a file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as found:
        return {key: found[key] for key in found}


@pytest.mark.parametrize(
    ("optimizer", "with_journal"), [*((one, False) for one in ALL), (ALL[0], True), (ALL[3], True)]
)
def test_a_resumed_run_ends_with_the_bytes_of_an_unbroken_one(
    federation, tmp_path, optimizer, with_journal
):
    def play(strategy, layers, ts):
        for t in ts:
            rng = np.random.default_rng(t)
            sent = {c: list(moved(a_model(rng), rng, t).values())[:5] for c in range(1, 6)}
            sent = {} if t in (3, 4) else sent  # nobody answers
            federation.configure(strategy, layers, range(1, 6), t - strategy._rounds.rounds_done)
            made, _ = federation.aggregate(strategy, sent, t - strategy._rounds.rounds_done)
            layers = made or layers
        return layers

    def made(name, **options):
        options |= {"journal": tmp_path / name} if with_journal else {}
        return federation.custom(Krum(1), server_optimizer=optimizer, **options)

    first = list(a_model(np.random.default_rng(0)).values())[:5]
    whole = made("whole")
    expected = play(whole, first, range(1, 9))
    for done in (1, 3, 4, 5):
        begun = made(f"parts {done}")
        layers = play(begun, first, range(1, done + 1))
        state = saved(begun.optimizer_state)
        resumed = made(f"parts {done}", rounds_done=done, server_optimizer_state=state)
        layers = play(resumed, layers, range(done + 1, 9))
        assert_same(dict(enumerate(layers)), dict(enumerate(expected)))
        assert_same(resumed.optimizer_state, whole.optimizer_state)


def test_a_second_start_of_a_strategy_goes_on_with_what_it_remembers(begun):
    rounds, _, state = begun()
    rounds.go_on()
    assert rounds.rounds_done == 2
    assert arrays_of(rounds.optimizer_state) == state


def test_a_state_travels_in_a_record_of_flowers_too():
    state = {"optimizer/m/w": np.ones(3), **FedAvgM().start.to_arrays()}
    record = ArrayRecord({key: Array(array) for key, array in state.items()})
    assert_same({key: array.numpy() for key, array in record.items()}, state)


def test_without_an_optimizer_there_is_no_state(federation):
    assert federation.custom(Krum(1)).optimizer_state == {}


REMEDY = 'give server_optimizer_state= the strategy.optimizer_state that was saved .* or "fresh"'


def test_a_resumed_run_without_its_state_is_refused_and_says_what_to_do(federation, begun):
    state = begun()[0].optimizer_state
    message = rf"rounds_done is 2, and what FedAdam remembers .* is missing: {REMEDY}"
    with pytest.raises(OptimizerStateError, match=message):
        federation.custom(Krum(1), server_optimizer=FedAdam(), rounds_done=2)
    for given in (state, "fresh"):
        federation.custom(
            Krum(1), server_optimizer=FedAdam(), rounds_done=2, server_optimizer_state=given
        )


def without(state, end):
    return {key: array for key, array in state.items() if not key.endswith(end)}


DAMAGE = {
    "empty": (lambda s: {}, "not an optimizer's state: it has no 'optimizer/kind'"),
    "no round": (lambda s: without(s, "/round"), "it has no 'optimizer/round'"),
    "half": (lambda s: without(s, "v/w"), "the state is not whole, or not finite"),
    "nan": (lambda s: s | {"optimizer/m/w": np.full(4, np.nan)}, "not whole, or not finite"),
    "a model": (lambda s: s | {"w": np.zeros(4)}, "'w' is no moment of an optimizer"),
    "integers": (lambda s: s | {"optimizer/m/w": np.arange(4)}, "is no moment of an optimizer"),
    "text": (lambda s: "warm", "server_optimizer_state is 'warm'"),
    "a later round": (
        lambda s: s | {"optimizer/round": np.array(3)},
        "the state is that of round 3, but rounds_done is 2",
    ),
    "another kind": (
        lambda s: s | {"optimizer/kind": np.array("FedYogi")},
        "the state is that of FedYogi, the optimizer is FedAdam",
    ),
    "many rounds": (lambda s: s | {"optimizer/round": np.arange(3)}, "not an optimizer's state"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_the_state_of_these_rounds_is_refused(begun, damage):
    change, message = DAMAGE[damage]
    state = change(begun()[0].optimizer_state)
    with pytest.raises(OptimizerStateError, match=f"{message}.*{REMEDY}"):
        Rounds(Krum(1), server_optimizer=FedAdam(), rounds_done=2, server_optimizer_state=state)


def test_the_journal_knows_that_a_state_is_an_earlier_rounds(tmp_path):
    rounds = Rounds(Krum(1), server_optimizer=FedAvgM(), journal=tmp_path / "journal")
    model, states = {"w": np.zeros(2)}, [rounds.optimizer_state]
    for t in (1, 2):
        rounds.begin(model, range(5))
        rounds.finish(t, [reply(c, {"w": np.ones(2)}) for c in range(5)])
        states.append(rounds.optimizer_state)

    def resumed(done, state):
        options = {"journal": tmp_path / "journal", "rounds_done": done}
        return Rounds(Krum(1), server_optimizer=FedAvgM(), server_optimizer_state=state, **options)

    for done, state, round_ in ((2, states[1], 1), (2, states[0], 0), (1, states[0], 0)):
        message = f"that of round {round_}, but rounds_done is {done}, and round {done} was the la"
        with pytest.raises(OptimizerStateError, match=message):
            resumed(done, state)
    resumed(1, states[1])
    resumed(2, states[2])
    resumed(2, "fresh")


@pytest.mark.parametrize("model", [{"w": np.zeros(5)}, {"x": np.zeros(4)}])
def test_a_state_of_another_model_is_refused_before_anybody_is_asked(federation, model):
    optimizer = FedAvgM()
    _, moments = optimizer.step(optimizer.start, {"w": np.zeros(4)}, {"w": np.ones(4)}, 1)
    rounds = Rounds(
        Krum(1),
        server_optimizer=optimizer, rounds_done=1, server_optimizer_state=moments.to_arrays(),
    )  # fmt: skip
    message = r"the moment m of array 'w' is float64 \(4,\), the model asks for .*" + REMEDY
    with pytest.raises(OptimizerStateError, match=message):
        rounds.begin(model, range(5))


# --- what is refused, and what is said ---


@pytest.mark.parametrize("rate", [0.5, lambda t: 1.0])
def test_a_learning_rate_beside_an_optimizer_is_refused(federation, rate):
    message = re.escape("both set: leave out the former, the rate of FedAvgM(eta=1.0, beta=0.9) ")
    with pytest.raises(ValueError, match=message):
        federation.custom(Krum(1), server_optimizer=FedAvgM(), server_learning_rate=rate)


@pytest.mark.parametrize("optimizer", ["fedadam", FedAdam, 0.1])
def test_what_is_no_optimizer_is_refused(federation, optimizer):
    with pytest.raises(TypeError, match=r"server_optimizer must be one of flwr_krum\.optimizers "):
        federation.custom(Krum(1), server_optimizer=optimizer)


def test_a_state_without_an_optimizer_is_refused():
    with pytest.raises(ValueError, match="is given without a server_optimizer"):
        Rounds(Krum(1), rounds_done=1, server_optimizer_state="fresh")


def test_an_optimizer_needs_the_global_model():
    rounds = Rounds(Krum(1), server_optimizer=FedAvgM())
    with pytest.raises(ValueError, match="needs the global model: let the strategy configure"):
        rounds.finish(1, [reply(c, {"w": np.ones(2)}) for c in range(5)])


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_a_parameter_out_of_its_range_is_named_with_the_range(kind):
    for name in kind.__dataclass_fields__:
        is_beta = name.startswith("beta")
        kind(**{name: 0 if is_beta else 5e-324})
        legal = "0 <= beta < 1" if is_beta else "a finite number > 0"
        for value in (-0.1, 1 if is_beta else 0, math.nan, math.inf, True, "x", None):
            message = re.escape(f"{kind.__name__}: {name} must be {legal}, got {value!r}")
            with pytest.raises(ValueError, match=message):
                kind(**{name: value})


def test_the_defaults_are_the_papers():
    assert [str(kind()) for kind in OPTIMIZERS.values()] == [
        "FedAvgM(eta=1.0, beta=0.9)",
        "FedAdagrad(eta=0.1, beta_1=0.0, tau=0.001)",
        "FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=0.001)",
        "FedYogi(eta=0.1, beta_1=0.9, beta_2=0.99, tau=0.001)",
        "SGD(eta=1.0, decay=1e-05)",
    ]


def test_an_optimizer_is_read_from_text():
    assert parse_optimizer("fedadam(eta=0.01)") == FedAdam(eta=0.01)
    assert parse_optimizer("fedavgm") == FedAvgM()
    assert parse_optimizer("fedyogi(1, 0.5)") == FedYogi(1.0, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adam", "there is no 'adam', expected one of fedavgm, .*; did you mean fedadam"),
        ("fedadam(lr=1)", "fedadam: .*'lr'; it takes eta=0.1, beta_1=0.9"),
        ("fedadam(eta=0)", "fedadam: FedAdam: eta must be a finite number > 0"),
        ("fedadam | fedavgm", "it is a chain, expected one optimizer"),
        ("flwr_krum.rules:Krum", "it is no subclass of ServerOptimizer, expected one optimizer"),
        ("", "'' is no call"),
    ],
)
def test_a_text_that_is_no_optimizer_is_answered_with_what_there_is(text, message):
    with pytest.raises(ValueError, match=f"server optimizer is '{re.escape(text)}': {message}"):
        parse_optimizer(text)


def test_the_summary_names_the_optimizer_with_its_parameters_in_place_of_the_rate():
    lines = Rounds(Krum(1), server_optimizer=FedAdam(eta=0.01)).summary("Krum")
    optimizer = "Server optimizer: FedAdam(eta=0.01, beta_1=0.9, beta_2=0.99, tau=0.001)"
    assert sum(line.endswith(optimizer) for line in lines) == 1
    assert not any("learning rate" in line for line in lines)


def test_a_report_says_who_moved_the_model_and_of_what_the_guarantee_speaks(begun):
    rounds, _, _ = begun()
    report = rounds.reports[-1]
    (line,) = (line for line in report.lines() if line.startswith("moved by"))
    beginning = f"moved by {FedAdam()}, "
    end = ": certificate and guarantee speak of the aggregate alone"
    assert (line[: len(beginning)], line[-len(end) :]) == (beginning, end)
    assert not report.is_remarkable()
    assert RoundReport.from_json(report.to_json()) == report
    older = {k: v for k, v in report.to_json().items() if k not in ("optimizer", "steps")}
    assert RoundReport.from_json(older) == replace(report, optimizer="", steps={})


@pytest.mark.parametrize("optimizer", ALL, ids=str)
def test_a_report_says_how_far_the_model_moved_beside_how_far_the_aggregate_is(optimizer):
    rng = np.random.default_rng(1)
    model = a_model(rng)
    floats = [key for key, array in model.items() if array.dtype.kind == "f"]
    rounds = Rounds(Krum(1), server_optimizer=optimizer)

    def vector(arrays):
        numbers = (float(x) for key in floats for x in np.asarray(arrays[key], float).ravel())
        return list(numbers)

    for t in range(1, 6):
        rounds.begin(model, range(5))
        sent = {client: moved(model, rng, t) for client in range(5)}
        made, report = rounds.finish(t, [reply(c, arrays) for c, arrays in sent.items()])
        new, x, F = decoded(made), vector(model), vector(sent[report.selected[0]])
        D, step = ([b - a for a, b in zip(x, to, strict=True)] for to in (F, vector(new)))
        lengths = math.hypot(*D), math.hypot(*step)
        cosine = math.fsum(a * b for a, b in zip(D, step, strict=True)) / math.prod(lengths)
        assert report.steps == pytest.approx(
            {
                "aggregate": lengths[0],
                "taken": lengths[1],
                "ratio": lengths[1] / lengths[0],
                "cosine": cosine,
            }
        )
        assert f"{lengths[1] / lengths[0]:.3g} times as far" in "".join(report.lines())
        model = new


def test_an_aggregate_that_is_the_model_has_no_ratio_and_no_optimizer_no_steps():
    model = {"w": np.zeros(4)}
    for optimizer, expected in ((FedAvgM(), {"aggregate": 0.0, "taken": 0.0}), (None, {})):
        rounds = Rounds(Krum(1), server_optimizer=optimizer)
        rounds.begin(model, range(5))
        _, report = rounds.finish(1, [reply(c, model) for c in range(5)])
        assert report.steps == expected
        assert not any("times as far" in line for line in report.lines())


def test_steps_whose_squares_overflow_are_left_out_of_the_journal(tmp_path):
    rounds = Rounds(Krum(1), server_optimizer=FedAvgM(), journal=tmp_path / "journal")
    rounds.begin({"w": np.zeros(4)}, range(5))
    _, report = rounds.finish(1, [reply(c, {"w": np.full(4, 1e200)}) for c in range(5)])
    assert report.stepped
    assert report.steps == {}


def test_the_guarantee_is_the_one_of_the_aggregate(begun):
    plain = Rounds(Krum(1))
    plain.begin({"w": np.zeros(4, np.float32)}, range(5))
    rng = np.random.default_rng(0)
    rounds = Rounds(Krum(1), server_optimizer=FedAdam())
    rounds.begin({"w": np.zeros(4, np.float32)}, range(5))
    sent = [reply(c, {"w": 1 + rng.standard_normal(4).astype(np.float32)}) for c in range(5)]
    first, second = (each.finish(1, sent)[1] for each in (plain, rounds))
    assert first.guarantee == second.guarantee
    assert (first.selected, first.scores) == (second.selected, second.scores)


# --- where Flower's own differ ---


def one_round(strategy, arrays, sent):
    """Play a round of one of Flower's own strategies; return the new arrays."""
    api = MessageApi()
    record = ArrayRecord({key: Array(array) for key, array in arrays.items()})
    grid = FakeGrid(list(range(len(sent))), lambda *_: None)
    strategy.configure_train(1, record, ConfigRecord(), grid)
    replies = [api.reply(node, layers) for node, layers in enumerate(sent)]
    made, _ = strategy.aggregate_train(1, replies)
    return {key: array.numpy() for key, array in made.items()}


def test_flowers_own_adam_takes_three_quarters_of_the_papers_first_step_in_float64():
    model = {"k": np.array([100]), "w": np.zeros(1, np.float32)}
    sent = {"k": np.array([110]), "w": np.full(1, 0.5, np.float32)}
    theirs = one_round(FlowersFedAdam(eta=0.1), model, [sent] * 2)
    ours, _ = FedAdam(eta=0.1).step(FedAdam().start, model, sent, 1)
    assert ours["w"] == pytest.approx(0.1 * 0.05 / (math.sqrt(0.99e-6 + 0.0025) + 1e-3))
    correction = math.sqrt(1 - 0.99**2) / (1 - 0.9**2)
    assert correction == pytest.approx(0.742, abs=1e-3)
    assert theirs["w"] / ours["w"] == pytest.approx(correction, rel=1e-3)
    assert (theirs["w"].dtype, ours["w"].dtype) == (np.float64, np.float32)
    assert theirs["k"] == pytest.approx(100.07, abs=0.01)
    assert ours["k"] == 110


def test_flowers_own_momentum_takes_one_clients_order_of_arrays_for_everybodys():
    model = {"a": np.zeros(1), "b": np.full(1, 100.0)}
    swapped = dict(reversed(model.items()))
    strategy = FlowersFedAvgM(server_learning_rate=0.5, server_momentum=0.9)
    theirs = one_round(strategy, model, [swapped, model])
    assert (theirs["a"], theirs["b"]) != (0, 100)
    rounds = Rounds(Average(), server_optimizer=FedAvgM())
    rounds.begin(model, range(2))
    made, _ = rounds.finish(1, [reply(0, swapped), reply(1, model)])
    assert_same(decoded(made), model)
