"""Rules as text, ``multi-krum(m=4)``, and back."""

from __future__ import annotations

from dataclasses import fields

from flwr_krum.calls import Call, build, look_up, parse_calls
from flwr_krum.rules import RULES
from flwr_krum.rules.rule import Rule


def parse_rule(text: str, **usual: object) -> Rule:
    """Return the rule that a text describes.

    Parameters
    ----------
    text : str
        A name in `RULES`, or a class of the user's own as ``my_rules.py:MyRule`` or
        ``module:MyRule``; arguments follow in parentheses, as in ``multi-krum(m=4)``.
    **usual
        Arguments for whatever takes them and leaves them open in the text, such as the run's
        ``f`` and ``seed``.

    Raises
    ------
    ValueError
        If the text is no call, a name does not exist, a file cannot be imported, or an argument
        is not the rule's or not legal.

    Examples
    --------
    >>> parse_rule("multi-krum(m=4)", f=6, seed=1)
    MultiKrum(f=6, strict=True, m=4)
    """
    try:
        call, *others = parse_calls(text)
        if others:
            raise ValueError("expected a single rule")
        return build(call, _kind(call), usual)
    except ValueError as error:
        raise ValueError(f"rule is {text!r}: {error}") from error


def _kind(call: Call) -> type[Rule]:
    kind = look_up(call, RULES)
    if not (isinstance(kind, type) and issubclass(kind, Rule)):
        raise ValueError(f"{call.name} is no subclass of flwr_krum.rules.Rule")
    return kind


def written(rule: Rule) -> str:
    """Return the text that `parse_rule` reads as the same rule, without what is the default.

    Raises
    ------
    ValueError
        If an argument is neither number nor text, such as a function of the round, or the rule's
        class has no place that could be named.

    Examples
    --------
    >>> from flwr_krum.rules import MultiKrum
    >>> written(MultiKrum(6, 4))
    'multi-krum(f=6, m=4)'
    """
    kind = type(rule)
    names = {known: name for name, known in RULES.items()}
    own = f"{kind.__module__}:{kind.__qualname__}"
    if kind not in names and "<locals>" in own:
        raise ValueError(f"{own} cannot be written: it is a class inside a function")
    options = {
        field.name: value
        for field in fields(rule)
        if (value := getattr(rule, field.name)) != field.default
    }
    return str(Call(names.get(kind, own), (), options))
