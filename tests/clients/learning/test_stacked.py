"""Both ways of computing many copies of a model as one, beside PyTorch's own `vmap`."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from clients.cohort import KERNELS
from clients.learning import perceptron, stacked
from clients.learning.models import build_model, parameters_of

PROBLEMS = {
    ("spambase", "mlp"): ((57,), 2),
    ("mnist", "mlp"): ((1, 28, 28), 10),
    ("mnist", "convnet"): ((1, 28, 28), 10),
    ("mnist", "cnn_mnist"): ((1, 28, 28), 10),
}
WAYS = [
    (names, kernel)
    for names in PROBLEMS
    for kernel in KERNELS
    if kernel.fits(build_model(*names, seed=0))
]
EACH_WAY = pytest.mark.parametrize(
    ("names", "kernel"), WAYS, ids=["-".join([*names, k.__name__]) for names, k in WAYS]
)


SHARED = nn.Linear(2, 2)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def batches(names, n, size):
    shape, classes = PROBLEMS[names]
    rng = np.random.default_rng(7)
    x = rng.standard_normal((n, size, *shape), np.float32)
    return x, rng.integers(classes, size=(n, size))


def different_copies(model, n):
    """n copies whose parameters are not the same."""
    rng = np.random.default_rng(3)
    return {
        name: array + np.float32(0.05) * rng.standard_normal((n, *array.shape[1:]), np.float32)
        for name, array in stack_of(model).items()
    }


def stack_of(model):
    return stacked.stack(model, list(parameters_of(model).values()))


def by_vmap(model, copies, x, y):
    def loss(parameters, x, y):
        return functional.cross_entropy(functional_call(model, parameters, (x,)), y)

    found = vmap(grad_and_value(loss))(
        {name: torch.from_numpy(array) for name, array in copies.items()},
        torch.from_numpy(x),
        torch.from_numpy(y),
    )
    return found[1].numpy(), {name: part.numpy() for name, part in found[0].items()}


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@EACH_WAY
@pytest.mark.parametrize(("n", "size"), [(1, 1), (1, 4), (5, 1), (4, 3)])
def test_losses_and_gradients_are_those_that_vmap_finds(names, kernel, n, size):
    model = build_model(*names, seed=1)
    copies, (x, y) = different_copies(model, n), batches(names, n, size)
    expected, parts = by_vmap(model, copies, x, y)
    each, gradient = kernel.losses_and_gradients(model, copies, x, y, len(y))
    assert_close(each, expected)
    assert list(gradient) == list(copies)
    for name, part in gradient.items():
        assert part.shape == copies[name].shape
        assert_close(part, parts[name])


@EACH_WAY
def test_equal_copies_are_held_once_and_computed_like_any(names, kernel):
    model = build_model(*names, seed=2)
    once, (x, y) = stack_of(model), batches(names, 4, 3)
    assert list(once) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(once[name], parameter.detach().numpy()[None])
    expected, parts = by_vmap(model, {k: np.repeat(v, 4, axis=0) for k, v in once.items()}, x, y)
    each, gradient = kernel.losses_and_gradients(model, once, x, y, len(y))
    assert_close(each, expected)
    for name, part in gradient.items():
        assert_close(part, parts[name])


@EACH_WAY
@pytest.mark.parametrize("trained", [0, 1, 3])
def test_copies_that_rest_have_a_loss_and_no_gradient(names, kernel, trained):
    model = build_model(*names, seed=2)
    once, (x, y) = stack_of(model), batches(names, 4, 3)
    expected, parts = by_vmap(model, {k: np.repeat(v, 4, axis=0) for k, v in once.items()}, x, y)
    each, gradient = kernel.losses_and_gradients(model, once, x, y, trained)
    assert_close(each, expected)
    assert {k: part.shape for k, part in gradient.items()} == {
        k: (trained, *array.shape[1:]) for k, array in once.items()
    }
    for name, part in gradient.items():
        assert_close(part, parts[name][:trained])


@EACH_WAY
def test_parameters_and_examples_are_left_as_they_are(names, kernel):
    model = build_model(*names, seed=0)
    copies, (x, y) = stack_of(model), batches(names, 4, 3)
    before = [array.copy() for array in (*copies.values(), x, y)]
    kernel.losses_and_gradients(model, copies, x, y, len(y))
    for array, old in zip((*copies.values(), x, y), before, strict=True):
        np.testing.assert_array_equal(array, old)


@EACH_WAY
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_destroyed_model_has_no_finite_loss_and_gives_no_warning(names, kernel, value):
    model = build_model(*names, seed=0)
    copies = {k: np.full((2, *v.shape[1:]), value, np.float32) for k, v in
              stack_of(model).items()}  # fmt: skip
    # The second copy is sound, and stays so beside the first.
    for name, array in stack_of(model).items():
        copies[name][1] = array[0]
    x, y = batches(names, 2, 3)
    expected, parts = by_vmap(model, copies, x, y)
    with np.errstate(all="raise"):
        each, gradient = kernel.losses_and_gradients(model, copies, x, y, len(y))
    assert not np.isfinite(each[0])
    assert_close(each[1], expected[1])
    for name, part in gradient.items():
        assert_close(part[1], parts[name][1])


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (lambda: [nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(9, 4)], (7, 7)),
        (lambda: [nn.Flatten(), nn.Flatten(), nn.Linear(6, 4)], (2, 3)),
    ],
    ids=["pooled without channels", "flattened twice"],
)
def test_examples_of_other_shapes_are_computed_each_for_itself(layers, shape):
    torch.manual_seed(0)
    model = nn.Sequential(*layers())
    assert stacked.fits(model)
    rng = np.random.default_rng(0)
    copies = different_copies(model, 3)
    for size in (3, 5):  # as many examples as copies are not taken for them
        x = rng.normal(size=(3, size, *shape)).astype(np.float32)
        y = rng.integers(0, 4, (3, size))
        expected, parts = by_vmap(model, copies, x, y)
        each, gradient = stacked.losses_and_gradients(model, copies, x, y, 3)
        assert_close(each, expected)
        for name, part in gradient.items():
            assert_close(part, parts[name])


def test_arrays_of_another_model_are_no_stack():
    model = build_model("spambase", "mlp", 0)
    arrays = list(parameters_of(model).values())
    for wrong in (arrays[1:], [arrays[0].T, *arrays[1:]]):
        with pytest.raises(ValueError, match=r"got arrays of shapes \[.*expected \[\(10, 57\)"):
            stacked.stack(model, wrong)


def test_a_stack_is_float32_and_a_copy():
    model = build_model("spambase", "mlp", 0)
    arrays = [array.astype(np.float64) for array in parameters_of(model).values()]
    arrays[0][0, 0] = 1e300
    for array in arrays:
        array.flags.writeable = False
    copies = stacked.stack(model, arrays)
    for copy, array in zip(copies.values(), arrays, strict=True):
        assert copy.dtype == np.float32
        assert copy.flags.writeable
        assert not np.shares_memory(copy, array)
    assert copies["hidden1.weight"][0, 0, 0] == np.inf


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(2, 2),
        nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.BatchNorm1d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)),
        nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)),
        nn.Sequential(nn.Linear(2, 2), nn.Flatten(), nn.Linear(2, 2)),
        nn.Sequential(nn.Conv2d(2, 2, 1, groups=2), nn.Flatten(), nn.Linear(2, 2)),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()),
        nn.Sequential(nn.Flatten(), SHARED, nn.ReLU(), SHARED),
        nn.Sequential(nn.Flatten(), Doubled(2, 2)),
    ],
)
def test_a_model_of_other_layers_fits_neither_way(model):
    assert not any(kernel.fits(model) for kernel in KERNELS)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(2, 2)],
        [nn.Flatten()],
        [nn.Flatten(), nn.ReLU()],
        [nn.Flatten(), nn.Linear(2, 2), nn.ReLU()],
        [nn.Flatten(), nn.Linear(2, 2), nn.Linear(2, 2)],
        [nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(2, 2)],
    ],
)
def test_what_is_no_perceptron_does_not_fit_as_one(layers):
    assert not perceptron.fits(nn.Sequential(*layers))


def test_every_model_of_this_package_fits():
    assert [kernel for _, kernel in WAYS] == [
        perceptron, stacked,  # spambase/mlp
        perceptron, stacked,  # mnist/mlp
        stacked,
        stacked,
    ]  # fmt: skip
