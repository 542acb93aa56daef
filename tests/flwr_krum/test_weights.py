"""Declared weights: what f sites may hold, in the rounds of both APIs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from flwr_krum.boundary.replies import Reply
from flwr_krum.journal import JournalError, read_journal
from flwr_krum.report import RoundReport
from flwr_krum.round import InfeasibleRoundError, Rounds
from flwr_krum.rules import (
    RULES,
    Average,
    Bucketing,
    Choice,
    ClientUpdates,
    GeometricMedian,
    Krum,
    Median,
    Medoid,
    MultiKrum,
    NearestNeighborMixing,
    OneMinusPKrum,
    TrimmedMean,
)
from flwr_krum.rules.rule import Rule
from flwr_krum.weights import DeclaredWeights
from tests.flwr_krum.npy_bytes import npy

SIZES = (17834, 5200, 3900, 2700, 1900, 1350, 820, 601, 190)
SITES = {f"site-{i}": size for i, size in enumerate(SIZES)}
RNG = np.random.default_rng(0)
SENT = {site: RNG.standard_normal(5) for site in SITES}

MIXED = NearestNeighborMixing() | TrimmedMean(f=1)
WEIGHED = {
    "multi-krum": MultiKrum(f=1),
    "multi-krum of 4": MultiKrum(f=1, m=4),
    "krum": Krum(f=1),
    "medoid": Medoid(f=1),
    "1-p krum": OneMinusPKrum(f=1, seed=3),
    "average": Average(f=1),
    "median": Median(f=1),
    "trimmed mean": TrimmedMean(f=1),
    "trimmed mean by share": TrimmedMean(f=1, beta=0.2),
    "geometric median": GeometricMedian(f=1),
    "nnm, trimmed mean": MIXED,
}
weighed = pytest.mark.parametrize("rule", WEIGHED.values(), ids=WEIGHED)


def finish(rule, sent=SENT, weights=SITES, t=1, **options):
    """Run one round; return the new model, or None, and the report."""
    rounds = Rounds(rule, weights=weights, **options)
    rounds.begin({"x": np.zeros(len(next(iter(sent.values()))))}, sent)
    replies = [Reply(site, {"x": npy(vector)}) for site, vector in sent.items()]
    model, report = rounds.finish(t, replies)
    return (None if model is None else model["x"]), report


def share_of(report, site):
    return report.weighting.shares[site]


# --- what is refused before any round ---


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ([1, 2], "weights must map client ids to numbers, got [1, 2]"),
        ({}, "weights is empty: declare at least one site"),
        ({1.5: 1}, "weights names a site 1.5, expected an int or a str"),
        ({True: 1}, "weights names a site True, expected an int or a str"),
        *(
            ({"a": bad}, f"weight of site 'a' must be a number from 1e-100 to 1e+100, got {bad}")
            for bad in (0, -1, float("nan"), float("inf"), 10**400, None, True)
        ),
    ],
    ids=str,
)  # fmt: skip
def test_weights_that_are_none_are_refused_with_what_is_legal(weights, problem):
    with pytest.raises((TypeError, ValueError), match=re.escape(problem)):
        Rounds(MultiKrum(f=1), weights=weights)


@pytest.mark.parametrize("cap", [0, 0.5, 1, -0.1, float("nan"), "a quarter"])
def test_a_cap_that_is_no_share_below_half_is_refused(cap):
    with pytest.raises(ValueError, match=r"weight_cap must be a share with 0 < weight_cap < 0\.5"):
        Rounds(MultiKrum(f=1), weights=SITES, weight_cap=cap)


def test_a_cap_that_no_cut_can_reach_is_refused_before_anybody_is_asked():
    with pytest.raises(ValueError, match=re.escape("weight_cap=0.25 is less than f/n = 3/9")):
        Rounds(MultiKrum(f=3), weights=SITES)
    assert finish(MultiKrum(f=3), weight_cap=1 / 3)[1].stepped


def test_a_cap_without_weights_is_refused():
    with pytest.raises(ValueError, match=re.escape("weight_cap is 0.3 without weights")):
        Rounds(MultiKrum(f=1), weight_cap=0.3)


TAKING = {
    "average", "krum", "multi-krum", "1-p-krum", "medoid", "median", "trimmed-mean",
    "geometric-median",
}  # fmt: skip


def test_every_rule_takes_weights_or_refuses_them_at_the_start():
    for name, kind in RULES.items():
        options = {"tau": 1.0} if name == "centered-clipping" else {}
        rule: Rule = kind(f=1, **({"C": 1.0} if name == "norm-bounding" else options))
        root = {"root": list} if "root" in rule.server_rows else {}
        if name in TAKING:
            Rounds(rule, weights=SITES)
            continue
        with pytest.raises(ValueError, match="has no definition with declared weights; those"):
            Rounds(rule, weights=SITES, **root)


@pytest.mark.parametrize(
    "rule",
    [
        NearestNeighborMixing() | MultiKrum(f=1),
        Bucketing(s=2, seed=0) | Median(f=1),
        NearestNeighborMixing() | Bucketing(s=2, seed=0) | Median(f=1),
    ],
    ids=str,
)
def test_a_chain_without_a_definition_refuses_weights(rule):
    with pytest.raises(ValueError, match="and nnm before those of a coordinate"):
        Rounds(rule, weights=SITES)
    with pytest.raises(ValueError, match="has no definition with declared weights"):
        rule(np.zeros((9, 2)), shares=np.array(SIZES) / sum(SIZES))


@pytest.mark.parametrize("rule", [MultiKrum(), Median(), Medoid(), TrimmedMean(beta=0.2)])
def test_an_f_that_follows_the_replies_cannot_cut_weights(rule):
    with pytest.raises(ValueError, match=f"as in RobustAggregation\\({type(rule).__name__}\\(f=1"):
        Rounds(rule, weights=SITES)


# --- a round ---


def test_the_mean_of_those_that_are_selected_without_weights_is_by_capped_weight():
    new, report = finish(MultiKrum(f=1))
    plain, before = finish(MultiKrum(f=1), weights=None)
    assert report.selected == before.selected
    assert report.scores == before.scores
    cut = {site: min(SITES[site], report.weighting.largest) for site in report.selected}
    total = sum(cut.values())
    assert report.weights == pytest.approx({site: size / total for site, size in cut.items()})
    expected = sum(cut[site] / total * SENT[site] for site in cut)
    np.testing.assert_allclose(np.load(_file(new)), expected, rtol=1e-12)
    assert new != plain


def _file(data):
    import io

    return io.BytesIO(data)


@weighed
def test_equal_weights_give_todays_result_byte_for_byte(rule):
    for t in range(1, 4):
        new, report = finish(rule, weights=dict.fromkeys(SITES, 17834), t=t)
        plain, before = finish(rule, weights=None, t=t)
        assert new == plain
        assert (report.selected, report.scores) == (before.selected, before.scores)
        assert report.weights == before.weights
        assert report.weighting.held == pytest.approx(1 / 9)


@pytest.mark.parametrize("rule", [Krum(f=1), Medoid(f=1), MultiKrum(f=1, m=1)], ids=str)
def test_a_single_model_that_is_selected_goes_out_as_it_came(rule):
    new, report = finish(rule)
    assert new == npy(SENT[report.selected[0]])
    assert report.weights == {report.selected[0]: 1.0}


@weighed
def test_no_f_sites_hold_more_than_the_cap_of_what_was_accepted(rule):
    _, report = finish(rule)
    assert report.weighting.held == pytest.approx(0.25)
    assert sum(report.weighting.shares.values()) == pytest.approx(1.0)
    assert report.weighting.largest == pytest.approx(5553.7, abs=0.1)


def test_1_p_krum_averages_by_capped_weight():
    _, report = finish(OneMinusPKrum(f=1, p=1.0, seed=0))
    assert report.weights == pytest.approx(dict(report.weighting.shares))


def test_an_average_that_bears_nobody_is_by_declared_weight():
    _, report = finish(Average())
    assert report.weights["site-0"] == pytest.approx(17834 / sum(SIZES))
    assert report.weighting.held == 0.0


def test_the_cap_is_worked_out_anew_where_sites_are_silent():
    """USERS.md 1.3.4: cut at the old cap, two silent sites would leave one site 35.6 %."""
    silent = {site: v for site, v in SENT.items() if site not in ("site-3", "site-2")}
    _, full = finish(MultiKrum(f=1))
    _, report = finish(MultiKrum(f=1), sent=silent)
    old = {site: min(SITES[site], full.weighting.largest) for site in silent}
    assert max(old.values()) / sum(old.values()) > 0.33
    assert share_of(report, "site-0") == pytest.approx(0.25)
    assert report.weighting.largest < full.weighting.largest


def test_a_site_without_a_declared_weight_is_refused_by_name_and_lowers_no_f():
    sent = {**SENT, "stranger": np.full(5, 1e6)}
    new, report = finish(MultiKrum(f=1), sent=sent)
    assert [(r.client, r.reason) for r in report.refused] == [("stranger", "no declared weight")]
    assert (report.byzantine, report.basis) == (1, "declared")
    assert new == finish(MultiKrum(f=1))[0]


def test_a_strangers_refusal_makes_no_round_legal_that_silence_left_illegal():
    five = dict(list(SENT.items())[:4])
    _, report = finish(MultiKrum(f=1), sent={**five, "stranger": np.zeros(5)})
    assert not report.stepped
    assert report.byzantine == 1


def test_a_refused_site_leaves_with_its_weight():
    broken = {**SENT, "site-0": np.full(5, np.nan)}
    _, report = finish(MultiKrum(f=1), sent=broken)
    assert "site-0" not in report.weighting.shares
    assert sum(report.weighting.declared.values()) == pytest.approx(1.0)


def test_a_round_of_too_few_sites_for_the_cap_is_infeasible_and_a_degraded_one_counts_all_alike():
    few = dict(list(SENT.items())[:5])
    rule = MultiKrum(f=1)
    _, report = finish(rule, sent=few, weight_cap=0.15)
    assert not report.stepped
    assert "weight_cap=0.15 is less than f/n = 1/5" in report.note
    with pytest.raises(InfeasibleRoundError, match=re.escape("weight_cap=0.15")):
        finish(rule, sent=few, weight_cap=0.15, on_infeasible="raise")
    new, report = finish(rule, sent=few, weight_cap=0.15, on_infeasible="degrade")
    assert report.stepped
    assert set(report.weighting.shares.values()) == {0.2}
    assert new == finish(rule, sent=few, weights=None)[0]


def test_the_sites_that_the_cap_needs_are_counted_beforehand():
    declared = DeclaredWeights(MultiKrum(f=2), SITES, 0.25)
    assert declared.least_clients == 8
    assert DeclaredWeights(MultiKrum(f=3), SITES, 1 / 3).least_clients == 9
    assert DeclaredWeights(MultiKrum(f=2), SITES, None).least_clients == 1
    assert [declared.least_for(f) for f in (0, 1, 2)] == [1, 4, 8]
    assert Rounds(MultiKrum(f=2), weights=SITES).least_clients == 8


@pytest.mark.parametrize(
    "rule",
    [Median(f=1), GeometricMedian(f=1), TrimmedMean(f=1), NearestNeighborMixing() | Median(f=1)],
    ids=str,
)
def test_self_support_is_refused_and_not_warned(rule):
    """USERS.md 1.3.1: a liar of 51.7 % at 1e6 would be the weighted median itself."""
    sent = {site: np.zeros(5) for site in SITES} | {"site-0": np.full(5, 1e6)}
    _, report = finish(rule, sent=sent, weight_cap=None)
    assert not report.stepped
    assert "to hold less than half of the weight, the 1 heaviest hold 51.7%" in report.note
    shares = np.array(SIZES) / sum(SIZES)
    with pytest.raises(ValueError, match="less than half"):
        rule(np.array(list(sent.values())), shares=shares)
    new, report = finish(rule, sent=sent)
    assert report.stepped
    np.testing.assert_allclose(np.load(_file(new)), 0.0, atol=1e-9)


def test_a_site_of_half_the_weight_is_still_bounded_by_a_selection_without_weights():
    sent = {**SENT, "site-0": np.full(5, 1e6)}
    _, report = finish(MultiKrum(f=1), sent=sent, weight_cap=None)
    assert report.stepped
    assert "site-0" not in report.weights


def test_claimed_sizes_weigh_nothing_beside_declared_ones():
    """USERS.md 1.3.2: one client can claim 1e15 examples."""
    rounds = Rounds(MultiKrum(f=1), weights=SITES)
    rounds.begin({"x": np.zeros(5)}, SENT)
    claims = {site: {"num-examples": 10**15 if site == "site-8" else 1} for site in SITES}
    replies = [Reply(site, {"x": npy(v)}, metrics=claims[site]) for site, v in SENT.items()]
    model, _ = rounds.finish(1, replies)
    assert model["x"] == finish(MultiKrum(f=1))[0]


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.5, 0.6, 0.0], [1 / 3, 1 / 3, np.nan], [1, 1, 1]])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="expected a share > 0 for each of 3 clients, of sum 1"):
        Average()(np.zeros((3, 2)), shares=np.array(shares))


def test_a_rule_that_is_no_mean_of_some_cannot_be_weighed_as_one():
    class Leaning(MultiKrum):
        def choose(self, geometry, server_round):
            return Choice.of_weights(np.arange(1.0, 10.0) / 45.0, geometry.n)

    with pytest.raises(ValueError, match="the choice is no mean of some"):
        finish(Leaning(f=1))


# --- what is said of it ---


def test_the_report_says_who_counts_how_much_and_survives_the_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    _, report = finish(MultiKrum(f=1), journal=path)
    assert RoundReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert read_journal(path) == [report]
    assert [line for line in report.lines() if "sites" in line or "made of" in line]
    (told,) = [line for line in report.lines() if line.startswith("declared weights")]
    assert told == (
        "declared weights: sizes cut at 5553.67 (26.7% of the weight moved); the 1 heaviest of the "
        "accepted hold 25.0%; the honest mean is that by these shares"
    )
    assert any("site-0 25.0% (declared 51.7%)" in line for line in report.lines())


def test_a_journal_of_before_the_weights_is_read():
    values = finish(MultiKrum(f=1), weights=None)[1].to_json()
    assert values.pop("weighting") is None
    assert RoundReport.from_json(values).weighting is None


def test_a_run_with_weights_goes_on_from_its_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    finish(MultiKrum(f=1), journal=path)
    rounds = Rounds(MultiKrum(f=1), weights=SITES, journal=path, rounds_done=1)
    assert rounds.reports[0].weighting.largest == pytest.approx(5553.7, abs=0.1)
    in_thousands = {site: size / 1000 for site, size in SITES.items()}
    Rounds(MultiKrum(f=1), weights=in_thousands, journal=path, rounds_done=1)
    with_one_more = {**SITES, "new": 5e4}
    Rounds(MultiKrum(f=1), weights=with_one_more, journal=path, rounds_done=1)


TOTAL = sum(SIZES)
OTHERWISE = {
    "another size": (
        {"weights": {**SITES, "site-8": 1900}},
        f"of its sites, 'site-8' had {190 / TOTAL:.6g} and has {1900 / (TOTAL + 1710):.6g}",
    ),
    "a site less": (
        {"weights": {site: size for site, size in SITES.items() if site != "site-0"}},
        f"round 1: of the weight of its sites, 'site-0' had {17834 / TOTAL:.6g} and has 0",
    ),
    "other sites": ({"weights": {f"b{i}": 1.0 for i in range(9)}}, "'site-0' had .* and has 0"),
    "another cap": ({"weight_cap": 0.3}, "round 1: weight_cap was 0.25 and is 0.3"),
    "no cap": ({"weight_cap": None}, "round 1: weight_cap was 0.25 and is None"),
    "no weights": ({"weights": None}, "round 1: weights were declared and are none"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_a_run_goes_on_with_the_weights_and_the_cap_that_it_began_with_or_not_at_all(
    tmp_path, case
):
    change, message = OTHERWISE[case]
    path = tmp_path / "journal.jsonl"
    finish(MultiKrum(f=1), journal=path)
    options = {"weights": SITES, "journal": path, "rounds_done": 1, **change}
    with pytest.raises(JournalError, match=f"{message}.*; go on with the former, or name another"):
        Rounds(MultiKrum(f=1), **options)


def test_a_run_that_began_without_weights_does_not_go_on_with_them(tmp_path):
    path = tmp_path / "journal.jsonl"
    finish(MultiKrum(f=1), weights=None, journal=path)
    with pytest.raises(JournalError, match="round 1: weights were none and are declared"):
        Rounds(MultiKrum(f=1), weights=SITES, journal=path, rounds_done=1)


def test_a_journal_that_does_not_say_the_cap_may_go_on_with_any(tmp_path):
    path = tmp_path / "journal.jsonl"
    finish(MultiKrum(f=1), journal=path)
    values = json.loads(path.read_text())
    del values["weighting"]["cap"]
    path.write_text(json.dumps(values) + "\n")
    Rounds(MultiKrum(f=1), weights=SITES, weight_cap=0.3, journal=path, rounds_done=1)


# --- what sites claim ---


def claiming(counts, weights=SITES, **options):
    """Return the report of a round in which sites claim so many examples."""
    rounds = Rounds(MultiKrum(f=1), weights=weights, **options)
    rounds.begin({"x": np.zeros(5)}, SENT)
    replies = [
        Reply(site, {"x": npy(vector)}, metrics={"num-examples": counts[site]})
        for site, vector in SENT.items()
    ]
    return rounds.finish(1, replies)


def test_a_site_that_claims_far_more_or_less_than_its_weight_is_named_and_weighs_the_same():
    model, quiet = claiming(SITES)
    assert quiet.doubted == {}
    claims = {**SITES, "site-8": 17834, "site-1": 520}
    loud_model, loud = claiming(claims)
    assert loud.doubted == {
        "site-8": "claims 17834 examples, declared 190: 93.9 times what is usual here; it weighs "
        "what was declared",
        "site-1": "claims 520 examples, declared 5200: 0.1 times what is usual here; it weighs "
        "what was declared",
    }
    assert loud.is_remarkable()
    assert loud_model == model
    assert loud.weights == quiet.weights


def test_claims_in_another_unit_than_the_weights_are_not_alarming():
    _, report = claiming({site: 40 * size for site, size in SITES.items()})
    assert report.doubted == {}
    _, report = claiming({site: 4 * size if size > 1e4 else size for site, size in SITES.items()})
    assert report.doubted == {}


def test_without_declared_weights_a_claim_is_held_against_nothing():
    _, report = claiming({**SITES, "site-8": 17834}, weights=None)
    assert report.doubted == {}


def test_the_summary_says_what_one_site_may_hold_where_nothing_is_capped():
    def told(**options):
        return " ".join(Rounds(MultiKrum(f=1), **options).summary("MultiKrum"))

    assert "Weights: all sites alike" in told()
    assert "one site may hold 51.7% of the model" in told(weights=SITES, weight_cap=None)
    assert "the f heaviest of a round hold at most 0.25" in told(weights=SITES)


# --- through both APIs ---


def name_of(client):
    return f"site-{getattr(client, 'cid', client)}"


def test_both_apis_weigh_by_declared_size_and_refuse_strangers(federation):
    strategy = federation.strategy("MultiKrum", f=1, weights=SITES, client_id=name_of)
    federation.configure(strategy, [np.zeros(5)], range(10, 20))
    vectors = dict(zip(range(9), SENT.values(), strict=True))
    federation.configure(strategy, [np.zeros(5)], range(10))
    new, _ = federation.aggregate(
        strategy, {i: [v] for i, v in vectors.items()} | {9: [SENT["site-0"]]}
    )
    assert strategy.last_report.refused[0].reason == "no declared weight"
    assert strategy.last_report.refused[0].client == "site-9"
    np.testing.assert_array_equal(new[0], np.load(_file(finish(MultiKrum(f=1))[0])))


def test_weights_need_a_function_that_names_the_sites(federation):
    with pytest.raises(ValueError, match="give client_id=, a function that names a node"):
        federation.strategy("MultiKrum", f=1, weights=SITES)


def test_the_summary_counts_the_replies_that_the_cap_needs(federation, caplog):
    caplog.set_level("INFO")
    strategy = federation.strategy(
        "MultiKrum", f=2, weights=SITES, client_id=name_of,
        **{strategy_least(federation): 9},
    )  # fmt: skip
    strategy.summary()
    assert "9 are asked, 8 replies are needed (f=2): 1 may be lost" in caplog.text


def strategy_least(federation):
    return "min_train_nodes" if federation.names_arrays else "min_fit_clients"


@pytest.mark.parametrize("rule", [Median(f=1), TrimmedMean(f=1), MIXED], ids=str)
def test_every_device_and_width_gives_the_same_bits(device, rule):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((9, 20_001)).astype(np.float32)
    sent = dict(zip(SITES, vectors, strict=True))
    new, report = finish(rule, sent=sent, device=device)
    shares = np.array(list(report.weighting.shares.values()))
    alone = rule(ClientUpdates.from_layers([[v] for v in vectors[:, :7]]), shares=shares)
    if rule != MIXED:  # whose neighbours are those of all columns
        np.testing.assert_array_equal(np.load(_file(new))[:7].astype(np.float32), alone.vector)
    assert new == finish(rule, sent=sent, device="cpu:numpy")[0]
