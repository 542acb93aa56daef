import pytest
from typer.core import TyperGroup
from typer.testing import CliRunner

from benchmarks.cli import app


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("worst --rules nope", "Invalid value for '--rules': 'nope' is none of average, krum,"),
        ("worst --page file/x.md", "Invalid value for '--page': 'file' cannot be made"),
        ("worst --random-attacks -1", "'--random-attacks': -1 is not in the range x>=0"),
        ("memory nowhere", "Directory 'nowhere' does not exist"),
        ("memory file", "Directory 'file' is a file"),
        ("memory . --ways nope", "Invalid value for '--ways': 'nope' is none of "),
        ("memory . --n 2", "'--n': 2 is not in the range 3<=x<=10000"),
        ("rounds nowhere", "Directory 'nowhere' does not exist"),
        ("rounds . --ways nope", "Invalid value for '--ways': 'nope' is none of "),
        ("rounds . --nodes 4", "ValueError: --nodes is 4, expected at least 2f + 3 = 5"),
        ("rounds . --rounds 1", "'--rounds': 1 is not in the range x>=2"),
        ("early --folder nowhere", "Directory 'nowhere' does not exist"),
        ("early --n 9 --d 9 --device nope", "ValueError: --device must be "),
        ("early --d 0", "'--d': 0 is not in the range 1<=x<=1000000000"),
        ("simulators --rounds 0", "Invalid value for '--rounds': 0 is not in the range"),
        ("quick --kind nope", "Invalid value for '--kind': 'nope' is not one of"),
        ("render nowhere", "No such file or directory: 'nowhere'"),
        ("render file", "file is not the file of a run of the benchmarks"),
    ],
)
def test_what_a_user_gets_wrong_is_answered_in_a_sentence(tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(app, command.split(), env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.replace("│", " ").split())


def test_ctrl_c_ends_with_a_sentence(monkeypatch):
    def interrupted(self, ctx):
        raise KeyboardInterrupt

    monkeypatch.setattr(TyperGroup, "invoke", interrupted)
    result = CliRunner().invoke(app, ["quick"])
    assert result.exit_code == 130
    assert "interrupted: " in result.output
