import pytest
from typer.testing import CliRunner

import simulations.figures.command
from simulations.cli import app
from tests.simulations.figures.csv_rows import read_rows


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Call `figure` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["figure", *arguments])


def text_of(result):
    return " ".join(result.output.split())


def test_a_figure_leaves_pictures_numbers_and_verdicts(cli, tmp_path, in_this_process):
    result = cli("K2", "--rounds", "20", "--seeds", "2", "--page", "docs/figures.md")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs/figures/figure-K2"
    assert (folder / "figure-K2.png").read_bytes().startswith(b"\x89PNG")
    svg = (folder / "figure-K2.svg").read_text()
    assert "Spambase, embedded copy (3,677 e-mails to train on, 920 to test)" in svg
    rows = read_rows(folder / "figure-K2.csv")
    assert {(row.curve, row.seed) for row in rows} == {
        (curve, seed)
        for curve in ("krum", "multi-krum", "1-p-krum", "1-p-krum-peace")
        for seed in (0, 1)
    }
    assert {row.round for row in rows} == {0, 10, 20}
    (line,) = [line for line in result.output.splitlines() if "tell" in line]
    assert line == "K2: too short to tell, these claims count from 500 rounds on"
    assert "8 runs in" in result.output

    page = (tmp_path / "docs/figures.md").read_text()
    assert "`python -m simulations figure K2 --rounds 20 --seeds 2`" in page
    assert "| K2 | One unbounded worker in round 1 breaks most runs of 1-p Krum" in page
    for suffix in ("png", "svg", "csv"):
        assert (tmp_path / f"docs/figures/figure-K2.{suffix}").exists()
        assert f"(figures/figure-K2.{suffix})" in page

    # Drawn anew, it still says what it took.
    again = cli("K2", "--rounds", "20", "--seeds", "2")
    assert "8 runs in" in again.output
    fewer = cli("K2", "--rounds", "20", "--seeds", "1")
    assert "4 runs, all made before" in fewer.output
    second = cli("K2", "--rounds", "20", "--seeds", "1", "--first-seed", "1")
    assert "4 runs, all made before" in second.output
    block = (folder / "figure-K2.md").read_text()
    assert "`python -m simulations figure K2 --rounds 20 --seeds 1 --first-seed 1`" in block
    assert {row.seed for row in read_rows(folder / "figure-K2.csv")} == {1}
    assert len(in_this_process) == 8


def test_k2_happens_in_the_first_round_and_to_1_p_krum_alone(cli, tmp_path, in_this_process):
    cli("K2", "--rounds", "20", "--seeds", "2")
    rows = read_rows(tmp_path / "runs/figures/figure-K2/figure-K2.csv")
    loss = {(row.curve, row.seed): row.loss for row in rows if row.round == 20}
    for seed in (0, 1):
        assert loss["krum", seed] < 1
        assert loss["1-p-krum-peace", seed] < 1
        assert loss["1-p-krum", seed] is None or loss["1-p-krum", seed] > 1


def test_folds_are_averaged_and_said_so(cli, tmp_path, in_this_process):
    result = cli("K2", "--rounds", "10", "--seeds", "1", "--folds", "3")
    assert result.exit_code == 0, result.output
    rows = read_rows(tmp_path / "runs/figures/figure-K2/figure-K2.csv")
    assert {row.fold for row in rows} == {0, 1, 2}
    svg = (tmp_path / "runs/figures/figure-K2/figure-K2.svg").read_text()
    assert "cross-validation accuracy" in svg
    assert "each the mean of 3 folds" in svg


def test_the_facts_are_shown_without_a_run(cli, tmp_path):
    result = cli("U1", "--page", "page.md")
    assert result.exit_code == 0, result.output
    assert "eta(40, 18)" in result.output
    assert "84.9" in result.output
    assert "does not hold" not in result.output
    assert (
        "| U1 | The rules' exact relations and constants | holds |"
        in (tmp_path / "page.md").read_text()
    )
    assert not (tmp_path / "runs").exists()


def test_all_figures_are_made_in_turn(cli, monkeypatch):
    made = []
    monkeypatch.setattr(
        simulations.figures.command, "make", lambda experiment, *_: made.append(experiment.name)
    )
    monkeypatch.setattr(simulations.figures.command, "_show", lambda *_: None)
    assert cli("all").exit_code == 0
    assert made == list(simulations.figures.command.NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("9",), "figure is '9', expected one of ('2', '3', '4', '5', "),
        (("no.toml",), "No such file or directory: 'no.toml'"),
        (("sub/5.toml",), "sub/5.toml would be taken for figure 5: give it another name"),
        (("K2", "--data", "full"), "DataError: the original data of 'spambase' are not in data"),
        (("K2", "--folds", "1"), "ValueError: --folds is 1, expected 0 or an integer >= 2"),
        (("K2", "--rounds", "5"), "ValueError: --rounds is 5, expected at least 10"),
    ],
)
def test_what_cannot_be_made_ends_with_a_sentence(cli, arguments, message):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert message in text_of(result)
    assert "Traceback" not in result.output
