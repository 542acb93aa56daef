from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from flwr_krum.tensors import from_arrays, to_arrays

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64, torch.bool)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2)])
def test_tensors_come_back_from_flowers_record_as_they_were(dtype, shape):
    tensors = {"w": torch.randn(shape).mul(100).to(dtype)}
    record = ArrayRecord({key: Array(array) for key, array in to_arrays(tensors).items()})
    arrays = {key: array.numpy() for key, array in record.items()}
    (back,) = from_arrays(arrays, tensors).values()
    assert back.dtype == dtype
    assert torch.equal(back, tensors["w"])


def test_flower_itself_cannot_carry_bfloat16():
    with pytest.raises(TypeError, match="BFloat16"):
        ArrayRecord.from_torch_state_dict({"w": torch.zeros(2, dtype=torch.bfloat16)})


def test_what_lies_between_two_bfloat16_is_rounded_on_the_way_in_as_torch_does():
    values = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    back = from_arrays({"w": values}, {"w": torch.zeros(1000, dtype=torch.bfloat16)})
    assert torch.equal(back["w"], torch.tensor(values).bfloat16())


def test_arrays_are_copies_both_ways_and_of_parameters_too():
    weight = torch.nn.Parameter(torch.zeros(3))
    arrays = to_arrays({"w": weight})
    arrays["w"][:] = 7.0
    arrays["w"].setflags(write=False)
    assert not weight.any()
    back = from_arrays(arrays, {"w": weight, "other": weight})
    back["w"][0] = 1.0
    assert arrays["w"].tolist() == [7.0, 7.0, 7.0]
    assert list(back) == ["w"]


def test_a_key_or_a_shape_that_the_model_lacks_is_an_error():
    like = {"w": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"no tensor is called 'v', expected some of \['w'\]"):
        from_arrays({"v": np.zeros(3)}, like)
    with pytest.raises(ValueError, match=r"array 'w' has shape \(3,\), expected \(2, 3\)"):
        from_arrays({"w": np.zeros(3)}, like)


def test_the_module_does_not_import_torch():
    code = "import sys, flwr_krum.tensors; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
