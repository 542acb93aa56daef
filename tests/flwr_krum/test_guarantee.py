from __future__ import annotations

import math

import numpy as np
import pytest

from flwr_krum.guarantee import Guarantee, estimate, judge
from flwr_krum.kernel.pairwise import squared_distances
from flwr_krum.resilience import eta, eta_squared
from flwr_krum.rules import ClientUpdates, Krum, Medoid, MultiKrum, OneMinusPKrum


def cloud(rng, m, d, sigma, g):
    return g * np.eye(1, d)[0] + sigma * rng.standard_normal((m, d))


def centred(V):
    return ClientUpdates.from_layers([[row] for row in V], [np.zeros(V.shape[1])])


def test_the_estimates_of_noise_and_gradient_are_unbiased():
    rng = np.random.default_rng(0)
    d, sigma, g, m = 40, 0.3, 1.5, 8
    found = [
        estimate(squared_distances(centred(cloud(rng, m, d, sigma, g))), range(m), 10, 2)
        for _ in range(4000)
    ]
    noise = np.array([guarantee.noise for guarantee in found]) ** 2
    signal = np.array([guarantee.signal for guarantee in found]) ** 2
    # Four standard errors: wrong once in 15,000 times.
    for values, truth in ((noise, d * sigma**2), (signal, g**2)):
        assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(len(values))


def test_over_the_best_scored_clients_the_noise_is_underestimated():
    rng = np.random.default_rng(1)
    n, f, d, sigma = 20, 6, 40, 0.3
    noise = []
    for _ in range(300):
        updates = centred(cloud(rng, n, d, sigma, 1.5))
        noise.append(judge(MultiKrum(f), MultiKrum(f)(updates), n, centred=True).noise)
    assert np.mean(noise) < math.sqrt(d) * sigma


def test_a_gradient_far_above_the_noise_holds_and_one_below_it_does_not():
    rng = np.random.default_rng(2)
    for sigma, verdict in ((1e-3, "holds"), (1.0, "does not hold")):
        updates = centred(cloud(rng, 20, 30, sigma, 1.0))
        assert judge(Krum(6), Krum(6)(updates), 20, centred=True).verdict == verdict


def test_at_the_bound_nothing_is_claimed_in_most_draws():
    rng = np.random.default_rng(3)
    n, f, d = 20, 6, 200
    sigma = 1.0 / (eta(n, f) * math.sqrt(d))  # sin(alpha) = 1
    verdicts = [
        estimate(squared_distances(centred(cloud(rng, 20, d, sigma, 1.0))), range(20), n, f).verdict
        for _ in range(200)
    ]
    assert verdicts.count("cannot be known") > 150


@pytest.mark.parametrize("scale", [2.0**-600, 1.0, 2.0**600])
def test_the_verdict_does_not_depend_on_the_unit(scale):
    rng = np.random.default_rng(4)
    V = cloud(rng, 20, 30, 1e-3, 1.0)
    guarantee = judge(Krum(6), Krum(6)(centred(V * scale)), 20, centred=True)
    plain = judge(Krum(6), Krum(6)(centred(V)), 20, centred=True)
    assert guarantee.verdict == plain.verdict == "holds"
    assert guarantee.sin_alpha == pytest.approx(plain.sin_alpha, rel=1e-9)
    assert guarantee.signal == pytest.approx(plain.signal * scale, rel=1e-9)


def test_what_is_not_krum_or_not_centred_or_too_little_cannot_be_known():
    V = centred(cloud(np.random.default_rng(5), 20, 30, 1e-3, 1.0))
    cases = [
        (judge(Medoid(), Medoid()(V), 20, centred=True), "Proposition 1 is about Krum"),
        (judge(Krum(6), Krum(6)(V), 20, centred=False), "the global model is not known"),
        (estimate(squared_distances(V), [0, 1], 20, 6), "2 vectors, at least 3"),
        (estimate(squared_distances(V), range(20), 20, 9), r"n=20, f=9"),
    ]
    for guarantee, reason in cases:
        assert guarantee.verdict == "cannot be known"
        assert reason in guarantee.reason


def test_a_round_that_averages_does_not_hold():
    V = centred(cloud(np.random.default_rng(6), 20, 30, 1e-3, 1.0))
    rule = OneMinusPKrum(6, p=1.0)
    guarantee = judge(rule, rule(V), 20, centred=True)
    assert guarantee.verdict == "does not hold"
    assert "Lemma 1" in guarantee.reason


def test_the_advised_batch_size_and_number_of_clients_would_do():
    n, f, needed = 20, 6, 7.3
    guarantee = Guarantee("does not hold", n, f, eta(n, f), 1.0, 0.5, 2.0, needed)
    assert "mini-batches 8 times as large (3 -> 24), or 8 times the local steps" in (
        guarantee.advice(3)
    )
    # The best n for f = 6 lowers eta^2 by far less than 7.3 times.
    least = min(eta_squared(k, f) for k in range(15, 500))
    assert eta_squared(n, f) / least < needed
    assert "no number of clients would do" in guarantee.advice()


def test_where_more_clients_help_the_smallest_such_number_is_advised():
    n, f = 15, 6
    enough = next(k for k in range(15, 500) if eta_squared(k, f) < eta_squared(n, f) / 2)
    guarantee = Guarantee("does not hold", n, f, eta(n, f), 1.0, 0.5, 2.0, 2.0)
    assert f"or {enough} clients" in guarantee.advice()


def test_a_gradient_that_drowns_and_a_guarantee_that_holds_need_no_numbers():
    drowned = Guarantee("does not hold", 20, 6, 14.4, 1.0, 0.0, None, math.inf)
    assert drowned.advice() == "no gradient shows through the noise: larger mini-batches first"
    assert Guarantee("holds", 20, 6, 14.4, 0.01, 1.0, 0.144, 0.02).advice() == ""
