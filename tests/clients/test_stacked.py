import pytest
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from clients.models import build_model
from clients.stacked import is_stackable, losses, losses_and_gradients, stack

PROBLEMS = {
    ("spambase", "mlp"): ((57,), 2),
    ("mnist", "mlp"): ((1, 28, 28), 10),
    ("mnist", "convnet"): ((1, 28, 28), 10),
}


def batches(names, n, size):
    shape, classes = PROBLEMS[names]
    rng = torch.Generator().manual_seed(7)
    x = torch.randn(n, size, *shape, generator=rng)
    return x, torch.randint(classes, (n, size), generator=rng)


def different_copies(model, n):
    """n copies whose parameters are not the same."""
    rng = torch.Generator().manual_seed(3)
    return {
        name: copies + 0.05 * torch.randn(copies.shape, generator=rng)
        for name, copies in stack(model, n).items()
    }


@pytest.mark.parametrize("names", PROBLEMS)
@pytest.mark.parametrize(("n", "size"), [(1, 1), (1, 4), (5, 1), (4, 3)])
def test_losses_and_gradients_are_those_that_vmap_finds(names, n, size):
    model = build_model(*names, seed=1)
    copies, (x, y) = different_copies(model, n), batches(names, n, size)

    def loss(parameters, x, y):
        return functional.cross_entropy(functional_call(model, parameters, (x,)), y)

    expected, values = vmap(grad_and_value(loss))(copies, x, y)
    each, gradient = losses_and_gradients(model, copies, x, y)
    torch.testing.assert_close(each, values, rtol=0, atol=2e-6)
    torch.testing.assert_close(losses(model, copies, x, y), values, rtol=0, atol=2e-6)
    assert list(gradient) == list(copies)
    for name, part in gradient.items():
        torch.testing.assert_close(part, expected[name], rtol=0, atol=2e-6)


def test_a_stack_holds_the_model_n_times():
    model = build_model("mnist", "convnet", 0)
    copies = stack(model, 3)
    assert list(copies) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        assert copies[name].shape == (3, *parameter.shape)
        assert all(torch.equal(copy, parameter) for copy in copies[name])


def test_the_models_copies_are_left_as_they_are():
    model = build_model("spambase", "mlp", 0)
    before = [parameter.clone() for parameter in model.parameters()]
    losses_and_gradients(model, stack(model, 4), *batches(("spambase", "mlp"), 4, 3))
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))]
)
def test_a_model_of_other_layers_is_not_stackable(model):
    assert not is_stackable(model)


@pytest.mark.parametrize("names", PROBLEMS)
def test_every_model_of_this_package_is_stackable(names):
    assert is_stackable(build_model(*names, seed=0))
