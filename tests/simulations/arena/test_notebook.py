"""The notebook of the examples, whose cells of code are run one after the other."""

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[3] / "examples/choose_a_rule.ipynb"


def test_the_notebook_finds_a_rule_that_stands_where_the_average_falls(
    tmp_path, monkeypatch, capsys, in_this_process
):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names = {"__name__": "notebook"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
    standings = {standing.rule: standing for standing in names["made"].standings}
    assert len(in_this_process) == len(standings) * 3 * 2
    average = standings.pop("average").worst
    assert average.destroyed or average.last < 0.8
    assert names["best"] in standings
    assert all(standing.worst.last > 0.85 for standing in standings.values())
    lines = capsys.readouterr().out.splitlines()
    assert [line[:20].strip() for line in lines if line[:20].strip() in standings]
    assert (tmp_path / "runs/choosing/arena.html").exists()


def test_the_notebook_keeps_no_outputs_that_would_go_stale():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(cell.get("outputs", []) == [] for cell in cells)
    assert all(cell.get("execution_count") is None for cell in cells)
