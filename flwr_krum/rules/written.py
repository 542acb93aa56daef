"""Rules as text, ``nnm | multi-krum(m=4)``, and back."""

from __future__ import annotations

import operator
from dataclasses import fields
from functools import reduce

from flwr_krum.calls import Call, build, look_up, parse_calls, reading
from flwr_krum.rules import MIXINGS, RULES
from flwr_krum.rules.mixing import Chain, Mixing, Mixings
from flwr_krum.rules.rule import Rule


def parse_rule(text: str, **usual: object) -> Rule:
    """Return the rule that a text describes.

    Parameters
    ----------
    text : str
        A name in `RULES`, or a class of the user's own as ``my_rules.py:MyRule`` or
        ``module:MyRule``; arguments follow in parentheses, as in ``multi-krum(m=4)``. Mixings
        stand before it, each with a ``|`` behind: names in `MIXINGS`, or the user's own.
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
    with reading("rule", text):
        calls = parse_calls(text)
        kinds = [look_up(call, {**RULES, **MIXINGS}) for call in calls]
        for call, kind in zip(calls[:-1], kinds, strict=False):
            _check(call, kind, Mixing, "what stands before a | is a mixing")
        _check(calls[-1], kinds[-1], Rule, "a chain ends with a rule")
        parts = [build(call, kind, usual) for call, kind in zip(calls, kinds, strict=True)]
        rule: Rule = reduce(operator.or_, parts)
    return rule


def _check(call: Call, kind: object, wanted: type, why: str) -> None:
    if isinstance(kind, type) and issubclass(kind, wanted):
        return
    raise ValueError(f"{call.name} is no subclass of flwr_krum.rules.{wanted.__name__}: {why}")


def written(rule: Rule | Mixing) -> str:
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
    match rule:
        case Chain(mixing=mixing, rule=behind):
            return f"{written(mixing)} | {written(behind)}"
        case Mixings(parts=parts):
            return " | ".join(map(written, parts))
    options = {
        field.name: value
        for field in fields(rule)
        if (value := getattr(rule, field.name)) != field.default
    }
    return str(Call(_name(type(rule)), (), options))


def _name(kind: type) -> str:
    for name, known in {**RULES, **MIXINGS}.items():
        if known is kind:
            return name
    own = f"{kind.__module__}:{kind.__qualname__}"
    if "<locals>" in own:
        raise ValueError(f"{own} cannot be written: it is a class inside a function")
    return own
