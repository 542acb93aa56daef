"""Attacks as text, ``on-off(period=10) | alie(z=1.5)``, and back."""

from __future__ import annotations

from dataclasses import fields

from flwr_krum.attacks.attack import Attack, Wrapper
from flwr_krum.attacks.names import ATTACKS, WRAPPERS
from flwr_krum.calls import Call, build, look_up, parse_calls, reading


def parse_attack(text: str, **usual: object) -> Attack:
    """Return the attack that a text describes.

    Parameters
    ----------
    text : str
        A name in `ATTACKS`, or a class of the user's own as ``my_attacks.py:MyAttack`` or
        ``module:MyAttack``; arguments follow in parentheses, as in ``alie(z=1.5)``. Names in
        `WRAPPERS` stand before it, each with a ``|`` behind.
    **usual
        Arguments for whatever takes them and leaves them open in the text.

    Raises
    ------
    ValueError
        If the text is no call, a name does not exist, a file cannot be imported, or an argument
        is not the attack's or not legal.

    Examples
    --------
    >>> parse_attack("sign-flip(scale=10)")
    SignFlip(scale=10, of='own')
    """
    with reading("attack", text):
        *before, last = parse_calls(text)
        attack = _built(last, Attack, usual, "an attack")
        for call in reversed(before):
            why = "what stands before a | decides when the attack behind it is at work"
            attack = _built(call, Wrapper, {**usual, "attack": attack}, why)
    return attack


def _built(call: Call, wanted: type, usual: dict[str, object], why: str) -> Attack:
    kind = look_up(call, {**ATTACKS, **WRAPPERS})
    fits = isinstance(kind, type) and issubclass(kind, wanted)
    if not fits:
        raise ValueError(
            f"{call.name} is no subclass of {wanted.__module__}.{wanted.__name__}: {why}"
        )
    if wanted is Attack and issubclass(kind, Wrapper):
        raise ValueError(f"{call.name} wraps an attack: write {call.name} | {next(iter(ATTACKS))}")
    attack: Attack = build(call, kind, usual)
    return attack


def written(attack: Attack) -> str:
    """Return the text that `parse_attack` reads as the same attack, without what is the default.

    Raises
    ------
    ValueError
        If an argument is neither number nor text.

    Examples
    --------
    >>> from flwr_krum.attacks import SignFlip
    >>> written(SignFlip(scale=10))
    'sign-flip(scale=10)'
    """
    options = {
        each.name: value
        for each in fields(attack)
        if (value := getattr(attack, each.name)) != each.default and each.name != "attack"
    }
    text = str(Call(name_of(type(attack)), (), options))
    return f"{text} | {written(attack.attack)}" if isinstance(attack, Wrapper) else text


def name_of(kind: type[Attack]) -> str:
    """Return the name under which a kind of attack is written."""
    names = {known: name for name, known in {**ATTACKS, **WRAPPERS}.items()}
    return names.get(kind, f"{kind.__module__}:{kind.__qualname__}")
