"""A figure of a user's own, in a TOML file outside the package."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.figures.experiment import load_experiment

PAGE = Path(__file__).parents[3] / "docs/own-parts.md"
(MINE,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Call `figure` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["figure", *arguments])


def test_that_of_the_page_is_run_and_drawn(cli, tmp_path, in_this_process):
    (tmp_path / "my.toml").write_text(MINE)
    result = cli("my.toml", "--rounds", "2", "--seeds", "1")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs/figures/figure-my"
    assert (folder / "figure-my.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "figure-my.md").read_text()
    assert "`python -m simulations figure my.toml --rounds 2 --seeds 1`" in page
    assert len(in_this_process) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title", "titel"), "my.toml: unknown keys ['titel'], expected some of ['caption', "),
        (('y = "accuracy"', ""), "my.toml: the key 'y' is missing"),
        (('"accuracy"', '"speed"'), "my.toml: y is 'speed', expected one of ('accuracy', 'error')"),
        (('label = "Krum"', ""), "my.toml: "),
        (("[settings]", "[settings"), "my.toml: "),
        (("[81, 100]", "7"), "my.toml: "),
    ],
)
def test_a_wrong_file_ends_with_a_sentence(cli, tmp_path, change, message):
    (tmp_path / "my.toml").write_text(MINE.replace(*change, 1))
    result = cli("my.toml")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_file_is_called_by_its_path(tmp_path):
    (tmp_path / "my.toml").write_text(MINE)
    experiment = load_experiment(str(tmp_path / "my.toml"))
    assert (experiment.name, experiment.called) == ("my", str(tmp_path / "my.toml"))
    assert load_experiment("K1").called == "K1"
