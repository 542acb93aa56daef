"""Medoid: the computable relative of the geometric median.

Source: Blanchard et al., NIPS 2017, supplement, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flwr_krum.kernel.arrays import Array, Float64
from flwr_krum.kernel.distances import UNIT, Distances
from flwr_krum.kernel.geometry import Geometry
from flwr_krum.rules.facts import ALL, Facts
from flwr_krum.rules.rule import Choice, Rule


def medoid_scores(squared: Array) -> Array:
    """Return ``s(i) = sum_j ||V_i - V_j||`` from rows (r, n) of squared distances."""
    scores: Array = np.sqrt(squared).sum(axis=1)
    return scores


def medoid_contrast(distances: Distances, pivot: int) -> tuple[Float64, Float64]:
    """Return ``s(i) - s(p)`` for every client i and a pivot p, with its error.

    One vector of 1e30 swamps all scores alike; their differences keep their digits as::

        ||V_i - V_k|| - ||V_p - V_k|| = (D_ik - D_pk) / (||V_i - V_k|| + ||V_p - V_k||)
        D_ik - D_pk = G_ii - G_pp - 2 (G_ik - G_pk)
    """
    g, squared, error = distances.gram, distances.squared, distances.error
    norms = np.sqrt(np.diagonal(g))
    lengths = np.sqrt(squared)
    both = lengths + lengths[pivot]
    change = (np.diagonal(g) - g[pivot, pivot])[:, None] - 2.0 * (g - g[pivot])
    reach = norms[:, None] ** 2 + norms[pivot] ** 2
    reach = reach + 2.0 * norms[None, :] * (norms[:, None] + norms[pivot])
    # |sqrt(a) - sqrt(b)| is at most sqrt(|a - b|), and at most |a - b| / sqrt(a).
    length_error = np.sqrt(error)
    np.divide(error, lengths, out=length_error, where=lengths > length_error)
    length_error += 4.0 * UNIT * lengths
    either_error = length_error + length_error[pivot]
    gram_error = 4.0 * distances.dot_error * reach / both
    gram_error += np.abs(change / both) * (either_error / both + 4.0 * UNIT)
    # Where the offsets are long beside the distance, the lengths themselves are the better way.
    plain = ~(gram_error < either_error)
    terms = np.where(plain, lengths - lengths[pivot], change / both)
    errors = np.where(plain, either_error, gram_error)
    slack = len(g) * UNIT * np.abs(terms).sum(axis=1)
    return terms.sum(axis=1), errors.sum(axis=1) + slack


@dataclass(frozen=True)
class Medoid(Rule):
    """Return the ``V_i`` that minimises ``sum_j ||V_i - V_j||`` (unsquared); needs no f.

    Ties go to the smallest index. Cost O(n^2 d).

    Examples
    --------
    >>> import numpy as np
    >>> Medoid()(np.array([[0.0], [3.0], [6.0], [10.0], [11.0]])).selected
    (2,)
    """

    requirement = "2f < n"
    weighs = "selected"
    is_ranking = True
    facts = Facts(
        source="as for the median; Blanchard et al. 2017, supplement, section 4, states none",
        breakdown="1/2",
        cost="O(n^2 d)",
        invariances=ALL,
    )

    def least(self, f: int) -> int:
        """Return ``2f + 1``: like the median, a medoid bears any minority of liars."""
        return 2 * f + 1

    def choose(self, geometry: Geometry, server_round: int) -> Choice:
        """Put all weight on the medoid."""
        return Choice.best(geometry.rank(medoid_scores, 1, medoid_contrast))
