from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from flwr_krum.kernel.distances import Distances
from flwr_krum.rules import Medoid
from flwr_krum.rules.medoid import medoid_contrast
from tests.flwr_krum.hard_inputs import DRAW_KINDS, share_of, updates_of
from tests.flwr_krum.references import (
    CONFORMANCE,
    best,
    exact_distances,
    exact_medoid_scores,
)


def test_the_medoid_minimises_unsquared_distances():
    # Sums of distances 30, 21, 18, 22, 25; sums of squares would pick 6 as well, so:
    result = Medoid()(np.array(CONFORMANCE)[:, np.newaxis])
    assert result.scores.tolist() == [30, 21, 18, 22, 25]
    assert result.selected == (2,)
    # here squares would pick the 4 (sum 122 against 152 for the 1).
    result = Medoid()(np.array([[0.0], [1.0], [1.5], [4.0], [13.0]]))
    assert result.selected == (2,)
    squared = [sum((a - b) ** 2 for b in (0, 1, 1.5, 4, 13)) for a in (0, 1, 1.5, 4, 13)]
    assert int(np.argmin(squared)) == 3


@pytest.mark.usefixtures("exact_once")
@pytest.mark.parametrize("kind", DRAW_KINDS)
def test_a_thousand_random_inputs_agree_with_a_brute_force_loop(kind, device):
    for draw in share_of(device, kind):
        scores = draw.rounded_medoid_scores
        result = Medoid()(updates_of(draw.V, device))
        assert result.selected == best(scores, 1)
        np.testing.assert_array_equal(result.vector, draw.V[result.selected[0]])
        np.testing.assert_allclose(result.scores, scores, rtol=1e-8)


@pytest.mark.usefixtures("exact_once")
def test_where_rounding_decides_the_choice_is_the_one_of_exact_arithmetic(hard_draws, device):
    for draw in hard_draws:
        assert Medoid()(updates_of(draw.V, device)).selected == best(draw.medoid_scores, 1)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_any_number_of_clients_is_enough(n):
    V = np.arange(n, dtype=float).reshape(-1, 1)
    assert Medoid()(V).selected == ({1: 0, 2: 0, 3: 1}[n],)


def test_a_client_that_is_not_finite_is_never_chosen():
    for value in (np.nan, np.inf):
        for at in range(4):
            V = np.arange(4.0).reshape(-1, 1)
            V[at] = value
            assert Medoid()(V).selected != (at,)
        with pytest.raises(ValueError, match="only 0 of 2 updates are finite"):
            Medoid()(np.array([[value], [np.nan]]))


@pytest.mark.parametrize("huge", [1e155, 1e300])
def test_a_vector_whose_square_overflows_is_never_the_medoid(huge):
    V = np.array([[huge], [0.0], [0.1], [0.2], [0.3], [0.4], [0.5]])
    assert Medoid()(V).selected[0] != 0
    # exact: sums of distances are smallest in the middle, all plus the same huge - v
    assert Medoid()(V).selected == (4,)


@pytest.mark.parametrize("huge", [1e16, 1e30, 1e100])
def test_the_medoid_beside_a_huge_hostile_vector_is_exact(huge):
    rng = np.random.default_rng(2)
    for _ in range(10):
        V = 1e-3 * rng.standard_normal((9, 3))
        V[0] = huge * rng.standard_normal(3)
        scores = exact_medoid_scores(exact_distances(V))
        assert Medoid()(V).selected == best(scores, 1)


def test_the_medoid_among_vectors_whose_squares_underflow_is_exact():
    V = np.array(
        [
            [9.241120367011457e-181], [-0.0003592629380835823], [0.5705157312751826],
            [1.6115890898926154e-180], [2.833969406582865e-180], [-9.232646653032858e-201],
            [1.0650737311362373], [0.5177406291981792],
        ]
    )  # fmt: skip
    # Of eight numbers both middle ones, 3 and 4, have the smallest sum: the first wins.
    assert Medoid()(V).selected == (3,)


def test_the_scores_beside_a_giant_are_numbers():
    V = np.arange(7.0)[:, None]
    V[0] = 1e200
    assert np.isfinite(Medoid()(V).scores).all()


# --- differences of scores, and how wrong they may be ---


def on_a_lattice(rng, n=7, d=4):
    """Return points, the last of them far away, whose squares and products are no fractions."""
    V = rng.integers(-40, 41, (n, d)).astype(np.float64)
    V[-1] = rng.integers(-1000, 1001, d)
    return V


def distances_of(V, **wrong):
    squared = ((V[:, None, :] - V[None, :, :]) ** 2).sum(axis=2)
    known = {"error": np.zeros_like(squared), "gram": V @ V.T, "dot_error": 0.0, **wrong}
    return Distances(squared, finite=np.ones(len(V), bool), **known)


def are_enclosed(distances, pivot):
    """Say whether each difference of sums of lengths is within its error, against 60 digits."""
    with np.errstate(all="ignore"):
        gaps, errors = medoid_contrast(distances, pivot)
    with localcontext() as context:
        context.prec = 60
        sums = [sum(Decimal(int(x)).sqrt() for x in row) for row in distances.squared]
        return all(
            abs(Decimal(gap) - (own - sums[pivot])) <= Decimal(error)
            for gap, error, own in zip(gaps.tolist(), errors.tolist(), sums, strict=True)
        )


def test_a_difference_of_scores_is_within_its_error_where_only_roots_are_rounded():
    rng = np.random.default_rng(0)
    for _ in range(50):
        distances = distances_of(on_a_lattice(rng))
        assert all(are_enclosed(distances, pivot) for pivot in range(7))


def test_a_difference_of_scores_is_within_its_error_where_products_are_as_wrong_as_they_may_be():
    rng, most, far = np.random.default_rng(1), 1e-8, np.arange(2, 60)
    for _ in range(50):
        V = rng.integers(-40, 41, (60, 4)).astype(np.float64)
        V[far] += rng.choice((-1e5, 1e5), (far.size, 4))
        lengths, signs = np.sqrt((V**2).sum(axis=1)), np.zeros((60, 60))
        # The far ones pull the first two apart, each by as much as an inner product may be wrong.
        signs[0, far] = signs[far, 0] = -1.0
        signs[1, far] = signs[far, 1] = 1.0
        gram = V @ V.T + most * signs * np.outer(lengths, lengths)
        error = np.where(signs, 1.0, 0.0)
        distances = distances_of(V, gram=gram, dot_error=most, error=error)
        assert are_enclosed(distances, 0)
        assert are_enclosed(distances, 1)
