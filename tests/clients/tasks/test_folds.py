import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.tasks.folds import split

SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(5, 300), SEEDS)
def test_a_split_takes_every_row_once_and_four_fifths_for_training(rows, seed):
    train, test = split(rows, seed)
    assert sorted([*train, *test]) == list(range(rows))
    assert len(train) == rows * 4 // 5


@given(st.integers(7, 300), st.integers(2, 7), SEEDS)
def test_every_row_is_the_test_of_exactly_one_fold_and_trains_in_the_others(rows, folds, seed):
    divisions = [split(rows, seed, folds, fold) for fold in range(folds)]
    assert sorted(np.concatenate([test for _, test in divisions])) == list(range(rows))
    sizes = [len(test) for _, test in divisions]
    assert max(sizes) - min(sizes) <= 1
    for train, test in divisions:
        assert sorted([*train, *test]) == list(range(rows))


def test_a_fold_without_a_row_is_refused():
    with pytest.raises(ValueError, match="got 6 folds for 5 rows, expected at most 5"):
        split(5, 0, 6, 5)
