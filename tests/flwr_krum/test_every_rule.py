"""What holds for every rule that has a name, alone and behind every mixing.

A new rule is in the table as soon as it is in `RULES`; what it lacks is named here, and held to
lack it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from flwr_krum.kernel.updates import Products
from flwr_krum.rules import MIXINGS, RULES, ClientUpdates

pytestmark = pytest.mark.filterwarnings("error")

F = 2
W = np.array([0.5, -1.0, 2.0])

OPTIONS = {
    "1-p-krum": lambda unit: {"p": 0.0},
    "centered-clipping": lambda unit: {"tau": unit},
    "norm-bounding": lambda unit: {"C": unit},
    "clipping": lambda unit: {"C": unit},
    "bucketing": lambda unit: {"s": 2, "seed": 0},
}
"""Arguments beside f, given the length that is a usual one for an update."""

RELATIVE_TO_THE_MODEL = {
    "centered-clipping", "norm-bounding", "cge", "fltrust", "clipping", "arc",
}  # fmt: skip
"""Those that look at the lengths of updates: without a global model they depend on the origin."""

UNBOUNDED = {"average", "nnm | average", "bucketing | average"}
"""Those that a single client can move anywhere."""

TIES = {"minimum-diameter", "bulyan", "clipping | cge", "arc | cge"}
"""Those that make ties of what has none: sets share their longest pair, the last that remain are
each other's only neighbours, shortened updates are equally long. The smallest numbers decide."""

DRAWN = {"bucketing"}
"""Those that depend on the order of the clients, since they draw by position."""

NAMES = [*RULES, *(f"{mixing} | {rule}" for mixing in MIXINGS for rule in RULES)]
every_rule = pytest.mark.parametrize("name", NAMES)


def build(name, f=F, unit=1.0):
    """Return the rule of a name, or the chain."""
    *before, last = name.split(" | ")
    rule = RULES[last](f, **OPTIONS.get(last, lambda _: {})(unit))
    for mixing in before:
        rule = MIXINGS[mixing](**OPTIONS.get(mixing, lambda _: {})(unit)) | rule
    return rule


def has(name, lacking):
    """Say whether a rule, or a part of the chain, is one of those."""
    return bool(lacking & {name, *name.split(" | ")})


def enough(rule, f=F):
    """Return a number of clients that is not a multiple of a bucket's size."""
    return max(11, rule.least(f)) | 1


def cloud(n, seed=0, w=W):
    """Return n vectors around the global model."""
    return w + np.random.default_rng(seed).standard_normal((n, len(w)))


def middle(models):
    """Return what stands for every row of the server's: the clients' median, layer by layer."""
    return [
        np.median(np.stack(layers), axis=0).astype(layers[0].dtype)
        for layers in zip(*models, strict=True)
    ]


def applied(rule, models, base, device="cpu", server_round=1):
    """Return what a rule makes of models of layers, with the server's rows that it asks for."""
    rows = {name: middle(models) for name in rule.server_rows}
    updates = ClientUpdates.from_layers(models, base, device=device, server_rows=rows)
    return rule(updates, server_round=server_round)


def result_of(rule, V, w=W, device="cpu", server_round=1):
    """Return what a rule makes of the rows of a matrix."""
    base = None if w is None else [w]
    return applied(rule, [[row] for row in V], base, device, server_round)


def close(found, expected, rtol=1e-7):
    return np.allclose(found, expected, rtol=rtol, atol=rtol)


@every_rule
def test_a_rule_says_whether_it_sorts_coordinates_and_else_takes_products_for_what_they_are(name):
    rule = build(name)
    n, rng = enough(rule), np.random.default_rng(2)
    choice = result_of(rule, cloud(n)).choice
    assert (choice.window is not None) == rule.is_coordinate_wise
    base, *models = [
        [rng.standard_normal((2, 4)), rng.standard_normal((3, 2))] for _ in range(n + 1)
    ]
    rows = {row: middle(models) for row in rule.server_rows}
    updates = ClientUpdates.from_layers(models, base, server_rows=rows)
    updates = replace(updates, products=Products(((0, 1),)))
    if rule.is_coordinate_wise:
        with pytest.raises(ValueError, match="knows no products of layers"):
            rule(updates)
        return
    formed = [[b @ a] for a, b in models]
    rows = {row: [layers[1] @ layers[0]] for row, layers in rows.items()}
    expected = rule(ClientUpdates.from_layers(formed, [base[1] @ base[0]], server_rows=rows))
    if not has(name, TIES):  # among products rounding decides them
        assert rule(updates).selected == expected.selected
        assert close(rule(updates).weights, expected.weights, 1e-5)


# --- symmetries ---


@every_rule
def test_permuting_the_clients_changes_nothing_but_their_numbers(name):
    rule = build(name)
    n, same = enough(rule), True
    for seed in (0, 2, 11, 14, 17):  # among them are ties for all, however BLAS rounds the mixed
        V = cloud(n, seed)
        order = np.random.default_rng(seed).permutation(n)
        before, after = result_of(rule, V), result_of(rule, V[order])
        same &= {int(order[i]) for i in after.selected} == set(before.selected)
        same &= close(after.vector, before.vector)
        if before.scores is not None:
            same &= close(after.scores, before.scores[order])
    assert same == (not has(name, DRAWN | TIES))


@every_rule
def test_moving_all_models_and_the_global_one_moves_the_result(name):
    rule = build(name)
    for seed in range(3):
        V = np.round(2.0**20 * cloud(enough(rule), seed)) / 2.0**20
        before = result_of(rule, V, np.zeros(3))
        for shift in (2.0**20, -(2.0**12)):
            after = result_of(rule, V + shift, np.zeros(3) + shift)
            assert after.selected == before.selected
            assert close(after.vector - shift, before.vector)  # of 2^20, ten digits are left


@every_rule
def test_where_lengths_do_not_count_the_models_alone_may_be_moved(name):
    rule = build(name)
    same = True
    for seed in range(6):
        V = cloud(enough(rule), seed)
        shift = 30.0 * np.random.default_rng(seed).standard_normal(3)
        before, after = result_of(rule, V, None), result_of(rule, V + shift, None)
        same &= close(after.vector, before.vector + shift)
    assert same == (not has(name, RELATIVE_TO_THE_MODEL))


@every_rule
def test_scaling_by_a_power_of_two_scales_the_result(name):
    rule = build(name)
    V = cloud(enough(rule))
    before = result_of(rule, V)
    for factor in (2.0**-900, 2.0**-60, 2.0**60, 2.0**900):
        after = result_of(build(name, unit=factor), V * factor, W * factor)
        assert after.selected == before.selected, factor
        np.testing.assert_allclose(after.vector / factor, before.vector, rtol=1e-9)


@every_rule
def test_the_same_round_is_decided_in_the_same_way_again(name):
    V = cloud(enough(build(name)))
    first, again = (result_of(build(name), V, server_round=3) for _ in range(2))
    assert again.selected == first.selected
    assert again.vector.tobytes() == first.vector.tobytes()


def test_buckets_are_drawn_by_seed_and_round():
    def drawn(seed, server_round):
        rule = MIXINGS["bucketing"](s=2, seed=seed) | RULES["median"](F)
        updates = ClientUpdates.from_matrix(cloud(11))
        return rule(updates, server_round=server_round).vector.tobytes()

    assert len({drawn(seed, t) for seed in (0, 1) for t in (1, 2, 3, 4)}) == 8


# --- ties ---


def hadamard(size):
    """Return as many vectors of 1 and -1, any two of which differ in half of their numbers."""
    signs = np.ones((1, 1))
    while len(signs) < size:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs


@pytest.mark.parametrize(
    "name", [*RULES, *(f"{m} | {r}" for m in ("clipping", "arc") for r in RULES)]
)
def test_where_all_are_alike_the_smallest_numbers_are_selected_first(name):
    # 16 clients at distance 8 from each other, or shortened by half: no sum of these is rounded.
    V = hadamard(32)[:16]
    selected = result_of(build(name, unit=np.sqrt(32.0) / 2.0), V, np.zeros(32)).selected
    assert selected == tuple(range(len(selected)))


@pytest.mark.parametrize("name", RULES)
def test_of_twins_the_one_of_smaller_number_comes_first(name):
    rule = build(name)
    n = enough(rule)
    for seed in range(8):
        V = np.random.default_rng(seed).integers(-9, 10, (n, 3)).astype(float)
        V[[4, n - 1]] = V[1]
        result = result_of(rule, V, np.zeros(3))
        twins = [i for i in result.selected if i in (1, 4, n - 1)]
        if name == "caf":  # its weights come from an eigenvector, in which twins differ by rounding
            np.testing.assert_allclose(result.weights[[4, n - 1]], result.weights[1], rtol=1e-9)
        else:
            assert twins == [1, 4, n - 1][: len(twins)]


@every_rule
@pytest.mark.parametrize("w", [W, None], ids=["model", "alone"])
def test_where_all_send_the_same_model_it_is_the_result(name, w):
    rule = build(name, unit=100.0)
    same = np.array([0.1, 3.3, -7.7], np.float32)
    V = np.tile(same, (enough(rule), 1))
    base = None if w is None else w.astype(np.float32)
    np.testing.assert_array_equal(result_of(rule, V, base).vector, same)


# --- how many clients ---


@every_rule
def test_the_least_clients_are_enough_and_one_fewer_are_refused_with_what_is_legal(name):
    for f in (0, 1, 3):
        rule = build(name, f)
        least = rule.least(f)
        assert np.isfinite(result_of(rule, cloud(least)).vector).all()
        if least > 1:
            legal = rf"legal: .*n >= {least} at f={f} \(strict=False"
            with pytest.raises(ValueError, match=rf"got n={least - 1}, f={f}; {legal}") as error:
                result_of(rule, cloud(least - 1))
            allowed = re.search(rf"f <= (\d+) at n={least - 1}", str(error.value))
            most = int(allowed[1]) if allowed else -1
            assert build(name, most + 1).least(most + 1) > least - 1
            if most >= 0:
                result_of(build(name, most), cloud(least - 1))


@every_rule
def test_a_degraded_rule_runs_on_any_number_of_clients(name):
    rule = build(name).degraded()
    for n in (1, 2, 3, 4):
        assert np.isfinite(result_of(rule, cloud(n)).vector).all(), n


# --- hostile clients ---


@every_rule
def test_hostile_clients_of_any_size_leave_the_result_among_the_honest(name):
    rule = build(name, unit=1e-3)
    n = enough(rule)
    for size, signs in product((1.0, 1e10, 1e30, 1e100, 1e200, 1e300), ([1], [1, 1], [1, -1])):
        V = np.random.default_rng(n).uniform(-1e-3, 1e-3, (n, 3))
        V[[3 * i for i in range(len(signs))]] = size * np.array(signs)[:, None]
        found = np.abs(result_of(rule, V, np.zeros(3)).vector).max()
        if name not in UNBOUNDED:
            assert found <= 2e-3, (size, signs)
        elif sum(signs):
            assert found > size / n**2, (size, signs)


@pytest.mark.parametrize("name", ["geometric-median", "medoid", "krum", "caf", "arc | medoid"])
def test_liars_of_many_sizes_hide_nobody(name):
    rule = build(name, f=3)
    V = cloud(13, w=20.0 * np.ones(3))
    V[:3] = np.array([[1e39], [4e10], [4e3]])
    assert np.abs(result_of(rule, V, np.zeros(3)).vector - 20.0).max() < 5.0


@pytest.mark.parametrize("seed", range(12))
def test_two_liars_all_but_at_one_place_are_no_median_of_their_own(seed):
    place = np.append(4.0 * np.random.default_rng(seed).standard_normal(2), 0.0)
    V = np.array([1.0, 0.0, 0.0]) + 1e-3 * cloud(13, seed, w=np.zeros(3))
    V[0], V[12] = place, place
    V[12, 2] = 1e-30
    V[[3, 4]] = [[1.4e31], [3e26]]
    found = result_of(build("geometric-median", f=4), V, np.zeros(3)).vector
    assert np.abs(found - [1.0, 0.0, 0.0]).max() < 0.01


@pytest.mark.parametrize("size", [1e3, 6.7e19, 1e100, 1e300])
@pytest.mark.parametrize("name", ["krum", "multi-krum", "medoid", "bulyan"])
@pytest.mark.parametrize("mixing", ["arc", "clipping"])
def test_shortened_lies_stay_as_far_from_the_honest_as_they_are(mixing, name, size):
    # The honest look one way, the liars another, and all are equally long once they are shortened.
    rule = build(f"{mixing} | {name}", unit=1.0)
    n = enough(rule)
    V = np.array([1.0, 0.0, 0.0]) + 1e-3 * cloud(n, w=np.zeros(3))
    V[:2] = np.array([0.0, size, 0.0])
    found = result_of(rule, V, np.zeros(3)).vector
    assert np.abs(found - [1.0, 0.0, 0.0]).max() < 0.01


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_whether_one_client_can_move_it_anywhere(name):
    # 1-p Krum averages in some rounds; with DnC a client moves it behind the lie of another.
    assert build(name).is_bounded == (name not in UNBOUNDED | {"1-p-krum", "dnc"})


# --- layers and devices ---


def layered(n, seed=0):
    """Return the layers of n models and of the global one: three float types and counters."""
    rng = np.random.default_rng(seed)
    base = [
        rng.standard_normal((2, 3)).astype(np.float32),
        np.array(100),
        rng.standard_normal(()),
        np.zeros((0, 2), np.float32),
        rng.standard_normal(4).astype(np.float16),
        np.array([True, False]),
    ]
    models = [
        [
            (layer + rng.standard_normal(layer.shape)).astype(layer.dtype)
            if layer.dtype.kind == "f"
            else (layer + i**2).astype(layer.dtype)  # whose mean is not their median
            for layer in base
        ]
        for i in range(n)
    ]
    return models, base


@every_rule
def test_layers_of_any_kind_come_out_as_they_came_in(name, device):
    rule = build(name)
    n = enough(rule)
    models, base = layered(n)
    result = applied(rule, models, base, device)
    assert [layer.shape for layer in result.layers] == [layer.shape for layer in base]
    assert [layer.dtype for layer in result.layers] == [layer.dtype for layer in base]
    assert not any(layer.flags.writeable for layer in result.layers)
    assert result.layers[1] == 100 + ((n - 1) // 2) ** 2
    assert result.layers[5].tolist() == [True, True]

    def floats(model):
        kept = [layer.ravel().astype(float) for layer in model if layer.dtype.kind == "f"]
        return np.concatenate(kept)

    flat = result_of(rule, [floats(model) for model in models], floats(base))
    assert result.selected == flat.selected
    np.testing.assert_allclose(floats(result.layers), flat.vector, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result.layers[0].ravel(), flat.vector[:6], rtol=1e-6, atol=1e-6)

    # Of an even number of counters the lower of the middle two.
    assert applied(rule, *layered(n + 1), device).layers[1] == 100 + (n // 2) ** 2


@every_rule
def test_every_device_selects_the_same_clients_and_finds_the_same_result(name):
    pytest.importorskip("numba")
    rule = build(name, unit=20.0)
    n, d = enough(rule), 600
    w = np.random.default_rng(0).standard_normal(d)
    for dtype in (np.float16, np.float32, np.float64):
        V = cloud(n, 1, w).astype(dtype)
        plain, compiled = (
            result_of(rule, V, w.astype(dtype), device) for device in ("cpu:numpy", "cpu:numba")
        )
        assert plain.selected == compiled.selected, dtype
        np.testing.assert_allclose(
            plain.vector.astype(float), compiled.vector, rtol=4 * np.finfo(dtype).eps, atol=1e-7
        )


@every_rule
def test_the_models_are_not_changed(name):
    rule = build(name)
    V = cloud(enough(rule))
    before = V.copy()
    V.setflags(write=False)
    result_of(rule, V)
    np.testing.assert_array_equal(V, before)
