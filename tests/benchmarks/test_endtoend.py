"""Whole strategies give the model that Flower's give, and are timed doing it."""

import pytest

from benchmarks.data import draw
from benchmarks.endtoend import aggregate_fit, aggregate_train
from benchmarks.measure import Patience
from benchmarks.peers import LEGACY, MESSAGE, NUMPY


@pytest.mark.parametrize(
    ("measure", "flower"), [(aggregate_fit, LEGACY), (aggregate_train, MESSAGE)]
)
def test_ours_and_flowers_strategy_make_the_same_model(measure, flower):
    results = measure(draw(9, 2000, layers=6, parameter=0.0), Patience(0.0, 3))
    names = [result.name for result in results]
    assert {flower, NUMPY} <= set(names)
    assert all(result.same for result in results)
    assert all(result.layers == 6 and len(result.cpu) == 3 for result in results)
    assert {result.task for result in results} == {measure.__name__}
