"""Every split beside its definition, written as a plain loop."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.streams import Purpose, stream
from clients.tasks.splits import (
    SPLITS,
    Classes,
    ClientDirichlet,
    Dirichlet,
    Extreme,
    GammaSimilarity,
    Iid,
    QuantitySkew,
    Shards,
)

WITHOUT_LEAST = {"dirichlet": Dirichlet(alpha=0.3, least=0), "quantity-skew": QuantitySkew(0.3, 0)}
EVERY = {name: WITHOUT_LEAST.get(name, kind()) for name, kind in SPLITS.items()}
EACH = pytest.mark.parametrize("split", EVERY.values(), ids=EVERY)


def rng(seed=0):
    return np.random.default_rng(seed)


def labels_of(rows=60_000, classes=10):
    return np.arange(rows) % classes


def sets(shards):
    return [set(rows.tolist()) for rows in shards]


@EACH
@settings(max_examples=25, deadline=None)
@given(st.integers(20, 200), st.integers(1, 10), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_no_row_is_dealt_twice_and_none_is_lost_but_where_it_is_said(split, rows, n, classes, seed):
    labels = rng(seed).permutation(labels_of(rows, classes))
    shards = split(labels, n, rng(seed))
    dealt = sorted(row for own in shards for row in own.tolist())
    assert len(shards) == n
    lost = rows % (2 * n) if isinstance(split, Shards) else 0
    if isinstance(split, Classes):
        lost = sum(labels >= 2 * n)
    assert len(dealt) == len(set(dealt)) == rows - lost
    assert set(dealt) <= set(range(rows))


@EACH
def test_the_generator_decides_and_the_global_one_is_left_alone(split):
    labels = rng(1).integers(5, size=300)
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    first, again = split(labels, 7, rng(5)), split(labels, 7, rng(5))
    assert np.random.random() == expected  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    if not isinstance(split, Extreme):
        assert sets(split(labels, 7, rng(6))) != sets(first)


@EACH
@pytest.mark.parametrize("n", [0, 6])
def test_fewer_rows_than_clients_are_refused(split, n):
    with pytest.raises(ValueError, match=f"n is {n}, expected 1 to 5: the examples there are"):
        split(np.zeros(5, int), n, rng())


def test_iid_is_a_permutation_cut_into_blocks():
    found = Iid()(labels_of(50), 7, stream(4, Purpose.PARTITION))
    permutation = rng([4, 2]).permutation(50)
    sizes = [8, 7, 7, 7, 7, 7, 7]
    for rows, end, size in zip(found, np.cumsum(sizes), sizes, strict=True):
        assert rows.tolist() == permutation[end - size : end].tolist()


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (
            1.0,
            [
                [0, 2],
                [3, 6, 1, 4, 7, 5, 8],
                [9, 12, 11],
                [15, 18, 10, 13, 16, 19, 14, 17],
            ],
        ),
        (
            0.1,
            [[1, 4, 7, 10, 13, 16, 2, 5, 8, 11, 14], [0, 3, 6, 9, 12, 15], [18], [19, 17]],
        ),
    ],
)
def test_dirichlet_makes_the_sets_that_flwr_datasets_made_with_seed_7(alpha, expected):
    found = Dirichlet(alpha, least=0)(labels_of(20, 3), 4, rng(7))
    assert sets(found) == [set(rows) for rows in expected]


def dirichlet_by_a_loop(labels, n, alpha, least, balanced, seed):
    """What flwr-datasets' partitioner does, example by example."""
    draw = rng(seed)
    for _ in range(11):
        own = [[] for _ in range(n)]
        for c in sorted(set(labels.tolist())):
            rows = [row for row, label in enumerate(labels) if label == c]
            shares = draw.dirichlet([alpha] * n).tolist()
            if balanced:
                shares = [0.0 if len(own[j]) > len(labels) / n else p for j, p in enumerate(shares)]
                total = sum(shares)
                shares = [p / total for p in shares]
            ends = [int(end * len(rows)) for end in np.cumsum(shares)[:-1]]
            for j, (first, last) in enumerate(zip([0, *ends], [*ends, len(rows)], strict=True)):
                own[j] += rows[first:last]
        if min(map(len, own)) >= least:
            return own
    return None


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("least", [0, 3, 10])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_dirichlet_is_a_loop_over_classes_with_redraws(alpha, least, balanced):
    labels = rng(2).integers(3, 9, size=400)
    for seed in range(6):
        expected = dirichlet_by_a_loop(labels, 6, alpha, least, balanced, seed)
        assert expected is not None
        found = Dirichlet(alpha, least, balanced)(labels, 6, rng(seed))
        assert [rows.tolist() for rows in found] == expected


def test_dirichlet_gives_up_after_eleven_draws_and_says_what_would_be_legal():
    with pytest.raises(
        ValueError, match=r"of 11 draws with alpha=0.1 for n = 100 clients and N ="
    ) as e:
        Dirichlet(0.1, least=10)(labels_of(2000), 100, rng())
    assert "none gives every client least=10: the smallest client had at most 0" in str(e.value)
    assert "take least <= 0, a larger alpha, fewer clients, or balanced=true" in str(e.value)
    with pytest.raises(ValueError, match=r"least is 21 .* N = 2000 .* an integer from 0 to 20"):
        Dirichlet(0.1, least=21)(labels_of(2000), 100, rng())


def test_dirichlet_stays_a_partition_where_the_open_clients_have_no_share():
    # So small an alpha gives a class to one client; the next one may find it closed.
    for seed in range(20):
        shards = Dirichlet(1e-3, least=0, balanced=True)(labels_of(200, 5), 4, rng(seed))
        assert sorted(np.concatenate(shards)) == list(range(200))


@pytest.mark.parametrize(
    ("alpha", "n", "smallest"),
    [
        (0.1, 11, 69),
        (0.1, 20, 4),
        (1.0, 11, 2159),
        (1.0, 20, 1088),
        (1.0, 1000, 8),  # seed 6's; 17 in the first, and 11 or more with least=10
        (10, 20, 2094),
    ],
)
def test_dirichlet_has_the_smallest_clients_of_the_table_of_options(alpha, n, smallest):
    labels = labels_of()
    sizes = [
        sorted(map(len, Dirichlet(alpha, least=0)(labels, n, rng(seed)))) for seed in range(20)
    ]
    assert min(size[0] for size in sizes) == smallest
    if (alpha, n) == (0.1, 20):
        assert sum(size[0] < 10 for size in sizes) == 1


@pytest.mark.timed
def test_dirichlet_shares_out_60000_labels_to_1000_clients_in_a_tenth_of_a_second():
    labels = rng().integers(10, size=60_000)
    seconds = []
    for seed in range(5):
        begin = time.perf_counter()
        shards = Dirichlet(0.1, least=0)(labels, 1000, rng(seed))
        seconds.append(time.perf_counter() - begin)
    assert sum(map(len, shards)) == 60_000
    assert min(seconds) < 0.1
    assert any(len(rows) == 0 for rows in shards)  # as the table of options has it


def test_client_dirichlet_fills_each_client_evenly_and_has_the_classes_that_its_odds_name():
    labels = rng(3).integers(10, size=6000)
    shards = ClientDirichlet(0.05)(labels, 11, rng())
    assert [len(rows) for rows in shards] == [546] * 5 + [545] * 6
    assert min(len(set(labels[rows])) for rows in shards[:5]) <= 3
    mixed = ClientDirichlet(1e4)(labels, 11, rng())
    for rows in mixed[:5]:
        counts = np.bincount(labels[rows], minlength=10)
        assert abs(counts - 54.6).max() < 5 * math.sqrt(54.6)


def test_client_dirichlet_draws_as_one_by_one():
    # Two classes of 3 and 9 rows, one client of 6 with odds p to 1 - p: the law of what it takes.
    labels = np.repeat([0, 1], [3, 9])
    split = ClientDirichlet(1.0)
    mixture = np.array([0.5, 0.5])
    draw, counts, trials = rng(8), np.zeros(4), 1000
    for _ in range(trials):
        taken = split._taken(mixture, np.bincount(labels), 6, draw)
        assert taken.sum() == 6
        counts[taken[0]] += 1
    odds = [math.comb(6, k) / 64 for k in range(3)]
    expected = np.array([*odds, 1 - sum(odds)]) * trials
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("gamma", [0.0, 0.29, 0.33, 1.0])
def test_gamma_similarity_joins_a_random_block_and_a_sorted_one(gamma):
    labels = rng(4).integers(5, size=103)
    order = rng(9).permutation(103).tolist()
    mixed = math.floor(gamma * 103)
    rest = sorted(order[mixed:], key=lambda row: (labels[row], row))
    expected = []
    for i in range(8):
        own = []
        for part in (order[:mixed], rest):
            sizes = [len(part) // 8 + (j < len(part) % 8) for j in range(8)]
            own += part[sum(sizes[:i]) : sum(sizes[: i + 1])]
        expected.append(own)
    found = GammaSimilarity(gamma)(labels, 8, rng(9))
    assert [rows.tolist() for rows in found] == expected


def test_gamma_0_is_the_extreme_and_gamma_1_deals_equal_sizes():
    labels = rng(4).integers(5, size=120)
    extreme = Extreme()(labels, 8, rng())
    assert sets(GammaSimilarity(0.0)(labels, 8, rng(1))) == sets(extreme)
    assert [len(rows) for rows in GammaSimilarity(1.0)(labels, 8, rng())] == [15] * 8
    assert labels[np.concatenate(extreme)].tolist() == sorted(labels.tolist())


@pytest.mark.parametrize(
    ("gamma", "kinds", "low", "high"), [(0.0, {1, 2, 3}, 4700, 4800), (0.33, {10}, 3250, 3400)]
)
def test_gamma_similarity_is_as_pure_as_in_byzfls_setting(gamma, kinds, low, high):
    chosen = labels_of()[rng().permutation(60_000)[:48_000]]
    shards = GammaSimilarity(gamma)(chosen, 10, rng())
    counts = [np.bincount(chosen[rows], minlength=10) for rows in shards]
    assert {int((own > 0).sum()) for own in counts} <= kinds
    assert all(low <= own.max() <= high for own in counts)


def test_shards_are_pieces_of_the_sorted_rows_two_to_each_client():
    labels = rng(5).integers(10, size=1003)
    order = sorted(range(1003), key=lambda row: (labels[row], row))
    pieces = [order[i * 50 : (i + 1) * 50] for i in range(20)]
    deal = rng(6).permutation(20).tolist()
    expected = [pieces[deal[2 * i]] + pieces[deal[2 * i + 1]] for i in range(10)]
    found = Shards()(labels, 10, rng(6))
    assert [rows.tolist() for rows in found] == expected
    balanced = Shards()(labels_of(1000), 10, rng())
    assert max(len(set((rows % 10).tolist())) for rows in balanced) <= 2
    with pytest.raises(ValueError, match="each is 6 for n = 10 clients, expected at most 5"):
        Shards(6)(np.zeros(50, int), 10, rng())


def test_quantity_skew_cuts_a_permutation_at_sizes_that_are_drawn():
    draw = rng(7)
    shares = draw.dirichlet([0.5] * 4)
    ends = [0, *(int(s * 92) + 2 * (i + 1) for i, s in enumerate(np.cumsum(shares)[:3])), 100]
    permutation = draw.permutation(100).tolist()
    expected = [permutation[a:b] for a, b in pairwise(ends)]
    found = QuantitySkew(0.5, least=2)(labels_of(100), 4, rng(7))
    assert [rows.tolist() for rows in found] == expected
    assert min(map(len, found)) >= 2


@pytest.mark.parametrize("dealt", ["turn", "random"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_client_has_exactly_its_number_of_classes_in_even_parts(dealt, k):
    labels = labels_of(2000)
    shards = Classes(k, dealt)(labels, 10, rng(3))
    held = [set((rows % 10).tolist()) for rows in shards]
    assert [len(own) for own in held] == [k] * 10
    if dealt == "turn":
        assert held == [{(i * k + j) % 10 for j in range(k)} for i in range(10)]
    for c in range(10):
        parts = [int((rows % 10 == c).sum()) for rows in shards if (rows % 10 == c).any()]
        assert sum(parts) == 200 * bool(parts)
        assert not parts or max(parts) - min(parts) <= 1
    with pytest.raises(ValueError, match="k is 11, expected an integer from 1 to 10: the classes"):
        Classes(11)(labels, 10, rng())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dirichlet(0), "alpha is 0, expected a finite number > 0"),
        (lambda: Dirichlet(True), "alpha is True, expected a finite number > 0"),
        (lambda: ClientDirichlet(math.inf), "alpha is inf, expected a finite number > 0"),
        (lambda: QuantitySkew("big"), "alpha is 'big', expected a finite number > 0"),
        (lambda: Dirichlet(least=-1), "least is -1, expected an integer >= 0"),
        (lambda: QuantitySkew(least=1.5), "least is 1.5, expected an integer >= 0"),
        (lambda: GammaSimilarity(1.1), "gamma is 1.1, expected a number from 0 to 1"),
        (lambda: Shards(0), "each is 0, expected an integer >= 1"),
        (lambda: Classes(0), "k is 0, expected an integer >= 1"),
        (lambda: Classes(2, "fair"), "dealt is 'fair', expected 'turn' or 'random'"),
    ],
)
def test_an_illegal_argument_is_named_with_its_legal_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
