"""One colour for a rule, whatever picture it is in."""

from simulations.show import colours
from simulations.show.colours import colour_of, colour_of_call, looks_of


def test_every_rule_has_a_colour_of_its_own_and_keeps_it(monkeypatch):
    first = ("average", "krum", "multi-krum", "medoid", "1-p-krum")
    expected = ["#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7"]
    assert [colour_of(rule) for rule in first] == expected
    monkeypatch.setattr(colours, "RULES", dict.fromkeys(f"rule-{i}" for i in range(20)))
    assert len({colour_of(f"rule-{i}") for i in range(20)} | {colour_of("my.py:Rule")}) == 21


def test_a_chain_has_the_colour_of_the_rule_that_decides():
    assert colour_of_call("nnm | multi-krum(m=3)") == colour_of("multi-krum")


def test_lines_of_one_rule_differ_by_their_dash():
    peace, average, krum = looks_of(["average", "average", "krum"])
    assert peace["color"] == average["color"] == colour_of("average")
    assert peace["linestyle"] != average["linestyle"]
    assert krum == {"color": colour_of("krum"), "linestyle": "-"}
