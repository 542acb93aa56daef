from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.rules import Average


def test_the_average_is_the_unweighted_mean():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        V = rng.standard_normal((n, 4)) * 1e3
        result = Average()(V)
        for value, column in zip(result.vector, V.T, strict=True):
            mean = sum(map(Fraction, column.tolist())) / n
            assert abs(Fraction(float(value)) - mean) <= Fraction(2.0**-48) * max(map(abs, column))
        assert result.selected == tuple(range(n))
        np.testing.assert_array_equal(result.weights, np.full(n, 1 / n))
        assert result.scores is None


@pytest.mark.parametrize("V", [np.zeros(5), np.zeros((0, 3)), np.zeros((5, 2, 2))])
def test_what_is_not_an_n_by_d_array_is_named_by_its_shape(V):
    with pytest.raises(ValueError, match=r"expected an \(n, d\) array") as error:
        Average()(V)
    assert str(V.shape) in str(error.value)
    assert ("reshape(-1, 1)" in str(error.value)) == (V.ndim == 1)


@pytest.mark.parametrize("dtype", [complex, "U1", object, np.longdouble])
def test_what_is_not_a_plain_number_is_named_by_its_dtype(dtype):
    with pytest.raises(TypeError, match="expected float16, float32, float64, an integer or bool"):
        Average()(np.zeros((3, 2)).astype(dtype))
