import itertools
import re
from io import StringIO

import pytest
from rich.console import Console

from simulations.run.history import RoundRecord
from simulations.show.terminal import add_run, entries, progress_bar, show


@pytest.fixture
def terminal():
    """A progress bar, and a function that returns what it shows."""
    progress = progress_bar()

    def text():
        console = Console(file=StringIO(), width=120)
        console.print(progress.get_renderable())
        return console.file.getvalue()

    return progress, text


def test_a_line_shows_round_accuracy_byzantine_selected_and_time_left(terminal):
    progress, text = terminal
    clock = itertools.count()
    progress.get_time = lambda: float(next(clock))
    line = add_run(progress, "krum / gaussian", 500)
    show(progress, line, RoundRecord(0, 0.4, 0.7))
    assert "krum / gaussian" in text()
    assert "0/500 accuracy 0.400" in text()
    assert "Byzantine" not in text()
    show(progress, line, RoundRecord(50, None, None, selected=(3,)))
    show(progress, line, RoundRecord(100, 0.9126, 0.3, selected=(3, 1, 9), byzantine_selected=2))
    assert "100/500 accuracy 0.913 Byzantine 2 of 3" in text()
    assert re.search(r"of 3 \d\d:\d\d\s*$", text())


def test_the_last_accuracy_stays_until_the_next_evaluation(terminal):
    progress, text = terminal
    line = add_run(progress, "krum", 10)
    show(progress, line, RoundRecord(1, 0.5, 0.7, selected=(1,)))
    show(progress, line, RoundRecord(2, None, None, selected=()))
    assert "2/10 accuracy 0.500 Byzantine 0 of 0" in text()


def test_a_label_is_no_markup(terminal):
    progress, text = terminal
    add_run(progress, "[red]rule[/red]", 5)
    assert "[red]rule[/red]" in text()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_entries_break_no_word_and_lose_no_column_on_a_narrow_terminal(width):
    columns = ("name", "needs", "kappa")
    long = "`6 (1 + f/(n-2f))` (Allouah et al., AISTATS 2023; not [bold]checked)"
    console = Console(file=StringIO(), width=width)
    console.print(
        entries("rules", columns, [("multi-krum", "2f + 2 < n", long), ("mean", "", "0")])
    )
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    words = [word for line in lines for word in line]
    expected = ["rules", "multi-krum", "needs", "2f", "+", "2", "<", "n", "kappa", *long.split()]
    assert words == [*expected, "mean", "needs", "kappa", "0"]
    assert ["mean"] in lines
