import math

import pytest

from simulations.figures.statements import Vocabulary, read_statement

NAMES = Vocabulary(
    curves={"a": "A", "b": "B", "c": "C"},
    panels={"": ""},
    sweep="",
    values=(),
    windows={"E": (401, 500), "L": (1601, 2000)},
)
SWEPT = Vocabulary(
    curves={"a": "A", "b": "B"},
    panels={"p": "left", "q": "right"},
    sweep="b",
    values=(3, 10),
    windows={"E": (401, 500)},
)


def checks(names=NAMES, **part):
    return read_statement({"id": "1", "says": "so", "check": [part]}, names).checks


def test_a_difference_of_two_curves_over_a_window():
    (check,) = checks(of="a", minus="b", window="E", at_least=0.01)
    assert (check.of.curve, check.of.window) == ("a", (401, 500))
    assert (check.against.curve, check.against.window) == ("b", (401, 500))
    assert (check.at_least, check.at_most, check.ratio) == (0.01, math.inf, False)
    assert check.label == "A − B; rounds 401 to 500"
    assert check.bounds == "at least 0.01"


def test_lists_are_checks_of_their_own():
    made = checks(of="a", minus=["b", "c"], window=["E", [1, 100]], within=0.01)
    assert [check.label for check in made] == [
        "A − B; rounds 401 to 500",
        "A − B; rounds 1 to 100",
        "A − C; rounds 401 to 500",
        "A − C; rounds 1 to 100",
    ]
    assert {(check.at_least, check.at_most) for check in made} == {(-0.01, 0.01)}
    assert made[0].bounds == "within ±0.01"
    (check,) = checks(of="a", window="E", at_least=-0.12, at_most=0)
    assert check.bounds == "at least −0.12, at most 0"


def test_a_share_of_seeds_is_of_one_curve_over_a_window():
    (check,) = checks(of="a", window="E", below=0.7, at_least=0.5)
    assert check.of.below == 0.7
    assert check.label == "A; share of seeds below 0.7 in rounds 401 to 500"
    for more in ({"minus": "b"}, {"over": "b"}):
        with pytest.raises(ValueError, match="claim 1: 'below' is of one curve, over a window"):
            checks(of="a", window="E", below=0.7, at_least=0.5, **more)


def test_one_curve_is_compared_with_itself_earlier():
    (check,) = checks(of="a", minus="a", window="L", minus_window=[1, 100], at_most=0.1)
    assert (check.of.window, check.against.window) == ((1601, 2000), (1, 100))
    assert check.label == "A, rounds 1601 to 2000 − A, rounds 1 to 100"


def test_a_ratio_of_the_rounds_that_reach_an_accuracy():
    (check,) = checks(of="a", over="b", reaches=0.8, at_most=1.6)
    assert (check.of.level, check.against.level, check.ratio) == (0.8, 0.8, True)
    assert check.of.window is None
    assert check.label == "A / B; rounds to 80%"


def test_a_check_is_made_in_every_panel_and_at_every_swept_value_unless_it_says_where():
    everywhere = checks(SWEPT, of="a", window="E", at_least=0.5)
    assert [(c.of.panel, c.of.swept) for c in everywhere] == [
        ("p", 3), ("p", 10), ("q", 3), ("q", 10),
    ]  # fmt: skip
    (one,) = checks(SWEPT, of="a", minus="a", at=10, minus_at=3, panel="q", window="E", at_most=0)
    assert (one.of.swept, one.against.swept, one.against.panel) == (10, 3, "q")
    assert one.label == "A, b = 10 − A, b = 3; rounds 401 to 500; right"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"of": "a", "window": "E", "reaches": 0.8, "at_most": 1}, "either 'window' or 'reaches'"),
        ({"of": "a", "minus": "b", "over": "b", "window": "E", "at_most": 1}, "not both"),
        ({"of": "a", "panel": "x", "window": "E", "at_most": 1}, "panel is 'x', expected one of"),
        ({"of": "a", "minus": "d", "window": "E", "at_most": 1}, "curve is 'd', expected one of"),
    ],
)
def test_a_check_that_says_nothing_or_too_much_is_refused(part, message):
    with pytest.raises(ValueError, match=message):
        checks(**part)
