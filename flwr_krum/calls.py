"""Calls as text, ``nnm | trimmed-mean(f=2)``: the grammar in which rules and attacks are written.

A call is a name in kebab-case, or ``my_rules.py:MyRule`` or ``module:MyRule`` for a class of the
user's own, with arguments in parentheses where it needs any: Python literals, true, false, and
words without quotes. ``|`` makes a chain of several.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from numbers import Integral, Real
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")

_CALL = re.compile(
    r"(?P<name>[^=]+?\.py:\w+|[^\s()](?:[^()]*[^\s()])?)\s*(?:\((?P<rest>.*)\))?", re.S
)
_OPTION = re.compile(r"([A-Za-z_]\w*)\s*=(.*)", re.S)
_WORD = re.compile(r"[A-Za-z_][\w-]*")
# An apostrophe inside a path opens no text.
_SIGNS = re.compile(r"""(?<!\w)(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|[()\[\]{}|,]""", re.S)
_CONSTANTS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Call:
    """One call: a name, arguments by place, and arguments by name.

    Examples
    --------
    >>> Call("trimmed-mean", (), {"f": 2, "way": "outer"})
    Call(name='trimmed-mean', arguments=(), options={'f': 2, 'way': 'outer'})
    >>> print(_)
    trimmed-mean(f=2, way=outer)
    """

    name: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]

    @property
    def is_own(self) -> bool:
        """Whether the name says where a class of the user's own is."""
        return ":" in self.name

    def __str__(self) -> str:
        listed = [_literal(value) for value in self.arguments]
        listed += [f"{key}={_literal(value)}" for key, value in self.options.items()]
        return f"{self.name}({', '.join(listed)})" if listed else self.name


@contextmanager
def reading(what: str, text: object) -> Iterator[None]:
    """Name what a text was meant to be, and the text, in every error of its reading.

    Raises
    ------
    ValueError
        ``<what> is <text>: <the error>``.

    Examples
    --------
    >>> with reading("rule", "krum(g=1)"):
    ...     raise ValueError("krum has no g")
    Traceback (most recent call last):
    ValueError: rule is 'krum(g=1)': krum has no g
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what} is {text!r}: {error}") from error


def parse_calls(text: str) -> tuple[Call, ...]:
    """Read a chain of calls.

    Raises
    ------
    ValueError
        If the text is none; it says which part.

    Examples
    --------
    >>> [call.name for call in parse_calls("nnm | my_rules.py:MyRule(f=2, way='a|b')")]
    ['nnm', 'my_rules.py:MyRule']
    """
    if not isinstance(text, str):
        raise ValueError("expected a text such as 'name(key=value) | name'")
    return tuple(_parse_call(part) for part in _split(text, "|"))


def parse_call(text: str) -> Call:
    """Read one call.

    Raises
    ------
    ValueError
        If the text is none, or a chain of several.
    """
    call, *others = parse_calls(text)
    if others:
        raise ValueError("it is a chain, expected one name or name(key=value)")
    return call


def located(text: str) -> str:
    """Return a chain as it is read in any folder: files of the user's own by their whole paths.

    Raises
    ------
    ValueError
        As for `parse_calls`.
    """
    return " | ".join(str(replace(call, name=_place(call.name))) for call in parse_calls(text))


def _place(name: str) -> str:
    path, _, attribute = name.rpartition(":")
    return f"{os.path.abspath(path)}:{attribute}" if path.endswith(".py") else name


def _parse_call(text: str) -> Call:
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is no call, expected name or name(key=value)")
    listed = _split(match["rest"] or "", ",")
    if not listed[-1].strip():  # none at all, or a comma after the last
        listed.pop()
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    for part in listed:
        option = _OPTION.fullmatch(part.strip())
        if option is None and options:
            raise ValueError(f"{part.strip()!r} has no name but follows an argument that has one")
        if option is None:
            arguments.append(_value(part))
        elif option[1] in options:
            raise ValueError(f"{option[1]} is given twice")
        else:
            options[option[1]] = _value(option[2])
    return Call(match["name"], tuple(arguments), options)


def _split(text: str, separator: str) -> list[str]:
    """Split where the separator stands outside of quotes and brackets."""
    parts, start, depth = [], 0, 0
    for sign in _SIGNS.finditer(text):
        depth += (sign[0] in "([{") - (sign[0] in ")]}")
        if sign[0] == separator and depth == 0:
            parts.append(text[start : sign.start()])
            start = sign.end()
    return [*parts, text[start:]]


def _value(text: str) -> Any:
    word = text.strip()
    if word.lower() in _CONSTANTS:
        return _CONSTANTS[word.lower()]
    if _WORD.fullmatch(word):
        return word
    with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = ast.literal_eval(word)
        if isinstance(value, int | float | str):
            return value
    raise ValueError(f"{word!r} is no value, expected a number, a text, true or false")


def _literal(value: Any) -> str:
    """Return a value as `_value` reads it.

    Raises
    ------
    ValueError
        If there is no such text: of a function, or of what is not a number.
    """
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        plain = _WORD.fullmatch(value) and value.lower() not in _CONSTANTS
        return value if plain else repr(value)
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real) and not math.isnan(value):
        return repr(float(value)).replace("inf", "1e999")
    raise ValueError(f"{value!r} cannot be written as text")


def look_up(call: Call, known: Mapping[str, Any]) -> Any:
    """Return what a call's name stands for: one of the known, or an object of the user's own.

    Raises
    ------
    ValueError
        If there is no such name, file or object, or the file cannot be imported.
    """
    if call.is_own:
        return _own(*call.name.rsplit(":", 1))
    if call.name in known:
        return known[call.name]
    raise ValueError(
        f"there is no {call.name!r}, expected one of {', '.join(known)}, "
        f"or a class of your own as file.py:Class{_closest(call.name, known)}"
    )


def _closest(name: str, known: Collection[str]) -> str:
    bare = {each.lower().replace("-", ""): each for each in known}
    found = difflib.get_close_matches(re.sub("[-_ ]", "", name.lower()), bare, 1)
    return f"; did you mean {bare[found[0]]}?" if found else ""


def _own(place: str, name: str) -> Any:
    module = _file(os.path.abspath(place)) if place.endswith(".py") else _imported(place)
    if not hasattr(module, name):
        names = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ValueError(f"{place} has no {name!r}{_closest(name, names)}")
    return getattr(module, name)


def _file(path: str) -> ModuleType:
    """Import a file under its own path, by which no installed module is called."""
    if path in sys.modules:
        return sys.modules[path]
    spec = importlib.util.spec_from_file_location(path, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ValueError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path] = module  # a dataclass looks for its module there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[path]
        raise ValueError(f"{path} cannot be imported: {_said(error)}") from error
    return module


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"module {module!r} cannot be imported: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """Return an error in one line, with its kind where its text alone says little."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def build(call: Call, kind: Callable[..., T], usual: Mapping[str, Any]) -> T:
    """Call a class, with usual values for the arguments that it takes and the text leaves open.

    Raises
    ------
    ValueError
        If the arguments are not those of the class, or it refuses their values.
    """
    parameters = inspect.signature(kind).parameters
    try:
        given = inspect.signature(kind).bind_partial(*call.arguments, **call.options).arguments
        options = {key: usual[key] for key in parameters if key in usual and key not in given}
        inspect.signature(kind).bind(*call.arguments, **call.options, **options)
    except TypeError as error:
        takes = ", ".join(map(_parameter, parameters.values())) or "no arguments"
        raise ValueError(f"{call.name}: {error}; it takes {takes}") from None
    try:
        return kind(*call.arguments, **call.options, **options)
    except Exception as error:  # a class of the user's own may raise anything
        raise ValueError(f"{call.name}: {_said(error)}") from error


def _parameter(parameter: inspect.Parameter) -> str:
    """Name a parameter, with its default where that can be written."""
    with suppress(ValueError):
        if parameter.default is not parameter.empty:
            return f"{parameter.name}={_literal(parameter.default)}"
    return parameter.name
