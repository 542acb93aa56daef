import json
import math
from fractions import Fraction

import numpy as np
import pytest

from flwr_krum.guarantee import Guarantee, estimate, judge
from flwr_krum.kernel.pairwise import squared_distances
from flwr_krum.log import conclusion
from flwr_krum.report import RoundReport
from flwr_krum.resilience import (
    angle,
    eta,
    eta_squared,
    max_byzantine,
    required_clients,
    sin_alpha,
)
from flwr_krum.rules import Average, ClientUpdates, Krum, Medoid, MultiKrum, OneMinusPKrum


@pytest.mark.parametrize(
    ("n", "f", "squared"),
    [
        # By hand: 2 (n - f + (f (n - f - 2) + f^2 (n - f - 1)) / (n - 2f - 2)).
        (3, 0, Fraction(6)),  # 2 (3 + 0)
        (10, 0, Fraction(20)),
        (5, 1, Fraction(18)),  # 2 (4 + (1*2 + 1*3) / 1)
        (6, 1, Fraction(17)),  # 2 (5 + (1*3 + 1*4) / 2)
        (7, 2, Fraction(54)),  # 2 (5 + (2*3 + 4*4) / 1)
        (15, 5, Fraction(590, 3)),
        (20, 6, Fraction(208)),
        (40, 18, Fraction(7208)),
    ],
)
def test_eta_is_the_closed_form_of_proposition_1(n, f, squared):
    assert eta_squared(n, f) == squared
    assert eta(n, f) == pytest.approx(math.sqrt(squared), rel=1e-15)


@pytest.mark.parametrize(
    ("n", "f", "rounded"), [(15, 5, 14.0), (20, 6, 14.4), (20, 7, 18.9), (40, 18, 84.9)]
)
def test_eta_has_the_values_that_the_experiments_quote(n, f, rounded):
    assert round(eta(n, f), 1) == rounded


def test_eta_grows_as_n_where_f_does_and_as_its_root_where_f_is_fixed():
    shares = [eta(n, n // 4) / n for n in (100, 1_000, 10_000, 100_000)]
    fixed = [eta(n, 2) / math.sqrt(n) for n in (100, 1_000, 10_000, 100_000)]
    # f = n/4: eta^2 -> 2 (n/4)^2 (3n/4) / (n/2) = 3/16 n^2; f fixed: eta^2 -> 2 n.
    assert shares[-1] == pytest.approx(math.sqrt(3 / 16), rel=1e-3)
    assert fixed[-1] == pytest.approx(math.sqrt(2), rel=1e-3)
    assert np.ptp(shares[1:]) < 0.01
    assert np.ptp(fixed[1:]) < 0.02


@pytest.mark.parametrize(
    ("n", "f", "message"),
    [
        (20, 9, "n=20, f=9; legal: f <= 8"),
        (2, 0, "n=2, f=0"),
        (20, -1, "f must be a whole number >= 0, got -1"),
        (20.0, 1, "n must be a whole number >= 1, got 20.0"),
        (20, True, "f must be a whole number >= 0, got True"),
    ],
)
def test_an_illegal_n_or_f_is_named(n, f, message):
    with pytest.raises(ValueError, match=message):
        eta(n, f)


def test_sin_alpha_is_eta_times_noise_over_gradient():
    sine = sin_alpha(20, 6, d=50, sigma=0.01, grad_norm=2.0)
    assert sine == pytest.approx(math.sqrt(208) * math.sqrt(50) * 0.01 / 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 0}, "d must be a whole number >= 1"),
        ({"sigma": -1.0}, "sigma must be a finite number >= 0"),
        ({"sigma": math.nan}, "sigma must be a finite number >= 0"),
        ({"grad_norm": 0.0}, "grad_norm must be a finite number > 0"),
    ],
)
def test_an_illegal_argument_of_sin_alpha_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        sin_alpha(20, 6, **{"d": 5, "sigma": 1.0, "grad_norm": 1.0, **change})


def test_the_angle_exists_below_one_only():
    assert angle(0.5) == pytest.approx(30.0)
    assert angle(0.0) == 0.0
    assert angle(1.0) is None
    with pytest.raises(ValueError, match="got nan"):
        angle(math.nan)


def test_required_clients_and_max_byzantine_are_each_others_inverse():
    for f in range(50):
        n = required_clients(f)
        assert max_byzantine(n) == f
        assert max_byzantine(n + 1) == f
        Krum(f).check(n)
        with pytest.raises(ValueError, match="needs"):
            Krum(f).check(n - 1)


def test_max_byzantine_depends_on_the_rule():
    assert max_byzantine(20, MultiKrum(0)) == 8
    assert max_byzantine(20, Average()) == 0
    assert max_byzantine(20, Medoid()) == 9
    with pytest.raises(ValueError, match="got n=2"):
        max_byzantine(2)


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


@pytest.mark.parametrize(
    "guarantee",
    [
        Guarantee("holds", 20, 6, 14.4, 0.01, 1.0, 0.144, 0.02),
        Guarantee("does not hold", 20, 6, 14.4, 1.0, 0.0, None, math.inf),
        Guarantee("cannot be known", 20, 9, reason="illegal"),
    ],
)
def test_a_guarantee_survives_the_journal(guarantee):
    report = RoundReport(1, "Krum(f=6)", 6, guarantee=guarantee, stepped=True)
    line = json.dumps(report.to_json(), allow_nan=False)
    assert RoundReport.from_json(json.loads(line)) == report


def test_the_conclusion_counts_verdicts_and_gives_the_median_rounds_advice():
    def report(t, needed):
        bad = Guarantee("does not hold", 20, 6, 14.4, 1.0, 0.5, 2.0, needed)
        return RoundReport(t, "Krum(f=6)", 6, guarantee=bad, stepped=True)

    lines = conclusion([report(1, 4.0), report(2, 9.0), report(3, 100.0)], batch_size=3)
    assert lines[0] == "3 of 3 rounds moved the model"
    assert lines[1] == "guarantee: does not hold in 3"
    assert "mini-batches 9 times as large (3 -> 27)" in lines[3]


@pytest.mark.parametrize(
    ("guarantee", "number"),
    [("cannot be known", -1.0), ("does not hold", 0.0), ("holds", 1.0)],
)
def test_metrics_carry_the_verdict_as_a_number(guarantee, number):
    report = RoundReport(1, "", 1, guarantee=Guarantee(guarantee, 5, 1, sin_alpha=0.3))
    assert report.guarantee_metrics() == {"guarantee": number, "sin-alpha": 0.3}
