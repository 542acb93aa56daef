"""Every option of every command is answered by its name where its value is none."""

import click
import pytest
from typer.main import get_command

from benchmarks.cli import app as of_benchmarks
from simulations.cli import app as of_simulations
from simulations.show.options import WRITTEN

COMMANDS = {**get_command(of_benchmarks).commands, **get_command(of_simulations).commands}
OPTIONS = [
    (name, option)
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
]
NUMBERS = [
    (name, option)
    for name, option in OPTIONS
    if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
]
PLACES = [
    (name, option)
    for name, option in OPTIONS
    if isinstance(option.type, click.Path) or option.name in WRITTEN
]


def called(option):
    return option.opts[0]


def answer(name, option, value):
    """Return what is said of a value before the command begins."""
    with pytest.raises(click.UsageError) as said:
        COMMANDS[name].make_context(name, [called(option), value])
    return said.value.format_message()


def ids(options):
    return [f"{name} {called(option)}" for name, option in options]


@pytest.mark.parametrize(("name", "option"), NUMBERS, ids=ids(NUMBERS))
def test_what_is_no_number_or_too_small_is_answered_by_the_options_name(name, option):
    least = option.type.min
    values = ["", "x", str(least - 1)]
    if isinstance(option.type, click.types.IntParamType):
        values += ["nan", "1e99", "0.5"]
    for value in values:
        said = answer(name, option, value)
        assert said.startswith(f"Invalid value for '{called(option)}'")
        assert f"{float(value):g}" in said if value == str(least - 1) else repr(value) in said


@pytest.mark.parametrize(("name", "option"), PLACES, ids=ids(PLACES))
def test_a_place_where_nothing_can_be_written_is_answered_by_the_options_name(
    name, option, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    said = answer(name, option, "file/x.png")
    assert said.startswith(f"Invalid value for '{called(option)}'")
    assert "file" in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
