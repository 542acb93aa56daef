import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flwr_krum.calls import Call, build, look_up, parse_calls


def clip(f, *, level=2.0, direction="std"):
    return f, level, direction


KNOWN = {"average": None, "multi-krum": None, "alie": None, "1-p-krum": None}

NAMES = st.from_regex(r"[a-z0-9]{1,5}(-[a-z0-9]{1,5}){0,2}", fullmatch=True) | st.sampled_from(
    ["rules.py:Mine", "/a dir (1)/it's.py:Mine", r"C:\rules.py:Mine", "package.module:Mine"]
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
)
CALLS = st.builds(
    Call,
    NAMES,
    st.lists(VALUES, max_size=2).map(tuple),
    st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), VALUES, max_size=3),
)


@given(st.lists(CALLS, min_size=1, max_size=3))
def test_a_chain_that_is_written_down_is_read_as_it_was(calls):
    text = " | ".join(map(str, calls))
    found = parse_calls(text)
    assert list(found) == calls
    kinds = [[type(v) for v in (*c.arguments, *c.options.values())] for c in found]
    assert kinds == [[type(v) for v in (*c.arguments, *c.options.values())] for c in calls]


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("krum", Call("krum", (), {})),
        (" krum ( ) ", Call("krum", (), {})),
        ("krum(2)", Call("krum", (2,), {})),
        ("krum(f=2, strict=False,)", Call("krum", (), {"f": 2, "strict": False})),
        ("alie(z=-1.5)", Call("alie", (), {"z": -1.5})),
        ("alie(z=1e3, on=true, m=none)", Call("alie", (), {"z": 1000.0, "on": True, "m": None})),
        ("a(b=std, c='True')", Call("a", (), {"b": "std", "c": "True"})),
        # names of faults, some of which are no Python
        ("a(fault=nan)", Call("a", (), {"fault": "nan"})),
        ("a(fault=examples-1e15)", Call("a", (), {"fault": "examples-1e15"})),
        ("a(fault=is-in-pieces)", Call("a", (), {"fault": "is-in-pieces"})),
        ("a(b='),|(')", Call("a", (), {"b": "),|("})),
        ("my_rules.py:MyRule(f=2)", Call("my_rules.py:MyRule", (), {"f": 2})),
    ],
)
def test_a_call_is_a_name_with_literals_and_words(text, call):
    assert parse_calls(text) == (call,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no call, expected name or name(key=value)"),
        ("krum |", "'' is no call"),
        ("krum(", "'krum(' is no call"),
        ("krum(f=2", "'krum(f=2' is no call"),
        ("krum)", "'krum)' is no call"),
        ("krum(f=2)(3)", "'2)(3' is no value"),
        ("krum(f=two words)", "'two words' is no value, expected a number, a text, true or false"),
        ("krum(f=)", "'' is no value"),
        ("krum(,)", "'' is no value"),
        ("krum(f=[1])", "'[1]' is no value"),
        ("krum(f=1j)", "'1j' is no value"),
        ("krum(f=__import__('os').getcwd())", "is no value"),
        ("krum(f=(" + "(" * 5000 + "1" + ")" * 5000 + "))", "is no value"),
        ("krum(f=" + "9" * 5000 + ")", "is no value"),
        ("krum(f=1, f=2)", "f is given twice"),
        ("krum(f=1, 2)", "'2' has no name but follows an argument that has one"),
        (None, "expected a text such as"),
    ],
)
def test_what_is_no_call_is_refused_with_the_part_that_is_wrong(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_calls(text)


@pytest.mark.parametrize(
    ("name", "close"),
    [("multikrum", "multi-krum"), ("MultiKrum", "multi-krum"), ("averge", "average")],
)
def test_an_unknown_name_is_answered_with_those_there_are_and_the_closest(name, close):
    message = (
        f"there is no '{name}', expected one of average, multi-krum, alie, 1-p-krum, or a class "
        f"of your own as file.py:Class; did you mean {close}?"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        look_up(Call(name, (), {}), KNOWN)


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(ValueError, match=r"file\.py:Class$"):
        look_up(Call("zzz", (), {}), KNOWN)


def test_usual_values_fill_what_is_taken_and_left_open():
    usual = {"f": 6, "level": 3.0, "seed": 1}
    assert build(Call("clip", (), {}), clip, usual) == (6, 3.0, "std")
    assert build(Call("clip", (2,), {"direction": "mean"}), clip, usual) == (2, 3.0, "mean")
    assert build(Call("clip", (), {"f": 2, "level": 1.0}), clip, usual) == (2, 1.0, "std")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clip", "missing a required argument: 'f'"),
        ("clip(1, 2)", "too many positional arguments"),
        ("clip(1, f=2)", "multiple values for argument 'f'"),
        ("clip(1, depth=2)", "got an unexpected keyword argument 'depth'"),
    ],
)
def test_wrong_arguments_are_answered_with_those_it_takes(text, problem):
    (call,) = parse_calls(text)
    message = f"clip: {problem}; it takes f, level=2.0, direction=std"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(call, clip, {})


def test_whatever_a_class_raises_becomes_one_line():
    def broken(f):
        raise OSError("first\nsecond")

    with pytest.raises(ValueError, match=r"^broken: OSError: first second$"):
        build(Call("broken", (1,), {}), broken, {})


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function that writes a file of the user's own into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(str(path), None)


def test_a_class_in_a_file_is_found_by_its_path_and_loaded_once(file):
    path = file("from dataclasses import dataclass\n@dataclass\nclass Mine:\n    f: int = 1\n")
    found = look_up(Call("mine.py:Mine", (), {}), KNOWN)
    assert found is look_up(Call(f"{path}:Mine", (), {}), KNOWN)
    assert (found.__module__, found.__name__) == (path, "Mine")
    assert look_up(Call("random:Random", (), {}), KNOWN) is sys.modules["random"].Random


def test_a_file_may_be_called_like_an_installed_module(file):
    import random

    file("Random = 1\n", "random.py")
    assert look_up(Call("random.py:Random", (), {}), KNOWN) == 1
    assert sys.modules["random"] is random


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_the_reason_and_left_out(file, text, problem):
    path = file(text)
    message = f"{path} cannot be imported: {problem}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        look_up(Call("mine.py:Mine", (), {}), KNOWN)
    assert path not in sys.modules


@pytest.mark.parametrize("name", ["nope.py", "x" * 5000 + ".py", "nul\0.py", "folder.py"])
def test_a_file_that_is_not_there_is_named_in_full(file, tmp_path, name):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ValueError, match=re.escape(f"there is no file {tmp_path / name}")):
        look_up(Call(f"{name}:Mine", (), {}), KNOWN)


def test_a_file_or_module_without_the_name_is_answered_with_the_closest_class(file):
    file("class MyRule: pass\n")
    with pytest.raises(ValueError, match=r"^mine.py has no 'MyRul'; did you mean MyRule\?$"):
        look_up(Call("mine.py:MyRul", (), {}), KNOWN)
    with pytest.raises(ValueError, match=r"^module 'nowhere\.at\.all' cannot be imported: Module"):
        look_up(Call("nowhere.at.all:Mine", (), {}), KNOWN)
