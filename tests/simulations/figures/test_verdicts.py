import math

import numpy as np
import pytest
from scipy.stats import binom, bootstrap

from simulations.figures.statements import Check, Quantity, Statement
from simulations.figures.verdicts import verdicts_of
from simulations.run.intervals import (
    MOST_SEEDS,
    Outcome,
    seeds_to_tell,
    share_interval,
    t_interval,
)

WINDOW = (51, 100)


def check(at_least=-math.inf, at_most=math.inf, of="a", against="b", level=None, **kw):
    window = None if level else WINDOW
    other = against and Quantity(against, window=window, level=level)
    return Check("a check", Quantity(of, window=window, level=level), other, **kw,
                 at_least=at_least, at_most=at_most)  # fmt: skip


def verdict_of(rows, *checks):
    (verdict,) = verdicts_of([Statement("c", "says", checks)], rows)
    return verdict


def finding_of(rows, one):
    (finding,) = verdict_of(rows, one).findings
    return finding


def noise(curve, seed, size=0.01):
    return size * np.random.default_rng([ord(curve), seed]).standard_normal()


@pytest.fixture
def two(rows):
    """Curves a and b with a true difference of ``gap``, and noise per seed."""

    def make(gap, seeds=5, size=0.01):
        return rows("a", lambda s, t: 0.8 + gap + noise("a", s, size), seeds) + rows(
            "b", lambda s, t: 0.8 + noise("b", s, size), seeds
        )

    return make


def test_a_claim_that_is_true_holds_and_one_that_is_false_does_not(two):
    assert verdict_of(two(0.2), check(at_least=0.05)).outcome == Outcome.HOLDS
    assert verdict_of(two(-0.2), check(at_least=0.05)).outcome == Outcome.FAILS
    assert verdict_of(two(0.2), check(at_most=0.05)).outcome == Outcome.FAILS
    assert verdict_of(two(0.2), check(at_least=-0.05, at_most=0.05)).outcome == Outcome.FAILS


def test_what_the_noise_hides_cannot_be_told(two):
    assert verdict_of(two(0.05, size=0.2), check(at_least=0.05)).outcome == Outcome.UNKNOWN


def test_the_interval_is_students(rows):
    values = [0.1, 0.4, 0.2]
    finding = finding_of(rows("a", lambda s, t: values[s], 3), check(at_most=1.0, against=None))
    # t quantile of two degrees of freedom, from a table.
    reach = 4.30265 * np.std(values, ddof=1) / math.sqrt(3)
    mean = np.mean(values)
    assert finding.seeds == 3
    assert finding.interval.mean == pytest.approx(mean)
    assert finding.interval.low == pytest.approx(mean - reach, rel=1e-5)
    assert finding.interval.high == pytest.approx(mean + reach, rel=1e-5)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        interval = t_interval(list(3.0 + rng.standard_normal(4)))
        covered += interval.low <= 3.0 <= interval.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


def test_with_many_seeds_the_interval_is_that_of_a_bootstrap():
    values = np.random.default_rng(1).exponential(size=400)
    interval = t_interval(list(values))
    other = bootstrap((values,), np.mean, random_state=0).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((other.low, other.high), abs=0.02)


def test_curves_are_compared_seed_by_seed(rows):
    # Seeds differ by far more than the curves do, but both curves feel a seed alike.
    both = rows("a", lambda s, t: 0.1 * s + 0.02) + rows("b", lambda s, t: 0.1 * s)
    assert verdict_of(both, check(at_least=0.01)).outcome == Outcome.HOLDS
    crossed = rows("a", lambda s, t: 0.1 * s + 0.02) + rows("b", lambda s, t: 0.4 - 0.1 * s)
    assert verdict_of(crossed, check(at_least=0.01)).outcome == Outcome.UNKNOWN


def test_only_seeds_that_both_curves_have_are_compared(rows):
    finding = finding_of(
        rows("a", lambda s, t: 0.9, seeds=5) + rows("b", lambda s, t: 0.5, seeds=3), check(0.1)
    )
    assert (finding.seeds, finding.outcome) == (3, Outcome.HOLDS)


def test_only_the_rounds_of_the_window_count(rows):
    late = rows("a", lambda s, t: 0.9 if t >= 60 else 0.0)
    assert finding_of(late, check(0.0, against=None)).interval.mean == pytest.approx(0.9)


def test_folds_of_a_seed_are_one_number(rows):
    folds = [
        row
        for fold, shift in ((0, -0.3), (1, 0.3))
        for row in rows("a", lambda s, t, shift=shift: 0.5 + 0.01 * s + shift, 3, fold=fold)
    ]
    finding = finding_of(folds, check(0.4, against=None))
    assert finding.seeds == 3
    assert finding.interval.mean == pytest.approx(0.51)
    assert finding.outcome == Outcome.HOLDS


def test_one_seed_tells_nothing(two):
    finding = finding_of(two(0.5, seeds=1), check(at_least=0.1))
    assert (finding.interval, finding.outcome) == (None, Outcome.UNKNOWN)


def test_rounds_that_were_not_run_are_named(rows):
    finding = finding_of(rows("a", lambda s, t: 0.9, rounds=60), check(0.1, against=None))
    assert finding.outcome == Outcome.UNKNOWN
    assert finding.note == "needs rounds 51 to 100, 60 were run"


def test_a_curve_that_was_not_run_cannot_be_told(rows):
    finding = finding_of(rows("a", lambda s, t: 0.9), check(0.1))
    assert (finding.outcome, finding.note) == (Outcome.UNKNOWN, "'b' was not run")


def rises(slope):
    return lambda s, t: min(0.9, slope * (t + s % 2))


def test_the_round_that_reaches_an_accuracy_is_the_first_evaluated_one(rows):
    finding = finding_of(rows("a", rises(0.01)), check(at_most=90, against=None, level=0.65))
    assert finding.interval.mean == pytest.approx(70)
    assert finding.outcome == Outcome.HOLDS


def test_a_ratio_is_a_geometric_mean(rows):
    slow = rows("a", lambda s, t: t >= (20 if s == 0 else 80), 2)
    fast = rows("b", lambda s, t: t >= 20, 2)
    finding = finding_of(slow + fast, check(at_most=5.0, level=0.5, ratio=True))
    assert finding.interval.mean == pytest.approx(2.0)
    assert finding.interval.low > 0
    fast = rows("b", lambda s, t: 0.2, 2)
    finding = finding_of(slow + fast, check(at_most=5.0, level=0.5, ratio=True))
    assert finding.interval.low == 0.0


def test_the_initial_model_reaches_nothing(rows):
    finding = finding_of(rows("a", lambda s, t: 0.9), check(at_most=90, against=None, level=0.65))
    assert finding.interval.mean == 10


def test_who_never_arrives_is_later_by_at_least_what_was_seen(rows):
    never, soon = rows("a", lambda s, t: 0.2), rows("b", lambda s, t: float(t >= 50))
    finding = finding_of(never + soon, check(at_least=40, level=0.5))
    assert (finding.interval.mean, finding.outcome) == (50, Outcome.HOLDS)
    assert finding.interval.high == math.inf
    assert finding.note == "never in 5 seeds, counted as the last round"
    # However little later the last round is, "at most" cannot hold of one who never arrives.
    assert finding_of(never + soon, check(at_most=60, level=0.5)).outcome == Outcome.UNKNOWN


def test_where_neither_arrives_nothing_can_be_told(rows):
    never = rows("a", lambda s, t: 0.2) + rows("b", lambda s, t: 0.2)
    for bounds in ({"at_least": -5}, {"at_most": 5}, {"at_least": 5}):
        assert finding_of(never, check(**bounds, level=0.5)).outcome == Outcome.UNKNOWN


def test_panels_and_swept_values_are_kept_apart(rows):
    there = rows("a", lambda s, t: 0.9, panel="p", swept=3.0)
    elsewhere = rows("a", lambda s, t: 0.1, panel="q", swept=3.0) + rows(
        "a", lambda s, t: 0.2, panel="p", swept=10.0
    )
    one = Check("", Quantity("a", "p", 3.0, WINDOW), at_least=0.5)
    assert finding_of(there + elsewhere, one).interval.mean == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("gaps", "outcome"),
    [
        ((0.2, 0.2), Outcome.HOLDS),
        ((-0.2, -0.2), Outcome.FAILS),
        ((0.2, -0.2), Outcome.PARTLY),
        ((0.2, None), Outcome.UNKNOWN),
        ((-0.2, None), Outcome.FAILS),
    ],
)
def test_a_claim_holds_if_all_its_checks_do(rows, gaps, outcome):
    made, checks = [], []
    for name, gap in zip("ab", gaps, strict=True):
        if gap is not None:
            made += rows(name, lambda s, t, gap=gap: 0.5 + gap + noise("n", s))
        checks.append(Check(f"check {name}", Quantity(name, window=WINDOW), at_least=0.5))
    assert verdict_of(made, *checks).outcome == outcome


def test_a_claim_that_holds_in_part_says_for_what(rows):
    made = rows("a", lambda s, t: 0.9) + rows("b", lambda s, t: 0.1)
    checks = [Check(f"of {c}", Quantity(c, window=WINDOW), at_least=0.5) for c in "ab"]
    assert verdict_of(made, *checks).sentence == "holds only for of a; not for of b"
    unknown = Check("of c", Quantity("c", window=WINDOW), at_least=0.5)
    sentence = verdict_of(made, *checks, unknown).sentence
    assert sentence == "holds only for of a; not for of b; cannot be told for of c"
    sentence = verdict_of(made, checks[0], unknown).sentence
    assert sentence == "cannot be told for of c; holds for the rest"
    sentence = verdict_of(made, checks[0], *[unknown] * 3).sentence
    assert sentence == "cannot be told for 3 of 4 checks; holds for the rest"
    assert verdict_of(made, checks[0]).sentence == "holds"


# --- shares of seeds, destroyed models, how many seeds would tell ---


@pytest.mark.parametrize(("true", "of"), [(0, 1), (0, 5), (2, 7), (10, 12), (6, 6)])
def test_the_interval_of_a_share_is_where_the_binomial_tails_are_2_5_per_cent(true, of):
    interval = share_interval([True] * true + [False] * (of - true))
    assert interval.mean == true / of
    if true:
        assert binom.sf(true - 1, of, interval.low) == pytest.approx(0.025)
    if true < of:
        assert binom.cdf(true, of, interval.high) == pytest.approx(0.025)
    assert (interval.low == 0, interval.high == 1) == (true == 0, true == of)


def test_a_share_of_seeds_is_judged_by_its_own_interval(rows):
    made = rows("a", lambda s, t: 0.4 if s % 4 else 0.9, 12)
    quantity = Quantity("a", window=WINDOW, below=0.7)
    finding = finding_of(made, Check("", quantity, at_least=0.4))
    assert (finding.interval.mean, finding.outcome) == (0.75, Outcome.HOLDS)
    assert finding_of(made, Check("", quantity, at_least=0.5)).outcome == Outcome.UNKNOWN
    assert finding_of(made, Check("", quantity, at_most=0.3)).outcome == Outcome.FAILS


def test_a_destroyed_model_is_named(rows):
    alive, destroyed = rows("a", lambda s, t: 0.6, 3), rows("a", lambda s, t: 0.5, 2, loss=None)
    both = destroyed + [row for row in alive if row.seed == 2]
    finding = finding_of(both, check(at_most=0.9, against=None))
    assert finding.note == "destroyed in 2 seeds, counted as chance"
    assert finding.interval.mean == pytest.approx((0.5 + 0.5 + 0.6) / 3)


def test_the_number_of_seeds_that_is_asked_for_tells_9_times_in_10():
    rng = np.random.default_rng(0)
    pilot = np.array([0.3, 0.1, 0.2, 0.5, 0.15])
    asked = seeds_to_tell(list(pilot), [0.4, -1.0])
    told = 0
    for _ in range(2000):
        fresh = t_interval(list(pilot.mean() + pilot.std(ddof=1) * rng.standard_normal(asked)))
        told += fresh.high < 0.4
    assert told / 2000 == pytest.approx(0.9, abs=0.03)
    assert seeds_to_tell([0.5, 0.5], [0.4]) == 2
    assert seeds_to_tell([0.4, 0.3, 0.5], [0.4]) == MOST_SEEDS


def test_what_cannot_be_told_says_how_many_seeds_would_tell(two):
    rows = two(0.05, size=0.05)
    finding = finding_of(rows, check(at_least=0.02))
    gaps = [0.05 + noise("a", s, 0.05) - noise("b", s, 0.05) for s in range(5)]
    assert finding.outcome == Outcome.UNKNOWN
    assert finding.note == f"{seeds_to_tell(gaps, [0.02])} seeds would tell, 9 times in 10"
    assert finding_of(two(0.2), check(at_least=0.02)).note == ""
