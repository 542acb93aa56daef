"""A command's options out of settings: a new setting is an option by being described."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Annotated, Any

import click
from click.core import ParameterSource
from typer import Option

from clients.fields import Choice, Described, Flag, Number, Whole, key_of
from simulations.run.config import run_config_defaults, run_settings
from simulations.show import places

Command = Callable[..., None]


def with_settings(
    names: Iterable[str],
    defaults: Mapping[str, Any] | None = None,
    called: Mapping[str, str] | None = None,
) -> Callable[[Command], Command]:
    """Give a command an option for each of some settings of a run.

    Parameters
    ----------
    names : iterable of str
        The settings, in the order of the command's help.
    defaults : mapping of name to value, optional
        Where they are others than the run config's.
    called : mapping of name to option, optional
        Where an option has another name than the setting gives it.

    Returns
    -------
    callable
        Wraps a command whose first parameter takes the run config that the options make; its
        other parameters are options as they are.
    """
    names = tuple(names)
    option_of = {key_of(name): _option(name, (called or {}).get(name, "")) for name in names}
    usual = {**run_config_defaults(), **{key_of(k): v for k, v in (defaults or {}).items()}}
    made = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=usual[key_of(name)],
            annotation=_annotation(name, option_of[key_of(name)]),
        )
        for name in names
    ]

    def wrap(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        _, *own = signature.parameters.values()
        others = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]

        def options(**values: Any) -> None:
            config = {key_of(each.name): values.pop(each.name) for each in made}
            try:
                command(config, **values)
            except ValueError as error:
                key, _, problem = str(error).partition(" is ")  # as settings say what is wrong
                key = key.replace(" ", "-")
                if key not in option_of:
                    raise
                raise ValueError(f"{option_of[key]} is {problem}") from error

        options.__name__, options.__doc__ = command.__name__, command.__doc__
        options.__signature__ = signature.replace(parameters=[*made, *others])  # type: ignore[attr-defined]
        return options

    return wrap


WRITTEN = ("run_dir", "tensorboard")
"""Settings that say where a run writes."""

ELSEWHERE = ("out", "page", "processes", "on", "data_dir")
"""Options that do not change what a command finds."""


def given_options() -> dict[str, Any]:
    """Return the options that the command line of this command names, by name."""
    context = click.get_current_context()
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        and isinstance(_parameters(context)[name], click.Option)
    }


def command_again(*words: str, last: str = "") -> str:
    """Return the command line that finds the same as this command.

    Parameters
    ----------
    *words : str
        The command's name, and what stands before its options.
    last : str
        What stands behind them; may be empty.
    """
    options = _parameters(click.get_current_context())
    line = ["python", "-m", "simulations", *words]
    for name, value in given_options().items():
        option = options[name]
        if name in ELSEWHERE:
            continue
        if isinstance(value, bool):
            line.append((option.opts if value else option.secondary_opts)[0])
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            line += [option.opts[0], str(each)]
    return shlex.join([*line, last] if last else line)


def _parameters(context: click.Context) -> dict[str, click.Parameter]:
    return {each.name: each for each in context.command.params if each.name}


def _option(name: str, called: str) -> str:
    """Return what a setting is called on a command line."""
    own = called or run_settings()[name].option
    return own or (f"-{name}" if len(name) == 1 else f"--{key_of(name)}")


def _annotation(name: str, option: str) -> Any:
    """Return the type of a setting's option, as typer reads it."""
    what: Described = run_settings()[name]
    match what:
        case Choice(choices=choices):
            return Annotated[str, Option(option, help=what.help, click_type=click.Choice(choices))]
        case Whole(least=least):
            return Annotated[int, Option(option, help=what.help, click_type=click.IntRange(least))]
        case Number(positive=positive):
            bound = click.FloatRange(0, min_open=positive)
            return Annotated[float, Option(option, help=what.help, click_type=bound)]
        case Flag():
            return Annotated[bool, Option(help=what.help)]  # typer adds the way to say no
    check = places.checked_folder if name in WRITTEN else None
    return Annotated[str, Option(option, help=what.help, callback=check)]
