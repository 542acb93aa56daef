"""A whole run: everything that a plan names is measured, or said to be skipped."""

from pathlib import Path

from typer.testing import CliRunner

from benchmarks.cli import app
from benchmarks.grid import Limits
from benchmarks.measure import CORES, Patience
from benchmarks.page import BEGIN, END
from benchmarks.peers import COORDINATE_RULES, NUMPY, OURS, RULES
from benchmarks.plan import FULL, Plan, carry_out

TINY = Plan(
    grid=((6, 1000), (500, 1_000_000_000)),
    coordinate_wise=((6, 1000),),
    fit=((6, 1000, 4),),
    train=((6, 1000, 4),),
    over_d=(6, (500, 1000, 2000)),
    over_n=(500, (5, 10, 20)),
    crowded=((6, 1000),),
    limits=Limits(Patience(0.0, 3), krum_cap=5.0, cap=5.0),
)


def test_a_run_measures_all_that_its_plan_names():
    saved = []
    report = carry_out(TINY, done=lambda report: saved.append(len(report.results)))
    for rule in RULES:
        assert report.cell(rule, 6, 1000)[NUMPY].cpu
        assert report.cell(rule, 500, 1_000_000_000)[NUMPY].skipped == "skipped: needs 2000 GB"
    for task in (*COORDINATE_RULES, "aggregate_fit", "aggregate_train", "floor"):
        assert report.cells(task) == [(6, 1000)]
    assert {(g.name, g.over) for g in report.growths} >= {(NUMPY, "d"), (NUMPY, "n")}
    assert {g.name for g in report.growths} | set(report.absent) >= set(OURS)
    if CORES > 1:
        assert report.cell("krum", 6, 1000, CORES)[NUMPY].cpu
    assert saved == sorted(saved)
    assert saved[-1] == len(report.results)


def test_the_full_grid_is_measured_from_small_to_large():
    work = [n**2 * d for n, d in FULL.grid]
    assert work == sorted(work)
    assert {n for n, _ in FULL.grid} == {10, 20, 50, 100, 500}
    assert {d for _, d in FULL.grid} == {10**4, 10**5, 10**6, 10**7}


def test_a_saved_run_is_rendered_again(report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report.save(Path("saved.json"))
    page = Path("docs/performance.md")
    page.parent.mkdir()
    page.write_text(f"{BEGIN}\n{END}\n")
    done = CliRunner().invoke(app, ["render", "saved.json"])
    assert done.exit_code == 0, done.output
    assert "an abacus" in page.read_text()
    assert "(images/performance.png)" in page.read_text()
    assert Path("docs/images/performance.png").stat().st_size > 10_000
