import numpy as np
import pytest
from matplotlib.figure import Figure

from simulations.run.history import RoundRecord
from simulations.show.colours import colour_of
from simulations.show.plots import accuracy_curves


@pytest.fixture
def figure(monkeypatch):
    """The picture that was saved last."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: saved.append(self))
    return lambda: saved[-1]


def test_a_line_for_each_run_has_the_colour_of_its_rule_and_means_that_do_not_lag(figure, tmp_path):
    history = [RoundRecord(t, 0.1 * t, None) for t in range(5)]
    rules = {"peace": "average", "average": "average", "nearest": "nnm | krum"}
    histories = dict.fromkeys(rules, history)
    accuracy_curves(histories, list(rules.values()), "", tmp_path / "a.png", window=3)
    (axes,) = figure().axes
    named = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    assert [line.get_label() for line in named] == list(rules)
    colours = [line.get_color() for line in named]
    assert colours == [colour_of("average"), colour_of("average"), colour_of("krum")]
    assert len({(line.get_color(), line.get_linestyle()) for line in named}) == 3
    assert len(axes.get_legend().get_texts()) == 3
    # Of a straight line the means around each point are the line itself, also at its ends.
    np.testing.assert_allclose(named[-1].get_ydata(), [0.0, 0.1, 0.2, 0.3, 0.4])
    assert "means of the 3 around each" in axes.get_xlabel()
