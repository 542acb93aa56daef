import re
from dataclasses import dataclass

import pytest

from clients.fields import (
    Choice,
    Flag,
    Number,
    Text,
    Whole,
    check,
    defaults_of,
    described,
    in_config,
    setting,
)


@dataclass(frozen=True)
class Oven:
    brand: int = 7  # no setting
    heat: str = setting("low", Choice("How hot.", ("low", "high")))
    trays: int = setting(2, Whole("Trays.", 1))
    bread_on: int = setting(0, Whole("Which tray.", 0, lambda oven: oven.trays - 1))
    hours: float = setting(1.5, Number("How long."))
    volume: float = setting(60.0, Number("Litres.", positive=True))
    fan: bool = setting(False, Flag("Turn the fan on."))
    book: str = setting("recipes", Text("Recipes."))
    notes: str = setting("", Text("Notes.", "a file", may_be_empty=True))

    def __post_init__(self):
        check(self)


def test_a_setting_is_a_key_with_a_default_and_other_fields_are_none():
    assert defaults_of(Oven) == {
        "heat": "low", "trays": 2, "bread-on": 0, "hours": 1.5, "volume": 60.0, "fan": False,
        "book": "recipes", "notes": "",
    }  # fmt: skip
    assert [what.help for what in described(Oven).values()][:3] == [
        "How hot.", "Trays.", "Which tray.",
    ]  # fmt: skip
    assert in_config(Oven, {"bread-on": 1, "brand": 3, "bread_on": 9}) == {"bread_on": 1}


@pytest.mark.parametrize(
    "values",
    [{"trays": 1}, {"trays": 5, "bread_on": 4}, {"hours": 0}, {"hours": 10**300}, {"fan": True}],
)
def test_values_within_the_bounds_are_taken_as_they_are(values):
    oven = Oven(**values)
    assert {name: getattr(oven, name) for name in values} == values


@pytest.mark.parametrize(
    ("name", "value", "legal"),
    [
        ("heat", "hot", "'low' or 'high'"),
        ("heat", ["low"], "'low' or 'high'"),
        ("trays", 0, "an integer >= 1"),
        ("trays", 1.0, "an integer >= 1"),
        ("trays", True, "an integer >= 1"),
        ("bread_on", 2, "an integer from 0 to 1"),
        ("hours", -1, "a finite number >= 0"),
        ("hours", float("nan"), "a finite number >= 0"),
        ("hours", float("inf"), "a finite number >= 0"),
        ("hours", 10**400, "a finite number >= 0"),
        ("hours", False, "a finite number >= 0"),
        ("hours", "1", "a finite number >= 0"),
        ("volume", 0.0, "a finite number > 0"),
        ("fan", 1, "true or false"),
        ("book", "", "the path of a folder"),
        ("notes", None, "a file"),
    ],
)
def test_an_illegal_value_is_named_by_its_key_with_what_is_legal(name, value, legal):
    message = f"{name.replace('_', '-')} is {value!r}, expected {legal}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Oven(**{name: value})
