import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from simulations.figures.experiment import NAMES, load_experiment
from simulations.figures.pictures import apart, draw
from simulations.figures.verdicts import verdicts_of
from simulations.show.colours import colour_of

GAP = 0.1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_names_are_kept_apart_in_their_order_and_inside_the_picture(heights):
    places = apart(heights, GAP)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(np.array(places)[order]) >= GAP - 1e-9).all()


@given(st.lists(st.integers(0, 4), unique=True))
def test_names_that_are_apart_stay_where_they_are(steps):
    heights = [0.2 * step + 0.05 for step in steps]
    assert apart(heights, GAP) == pytest.approx(heights)


@pytest.fixture
def drawn(tmp_path, rows):
    """Draws a figure of made-up numbers and returns its paths."""

    def make(name, rounds=500, subtitle=("the data", "median")):
        experiment = load_experiment(name)
        made = [
            row
            for p, panel in enumerate(experiment.panels)
            for value in (experiment.sweep.values if experiment.sweep else (None,))
            for c, curve in enumerate(experiment.curves)
            for row in rows(
                curve.key,
                lambda s, t, c=c, p=p: 0.9 - 0.05 * c - 0.02 * p - 0.4 / (1 + t) + 0.01 * s,
                seeds=3, rounds=min(rounds, curve.rounds or rounds), every=50,
                panel=panel.key, swept=value,
            )
        ]  # fmt: skip
        paths = [tmp_path / f"{name}.png", tmp_path / f"{name}.svg"]
        verdicts = verdicts_of(experiment.statements, made)
        draw(experiment, made, verdicts, subtitle, paths)
        return experiment, verdicts, paths

    return make


@pytest.mark.parametrize("name", ["2", "3", "5", "main-4", "K1"])
def test_a_picture_names_its_curves_panels_data_and_verdicts(drawn, name):
    experiment, verdicts, (png, svg) = drawn(name)
    text = re.sub(r"\s+", " ", svg.read_text())
    for wanted in (
        experiment.title,
        "the data",
        *(curve.label for curve in experiment.curves if curve.style != "hidden"),
        *(panel.label for panel in experiment.panels),
        *(verdict.statement.id for verdict in verdicts),
    ):
        assert wanted in text
    for curve in experiment.curves:
        if curve.style == "hidden":
            assert curve.label not in text
    with Image.open(png) as image:
        assert image.width == 1350
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_a_long_protocol_stays_inside_the_picture(drawn):
    protocol = "; ".join(["MNIST, the 5,000 embedded images only (4,000 to train on)"] * 5)
    _, _, (png, _) = drawn("main-6", subtitle=(protocol, "median"))
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("L"))
    assert (pixels[:150] < 200).any(axis=0).nonzero()[0].max() < 1350 - 15


@pytest.mark.parametrize("name", [name for name in NAMES if len(load_experiment(name).panels) > 1])
def test_titles_of_panels_beside_each_other_do_not_touch(drawn, monkeypatch, name):
    figures = []

    def kept(figure, *args, **kwargs):
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", kept)
    drawn(name)
    (figure, *_) = figures
    FigureCanvasAgg(figure).draw()
    boxes = [ax.title.get_window_extent() for ax in figure.axes]
    boxes += [ax._left_title.get_window_extent() for ax in figure.axes]
    boxes = [box for box in boxes if box.width > 1]
    assert len(boxes) == len(figure.axes)
    assert not any(one.padded(6).overlaps(other) for one, other in combinations(boxes, 2))


def test_a_curve_has_the_colour_of_its_rule(drawn):
    _, _, (_, svg) = drawn("4")
    text = svg.read_text()
    for rule in ("krum", "multi-krum", "medoid", "1-p-krum"):
        assert f"stroke: {colour_of(rule)}" in text


def test_a_chain_with_arguments_has_the_colour_of_the_rule_that_decides(tiny, rows, tmp_path):
    experiment = tiny(**{'rule = "krum"': 'rule = "my.py:Mix | multi-krum(m=3)"'})
    made = [row for curve in experiment.curves for row in rows(curve.key, lambda s, t: t / 100)]
    draw(experiment, made, [], [], [tmp_path / "tiny.svg"])
    text = (tmp_path / "tiny.svg").read_text()
    assert f"stroke: {colour_of('multi-krum')}" in text
    assert f"stroke: {colour_of('krum')}" not in text


def test_a_picture_of_the_same_numbers_is_the_same_file(drawn):
    first = drawn("5")[2][1].read_bytes()
    assert drawn("5")[2][1].read_bytes() == first
