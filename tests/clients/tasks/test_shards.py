import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import partition
from clients.tasks.shards import split

SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(1, 300), st.data(), SEEDS)
def test_every_row_is_in_exactly_one_shard_and_sizes_differ_by_at_most_one(rows, data, seed):
    shards = partition(rows, data.draw(st.integers(1, rows)), seed)
    assert sorted(np.concatenate(shards)) == list(range(rows))
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(20, 300), SEEDS)
def test_the_seed_determines_the_shards(rows, seed):
    first, again = partition(rows, 5, seed), partition(rows, 5, seed)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    other = partition(rows, 5, (seed + 1) % 2**32)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_shards_are_random_not_runs_of_neighbouring_rows():
    means = [shard.mean() for shard in partition(100_000, 10, 0)]
    # Each mean is 50,000 with a standard deviation of about 290.
    assert all(abs(mean - 50_000) < 4 * 290 for mean in means)


@pytest.mark.parametrize("partitions", [0, 6])
def test_a_client_without_a_row_is_refused(partitions):
    with pytest.raises(ValueError, match=f"got {partitions} partitions for 5 rows, expected 1 to"):
        partition(5, partitions, 0)


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
