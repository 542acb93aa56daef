import pytest

from simulations.engines.effort import Effort
from simulations.figures.facts import Fact
from simulations.figures.page import (
    FigureProvenance,
    facts_block,
    figure_block,
    number,
    update_page,
)
from simulations.figures.statements import Check, Quantity, Statement
from simulations.figures.verdicts import verdicts_of

PROVENANCE = FigureProvenance("the command", "the protocol", Effort(75.4, 61.0, 2, 3, 1), "median")


def test_a_block_has_picture_claims_numbers_and_origin(tiny, rows):
    experiment = tiny()
    made = rows("krum", lambda s, t: 0.9, 3, 20) + rows("average", lambda s, t: 0.5, 3, 20)
    verdicts = verdicts_of(experiment.statements, made)
    block = figure_block(experiment, verdicts, PROVENANCE, "figures/tiny.png")
    assert "![Tiny](figures/tiny.png)" in block
    assert "(figures/tiny.svg)" in block
    assert "(figures/tiny.csv)" in block
    assert "`the command`" in block
    assert "3 runs in 1 min 15 s on 2 processes (1 min 1 s of processor time)" in block
    assert "; 1 were there already" in block
    assert "**T1: Krum beats averaging** — holds." in block
    assert "| 3 | +0.400 | +0.400 to +0.400 | at least 0 | holds |" in block


def test_blocks_are_replaced_in_their_place_and_the_rest_of_the_page_stays(tmp_path):
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(
        "# Mine\n\n<!-- summary -->\n<!-- end of summary -->\n\nBetween.\n\n"
        "<!-- figure 4 -->\nold\n<!-- end of figure 4 -->\n\nAfter.\n"
    )
    update_page(page, "4", "**4a: It is so** — holds.\n")
    update_page(page, "4", "**4a: It is so** — cannot be told.\n")
    update_page(page, "5", "**5a: And so** — does not hold.\n")
    assert page.read_text() == (
        "# Mine\n\n<!-- summary -->\n| | claim | verdict |\n| --- | --- | --- |\n"
        "| 4a | It is so | cannot be told |\n| 5a | And so | does not hold |\n"
        "<!-- end of summary -->\n\nBetween.\n\n"
        "<!-- figure 4 -->\n**4a: It is so** — cannot be told.\n<!-- end of figure 4 -->\n\n"
        "After.\n\n<!-- figure 5 -->\n**5a: And so** — does not hold.\n<!-- end of figure 5 -->\n"
    )


def test_a_page_that_is_not_there_is_made(tmp_path):
    update_page(tmp_path / "new" / "page.md", "4", "**4a: It is so** — holds.\n")
    assert "| 4a | It is so | holds |" in (tmp_path / "new" / "page.md").read_text()


def test_facts_that_do_not_hold_are_said_so():
    facts = [Fact("one", "1", "1"), Fact("two", "2", "3")]
    assert "**U1: The rules' exact relations and constants** — does not hold." in facts_block(facts)
    assert "| two | 2 | 3 | does not hold |" in facts_block(facts)
    assert "— holds." in facts_block(facts[:1])


@pytest.mark.parametrize(
    ("value", "changes", "text"),
    [
        (0.93456, {}, "0.935"),
        (-0.0126, {"against": Quantity("b", window=(1, 2))}, "−0.013"),
        (1.333, {"ratio": True}, "1.33"),
        (float("inf"), {}, "∞"),
        (float("-inf"), {}, "−∞"),
        (104.6, {"of": Quantity("a", level=0.8)}, "105"),
    ],
)
def test_a_number_is_written_as_what_it_is(value, changes, text):
    check = Check("", **{"of": Quantity("a", window=(1, 2)), **changes})
    assert number(value, check) == text


def test_a_verdict_of_several_words_reaches_the_summary(tmp_path, tiny, rows):
    claim = Statement("X-1", "A (b): c", (Check("d", Quantity("krum", window=(1, 2))),))
    (verdict,) = verdicts_of([claim], [])
    block = figure_block(tiny(), [verdict], PROVENANCE, "x.png")
    update_page(tmp_path / "page.md", "tiny", block)
    assert "| X-1 | A (b): c | cannot be told |" in (tmp_path / "page.md").read_text()
