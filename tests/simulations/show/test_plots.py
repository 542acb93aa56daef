import numpy as np
import pytest
from matplotlib.figure import Figure

from simulations.run.history import RoundRecord
from simulations.show.plots import accuracy_curves, look


@pytest.fixture
def figure(monkeypatch):
    """The picture that was saved last."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: saved.append(self))
    return lambda: saved[-1]


@pytest.mark.parametrize("count", [1, 7, 8, 25])
def test_every_run_has_a_line_that_looks_like_no_other(figure, tmp_path, count):
    history = [RoundRecord(t, 0.1 * t, None) for t in range(4)]
    accuracy_curves({f"run {i}": history for i in range(count)}, "", tmp_path / "a.png", window=2)
    (axes,) = figure().axes
    named = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
    assert [line.get_label() for line in named] == [f"run {i}" for i in range(count)]
    assert len({(line.get_color(), line.get_linestyle()) for line in named}) == count
    assert len(axes.get_legend().get_texts()) == count
    np.testing.assert_allclose(named[-1].get_ydata(), [0.0, 0.05, 0.15, 0.25])


def test_the_palette_goes_on_for_ever():
    assert look(0) != look(7) != look(14)
    assert look(28) == look(0)
