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
