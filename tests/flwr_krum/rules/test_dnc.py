"""DnC against a singular value decomposition of the columns that it drew."""

import math
import tracemalloc

import numpy as np
import pytest

from flwr_krum.boundary.replies import Reply
from flwr_krum.checks import whole_number
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.round import Rounds
from flwr_krum.rules import Bucketing, ClientUpdates, DnC
from tests.flwr_krum.hard_inputs import updates_of
from tests.flwr_krum.npy_bytes import npy


@pytest.fixture
def drawn(monkeypatch):
    """The columns that were asked for, draw by draw."""
    found = []
    original = ClientGeometry.columns

    def columns(self, chosen):
        found.append(chosen.copy())
        return original(self, chosen)

    monkeypatch.setattr(ClientGeometry, "columns", columns)
    return found


def kept_of(block, keep):
    """Those who stand out least along the first right singular vectors, ties to small numbers."""
    centred = block - block.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred)
    top = [v for s, v in zip(lengths, directions, strict=False) if s >= lengths[0] * (1 - 1e-9)]
    scores = [sum(float(row @ v) ** 2 for v in top) for row in centred]
    largest = max(scores) or 1.0
    order = sorted(range(len(block)), key=lambda i: (round(scores[i] / largest, 10), i))
    return set(order[:keep])


def test_the_result_is_that_of_a_plain_loop_on_the_columns_that_were_drawn(device, drawn):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        f, c = int(rng.integers(0, 4)), float(rng.choice([0.5, 1.0, 1.5]))
        n, d = 2 * f + 1 + int(rng.integers(0, 4)) * (seed % 3), int(rng.integers(1, 9))
        V = rng.integers(-2, 3, (n, d)) if seed % 2 else 10.0 * rng.standard_normal((n, d))
        V = V.astype(np.float32 if seed % 5 == 0 else np.float64)
        V[rng.integers(n)] = V[rng.integers(n)]
        w = rng.standard_normal(d).astype(V.dtype)
        rule = DnC(
            f, columns=int(rng.integers(1, 9)), c=c, repeats=int(rng.integers(1, 4)), seed=seed
        )
        drawn.clear()
        found = rule(updates_of(V, device, w), server_round=2)
        offsets = V.astype(float) - w
        assert len(drawn) == rule.repeats, seed
        kept = set(range(n))
        for columns in drawn:
            assert columns.size == len(set(columns.tolist())) == min(d, rule.columns), seed
            kept &= kept_of(offsets[:, columns], n - math.floor(c * f))
        assert found.selected == tuple(sorted(kept)), seed
        expected = V.astype(float)[sorted(kept)].mean(axis=0) if kept else w
        np.testing.assert_allclose(found.vector, expected, rtol=1e-6, atol=1e-7, err_msg=f"{seed=}")


def test_columns_are_read_from_layers_of_any_kind_and_from_mixed_rows(drawn):
    rng = np.random.default_rng(0)
    shapes, dtypes = ((3, 2), (), (0,), (5,)), (np.float32, np.float64, np.float32, np.float16)

    def model():
        layers = [rng.standard_normal(s).astype(t) for s, t in zip(shapes, dtypes, strict=True)]
        return [layers[0], np.array(7), *layers[1:]]

    models, base = [model() for _ in range(6)], model()

    def row(layers):
        floats = [layer.ravel().astype(float) for layer in layers if layer.dtype.kind == "f"]
        return np.concatenate(floats)

    geometry = ClientGeometry(ClientUpdates.from_layers(models, base))
    offsets = np.array([row(m) for m in models]) - row(base)
    for chosen in (np.arange(12), np.array([0, 6, 7]), np.array([11])):
        np.testing.assert_array_equal(geometry.columns(chosen), offsets[:, chosen])
        M = rng.standard_normal((4, 6))
        mixed = geometry.mixed(M)
        assert mixed.d == geometry.d == 12
        np.testing.assert_allclose(mixed.columns(chosen), M @ offsets[:, chosen], atol=1e-12)


def test_seed_and_round_decide_the_columns(drawn):
    V = np.random.default_rng(0).standard_normal((5, 1000))
    for seed, t in ((1, 1), (1, 1), (1, 2), (2, 1)):
        DnC(f=1, columns=20, seed=seed)(V, server_round=t)
    first, again, later, other = (columns.tolist() for columns in drawn)
    assert first == again
    assert len({tuple(columns) for columns in (first, later, other)}) == 3


def test_a_strategy_gives_it_the_secret_seed_of_the_run():
    assert DnC().seeded(7) == DnC(seed=7)
    assert DnC(seed=3).seeded(7) == DnC(seed=3)
    assert whole_number("seed", Rounds(DnC(f=1)).rule.seed, 0) >= 0


def test_the_share_that_is_written_is_the_share_that_is_left_out():
    # In floats 0.29 * 100 is 28.999999999999996.
    V = np.random.default_rng(0).standard_normal((201, 3))
    assert len(DnC(f=100, c=0.29)(V).selected) == 201 - 29


def test_a_lie_in_the_drawn_columns_is_left_out_and_elsewhere_it_is_not_seen(drawn):
    rng = np.random.default_rng(0)
    for t in range(20):
        V = rng.standard_normal((9, 100))
        V[4, 50] = 1e6
        selected = DnC(f=1, columns=30, seed=0)(V, server_round=t).selected
        if 50 in drawn[-1]:
            assert 4 not in selected
    assert 0 < sum(50 in columns for columns in drawn) < 20


@pytest.fixture
def nobody():
    """A rule that keeps nobody of three clients, each of whom stands out in a column of its own."""
    return DnC(f=1, c=2.5, columns=1, repeats=40, seed=0), np.diag([50.0, 60.0, 70.0]) + 1.0


def test_where_no_repeat_keeps_a_client_the_model_stays_and_the_choice_says_so(nobody):
    rule, V = nobody
    found = rule(updates_of(V, base=np.full(3, 5.0)))
    assert found.selected == ()
    assert found.vector.tolist() == [5.0, 5.0, 5.0]
    assert found.choice.note == "no client was kept in every repeat: the model stays"


@pytest.mark.parametrize("knows", [True, False], ids=["known", "unknown"])
def test_a_round_in_which_nobody_is_kept_keeps_the_model_known_or_not(nobody, knows):
    rule, V = nobody
    rounds = Rounds(rule)
    if knows:
        rounds.begin({"w": np.full(3, 5.0)}, [1, 2, 3])
    model, report = rounds.finish(1, [Reply(i + 1, {"w": npy(v)}) for i, v in enumerate(V)])
    assert "no client was kept in every repeat" in report.note
    assert (model is None) == (not knows)
    assert report.stepped == knows


def test_of_two_lies_the_long_one_hides_the_other_and_the_step_of_a_round_is_kept_short():
    V = 1.0 + 1e-3 * np.random.default_rng(0).standard_normal((9, 4))
    V[0], V[1] = 1e12, 1e6
    assert {1} <= set(DnC(f=2)(V).selected)
    rounds = Rounds(DnC(f=2))
    rounds.begin({"w": np.zeros(4)}, range(9))
    model, report = rounds.finish(1, [Reply(i, {"w": npy(v)}) for i, v in enumerate(V)])
    assert model is None
    assert "more than largest_step=10" in report.note


def test_it_takes_little_memory_beside_fifty_large_models():
    n, d = 50, 1_000_000
    base = np.zeros(d, np.float32)
    shared = np.random.default_rng(0).standard_normal((5, d)).astype(np.float32)
    updates = ClientUpdates.from_layers([[shared[i % 5]] for i in range(n)], [base])
    updates.flat_rows  # noqa: B018 (views, which every rule makes)
    tracemalloc.start()
    DnC(f=10, repeats=3, seed=0)(updates)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - base.nbytes < 32e6  # beside the result


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"columns": 0}, "columns is 0, expected an integer >= 1"),
        ({"repeats": 0}, "repeats is 0, expected an integer >= 1"),
        ({"seed": -1}, "seed is -1, expected an integer >= 0"),
        ({"c": -0.5}, "c must be a number >= 0, got -0.5"),
        ({"c": math.inf}, "c must be a number >= 0, got inf"),
        ({"c": math.nan}, "c must be a number >= 0, got nan"),
        ({"c": True}, "c must be a number >= 0, got True"),
        ({"c": "1"}, "c must be a number >= 0, got '1'"),
    ],
)
def test_illegal_parameters_are_named(options, problem):
    with pytest.raises(ValueError, match=problem):
        DnC(f=1, **options)


def test_it_needs_a_majority_of_honest_clients_and_somebody_to_keep():
    with pytest.raises(ValueError, match=r"needs 2f < n and c f < n, got n=4, f=2; legal: f <= 1"):
        DnC(f=2)(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"got n=6, f=2; legal: f <= 1 at n=6, or n >= 7 at f=2"):
        DnC(f=2, c=3.0)(np.zeros((6, 2)))
    assert (Bucketing(s=2) | DnC(f=1)).least(1) == 5
