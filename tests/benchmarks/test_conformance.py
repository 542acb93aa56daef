"""Who deviates is found out, and why is said only where it has been tried."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.conformance import page
from benchmarks.conformance.compare import (
    Deviation,
    Inputs,
    about_the_origin,
    difference,
    examined,
    on_models,
    on_updates,
    seeded,
    tally,
)
from benchmarks.conformance.ours import fitting, inputs, ours, permutation, worked
from benchmarks.conformance.peers import Peer
from benchmarks.conformance.samples import EACH, SIZES, TIED_EACH, random_samples, tied_samples
from flwr_krum.rules import MIXINGS, RULES

RANDOM, TIED = list(random_samples())[::30], list(tied_samples())[::20]
SAMPLE = RANDOM[0]


def mean(V, f):
    return V.mean(axis=0)


def first(V, f):
    return V[0]


def failing(V, f):
    raise RuntimeError("out of order")


def drawing(V, f):
    return V[0] + np.random.random()  # noqa: NPY002


def expected(run):
    """Return a definition's results on a few inputs."""
    random, tied = (
        tuple((sample, on_updates(run)(sample)) for sample in samples) for samples in (RANDOM, TIED)
    )
    return Inputs(worked=random[:1], random=random, tied=tied)


def line(theirs, *deviations, given=None):
    return examined("peer", "1.0", on_updates(theirs), given or expected(mean), deviations)


def test_who_does_the_same_agrees_and_nothing_is_tried():
    found = line(mean, Deviation("takes the first", on_updates(first)))
    assert page.verdict(found) == page.AGREES
    assert (found.cause, found.itself, page.explanation(found)) == (None, None, "")


def test_a_deviation_is_named_where_a_rule_with_just_that_agrees_everywhere():
    found = line(first, Deviation("takes the first", on_updates(first)))
    assert page.verdict(found) == page.DEVIATES
    assert found.random.agreeing < len(RANDOM)
    assert page.explanation(found) == (
        f"Takes the first. A rule that does just this agrees with it on {len(RANDOM)} of "
        f"{len(RANDOM)} random inputs and {len(TIED)} of {len(TIED)} with ties."
    )


def test_of_several_deviations_the_one_that_agrees_is_named():
    last = Deviation("takes the last", on_updates(lambda V, f: V[-1]))
    found = line(first, last, Deviation("takes the first", on_updates(first)))
    assert found.cause.text == "takes the first"


def test_a_deviation_that_a_rule_does_not_show_is_not_claimed():
    found = line(first, Deviation("takes the last", on_updates(lambda V, f: V[-1])))
    assert not found.is_explained
    assert page.explanation(found).startswith("Not established. Closest: Takes the last.")
    assert page.explanation(line(first)) == "Why was not established."


def test_who_errs_on_ties_alone_agrees_but_for_ties():
    given = expected(mean)
    tied = tuple((sample, result + 1.0) for sample, result in given.tied)
    found = line(mean, Deviation("is ours", on_updates(mean)), given=replace(given, tied=tied))
    assert page.verdict(found) == page.BUT_FOR_TIES
    assert found.is_explained


def test_what_is_raised_is_counted_and_told():
    found = line(failing)
    assert (found.random.raised, found.random.agreeing) == (len(RANDOM), 0)
    assert page.verdict(found) == page.DEVIATES
    assert "(`RuntimeError: out of order`)" in page.explanation(found)


def test_nobody_explains_a_library_that_never_answers():
    assert not line(failing, Deviation("takes the first", on_updates(first))).is_explained


def test_who_draws_disagrees_with_itself_under_another_seed():
    found = line(drawing)
    assert found.itself.agreeing == 0
    assert f"agrees with itself on 0 of {len(RANDOM)} random" in page.explanation(found)
    again = seeded(on_updates(drawing), 3)
    np.testing.assert_array_equal(again(SAMPLE), again(SAMPLE))


def test_differences_are_in_units_of_the_largest_update():
    unit = np.abs(SAMPLE.updates).max()
    zero = np.zeros(3)
    assert difference(zero, zero + unit / 2.0, SAMPLE) == 0.5
    assert difference(zero, zero + np.nan, SAMPLE) == np.inf
    assert difference(zero, np.zeros((7, 3)), SAMPLE) == np.inf


def test_a_library_is_fed_copies_so_that_it_cannot_spoil_the_inputs():
    def spoiling(V, f):
        V[:] = 0.0
        return V[0]

    before = SAMPLE.V.copy()
    on_updates(spoiling)(SAMPLE)
    on_models(spoiling)(SAMPLE)
    np.testing.assert_array_equal(SAMPLE.V, before)


def test_whoever_is_fed_models_measures_from_the_origin():
    def shortest(V, f):
        return V[np.linalg.norm(V, axis=1).argmin()]

    for sample in RANDOM:
        from_origin = about_the_origin(on_updates(shortest))(sample)
        np.testing.assert_array_equal(on_models(shortest)(sample), from_origin)


def test_random_inputs_repeat_and_tied_ones_hold_duplicates_exactly():
    assert len(list(random_samples())) == EACH * len(SIZES) == 300
    assert len(list(tied_samples())) == TIED_EACH * len(SIZES)
    np.testing.assert_array_equal(next(iter(random_samples())).V, SAMPLE.V)
    for sample in TIED:
        np.testing.assert_array_equal(sample.updates, np.round(sample.updates))
        np.testing.assert_array_equal(sample.V[-2:], sample.V[:2])


@pytest.mark.parametrize("name", [*RULES, *MIXINGS])
def test_every_rule_runs_on_the_inputs_and_gives_its_worked_results(name):
    given = inputs(name, RANDOM, TIED)
    assert all(np.isfinite(result).all() for _, result in (*given.random, *given.tied))
    assert tally(ours(name), worked(name)).agrees


def test_a_rule_gets_no_more_liars_than_it_bears():
    (small,) = [sample for sample in RANDOM if len(sample.V) == 11][:1]
    assert (small.f, fitting("bulyan", small).f, fitting("krum", small).f) == (3, 2, 3)
    assert fitting("nnm", small).f == 3


def test_the_permutation_is_that_of_our_buckets():
    solve, order = ours("bucketing"), permutation(7)
    np.testing.assert_allclose(solve(SAMPLE)[0], SAMPLE.V[order[:2]].mean(axis=0))


def peer(name, **runs):
    return Peer(name, "1.0", runs, {})


def test_the_page_shows_who_agrees_who_deviates_and_who_is_not_there():
    present = {
        "good": peer("good", average=mean),
        "bad": peer("bad", average=first, cge=lambda V, f: V[0]),
    }
    told = []
    found = list(page.sections(present, RANDOM, TIED, tell=told.append))
    text = page.page(found, present, {"gone": "not installed"})
    assert "average: good" in told
    assert f"| good | 1.0 | - | {len(RANDOM)} of {len(RANDOM)} |" in text
    assert "| average | agrees | deviates |" in text
    assert "| bad, fed models |" in text
    assert "- gone: not installed" in text
    alone = text.partition("## What no library here has")[2]
    assert "### medoid" in alone
    assert "### average" not in alone


def test_a_section_tells_the_definition_and_its_source():
    section = page.Section("krum", tally(ours("krum"), worked("krum")), ())
    note = page.table(section).note
    assert "the sum of its n - f - 2 closest distances" in note
    assert "Blanchard" in note
    assert "``" not in note
