import threading

import numpy as np
import pytest
import torch

from clients import build_model, load_parameters, parameters_of


@pytest.mark.parametrize(
    ("task", "model", "shape", "classes", "d"),
    [
        ("spambase", "mlp", (57,), 2, 57 * 10 + 10 + 10 * 10 + 10 + 10 * 2 + 2),
        ("mnist", "mlp", (1, 28, 28), 10, 784 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10),
        ("mnist", "convnet", (1, 28, 28), 10, 13738),
    ],
)
def test_each_model_has_its_size_and_gives_one_logit_per_class(task, model, shape, classes, d):
    module = build_model(task, model, seed=0)
    assert sum(array.size for array in parameters_of(module).values()) == d
    assert module(torch.zeros(4, *shape)).shape == (4, classes)


def test_the_spambase_mlp_has_712_parameters():
    assert sum(a.size for a in parameters_of(build_model("spambase", "mlp", 0)).values()) == 712


def test_the_seed_determines_a_model():
    first, again, other = (parameters_of(build_model("mnist", "convnet", s)) for s in (5, 5, 6))
    assert all((first[key] == again[key]).all() for key in first)
    assert any((first[key] != other[key]).any() for key in first)


def test_initialisation_is_pytorchs_own():
    torch.manual_seed(11)
    expected = torch.nn.Linear(57, 10)
    built = parameters_of(build_model("spambase", "mlp", 11))
    assert (built["hidden1.weight"] == expected.weight.detach().numpy()).all()
    assert (built["hidden1.bias"] == expected.bias.detach().numpy()).all()


def test_building_leaves_torchs_global_generator_alone():
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    build_model("spambase", "mlp", 0)
    assert (torch.rand(3) == expected).all()


def test_threads_that_build_at_once_get_the_models_of_their_seeds():
    expected = {s: parameters_of(build_model("mnist", "mlp", s)) for s in range(8)}
    built = {}
    threads = [
        threading.Thread(target=lambda s=s: built.update({s: build_model("mnist", "mlp", s)}))
        for s in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, model in built.items():
        found = parameters_of(model)
        assert all((found[key] == expected[seed][key]).all() for key in found)


def test_an_unknown_model_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match=r"'convnet' for examples of shape \(57,\): there is no"):
        build_model("spambase", "convnet", 0)


def test_parameters_survive_the_way_through_arrays():
    source, target = build_model("mnist", "convnet", 1), build_model("mnist", "convnet", 2)
    arrays = parameters_of(source)
    load_parameters(target, list(arrays.values()))
    assert list(parameters_of(target)) == list(arrays) == list(source.state_dict())
    assert all((value == arrays[key]).all() for key, value in parameters_of(target).items())


def test_parameters_are_copies_in_both_directions():
    model = build_model("spambase", "mlp", 0)
    taken = parameters_of(model)
    taken["output.bias"][:] = 7
    assert (parameters_of(model)["output.bias"] != 7).all()
    load_parameters(model, list(taken.values()))
    taken["output.bias"][:] = 9
    assert (parameters_of(model)["output.bias"] == 7).all()


def test_buffers_travel_with_the_parameters():
    model = torch.nn.BatchNorm1d(4)
    arrays = parameters_of(model)
    assert arrays["num_batches_tracked"].dtype == np.int64
    arrays["num_batches_tracked"] = np.array(5)
    load_parameters(model, list(arrays.values()))
    assert model.num_batches_tracked.item() == 5


def test_loading_takes_read_only_transposed_and_oversized_arrays(recwarn):
    model = build_model("spambase", "mlp", 0)
    arrays = list(parameters_of(model).values())
    arrays[0] = np.asfortranarray(arrays[0].astype(np.float64))
    arrays[0][0, 0] = 1e300
    arrays[0].flags.writeable = False
    load_parameters(model, arrays)
    assert np.isposinf(parameters_of(model)["hidden1.weight"][0, 0])
    assert not recwarn.list


def test_a_wrong_number_of_arrays_is_named():
    model = build_model("spambase", "mlp", 0)
    arrays = list(parameters_of(model).values())
    with pytest.raises(ValueError, match=r"got 5 arrays, expected 6: hidden1\.weight, hidden1"):
        load_parameters(model, arrays[:-1])


def test_a_wrong_shape_is_named_even_where_it_could_be_broadcast():
    model = build_model("spambase", "mlp", 0)
    arrays = list(parameters_of(model).values())
    arrays[1] = arrays[1][:1]
    with pytest.raises(ValueError, match=r"'hidden1.bias' has shape \(1,\), expected \(10,\)"):
        load_parameters(model, arrays)
