import pytest

from flwr_krum.rules import RULES
from simulations.studies.survival import STRATEGIES, F, Fate, N, survey, table, write_page


@pytest.mark.slow  # runs of all strategies
def test_a_survey_says_what_became_of_each_strategy():
    faults = ("nan", "wrong-size")
    fates = survey(faults, strategies=("flower Krum", "multi-krum"), apis=("message", "fit"))
    verdicts = {(fate.api, fate.strategy, fate.fault): fate.verdict for fate in fates}
    assert len(verdicts) == 8
    assert {v for (_, strategy, _), v in verdicts.items() if strategy == "multi-krum"} == {"ok"}
    # Flower 1.41: one NaN owns aggregate_fit's Krum, one wrong shape ends the run.
    assert verdicts["fit", "flower Krum", "nan"] == "not finite"
    assert verdicts["fit", "flower Krum", "wrong-size"] == "crash"
    assert verdicts["message", "flower Krum", "wrong-size"] == "crash"


def test_every_rule_that_has_a_name_meets_every_fault_through_both_apis():
    for makers in STRATEGIES.values():
        assert list(makers)[5:] == list(RULES)
        for name, rule in RULES.items():
            least = rule().least(F)
            f = F if least <= N else rule().most(N)
            assert f"(rule={rule.__name__}(f={f}, " in repr(makers[name]())


def test_the_table_has_a_row_per_fault_and_counts_the_survived(tmp_path):
    fates = [
        Fate("message", "A", "nan", "ok", 0.9),
        Fate("fit", "A", "nan", "crash"),
        Fate("message", "B", "nan", "ok", 0.9),
        Fate("fit", "B", "nan", "ok", 0.9),
    ]
    assert table(fates).splitlines() == [
        "| fault | A | B |",
        "| --- | --- | --- |",
        "| nan | ok / crash | ok |",
        "| **survived** | 1 of 2 | 2 of 2 |",
    ]
    write_page(tmp_path / "docs/page.md", fates, "what is said of accidents")
    assert table(fates) in (tmp_path / "docs/page.md").read_text()
