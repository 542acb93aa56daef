"""How many liars a round reckons with: the f in force, and what it rests on."""

from __future__ import annotations

from typing import NamedTuple

from flwr_krum.rules.rule import Rule

WAY_OUT = 'on_infeasible="degrade" goes on without the bound on f'


_MORE_THAN_F = "honest ones among them"


class InForce(NamedTuple):
    """The f that a round's rule is given, and why it is that one."""

    f: int
    basis: str


def is_exceeded(basis: str) -> bool:
    """Say whether more replies were refused than f: there are more liars, or honest ones fail."""
    return basis.endswith(_MORE_THAN_F)


def f_in_force(rule: Rule, accepted: int, refused: int, asked: int, late: int = 0) -> InForce:
    """Return the f in force: the declared one, lowered only by what refusals account for.

    A refused reply is a liar's or an honest client's broken one, and nobody can tell. With r
    refused, f in force is the largest legal f that is at most the declared one and at least
    ``f - r``. If ``r > f``, honest replies were refused too, and f stays whole; so it does where
    no such f is legal, and the round is then infeasible. Silence and errors prove nothing. Where
    replies were late the refused prove nothing either: liars answer first, and the clients that a
    round did not wait for may be the honest ones.

    Parameters
    ----------
    rule : Rule
        Its f is the declared one; None declares as many as the rule tolerates among the replies,
        and at least one where it would tolerate one among those that were asked: silence must
        not leave a round to whoever answers.
    accepted, refused : int
        Replies of this round, the refused ones of clients that were asked.
    asked : int
        Clients that were asked; 0 if that is not known.
    late : int
        Clients whose reply a quorum did not wait for.
    """
    replies = accepted + refused
    if rule.f is None:
        f = max(0, rule.most(replies), min(1, rule.most(asked)))
        basis = f"as many as the rule tolerates among {replies} replies"
        if f > rule.most(replies):
            basis = f"at least 1 where {asked} clients are asked"
    else:
        f, basis = rule.f, "declared"
    if refused == 0 or not rule.strict:
        return InForce(f, basis)
    if refused > f:
        return InForce(f, f"{basis}; {refused} replies were refused, {_MORE_THAN_F}")
    if late:
        return InForce(f, f"{basis}; {refused} replies were refused, and {late} were late")
    legal = min(f, rule.most(accepted))
    if f - refused <= legal < f:
        return InForce(legal, f"{basis} {f}, lowered: {refused} replies were refused")
    return InForce(f, basis)


def check_quorum(quorum: int, rule: Rule, least: int = 1) -> None:
    """Raise ValueError unless so many replies are enough for the f of all that are asked.

    Parameters
    ----------
    quorum : int
        Replies after which a round may close.
    rule : Rule
        Its f must be declared: one that follows the replies would be lowered by the late.
    least : int
        Replies that are needed besides what the rule says.
    """
    name = type(rule).__name__
    if rule.f is None and rule.bears_liars:
        raise ValueError(
            f"quorum is {quorum}, and the f of {name} follows the replies, so that the late would "
            "lower it: declare f, or leave the quorum out"
        )
    if quorum < (needed := max(rule.least_clients, least)):
        raise ValueError(
            f"quorum is {quorum}, and {name} needs {needed} replies at f={rule.f or 0}: "
            f"legal is a quorum >= {needed}, or a smaller f"
        )


def quorum_in_force(quorum: int, needed: int, f: int, sampled: int, asked: int) -> int:
    """Return how many replies make a quorum where not all that were sampled are asked.

    With ``missing = max(0, min(f, sampled - quorum))``

        min(quorum, max(needed, asked - missing))

    so that as many of the asked may stay silent as of the sampled, f at most. Else nodes in
    quarantine would put the quorum out of reach, and one silent node would cost each round its
    timeout.

    Parameters
    ----------
    quorum : int
        What the operator set.
    needed : int
        The least that is legal.
    f : int
    sampled, asked : int

    Examples
    --------
    >>> quorum_in_force(15, 11, 4, 20, 20)
    15
    >>> quorum_in_force(15, 11, 4, 20, 16)
    12
    """
    missing = max(0, min(f, sampled - quorum))
    return min(quorum, max(needed, asked - missing))


def obstacle(rule: Rule, n: int) -> str:
    """Say why the rule cannot run on n clients; empty if it can."""
    if n == 0:
        return "no reply was accepted"
    try:
        rule.check(n)
    except ValueError as error:
        return f"{error}; {WAY_OUT}"
    return ""


def prospects(rule: Rule, fate: str, asked: int, least: int = 1) -> tuple[bool, str]:
    """Say whether rounds that ask so many clients can lose a reply, and what comes of it.

    Parameters
    ----------
    rule : Rule
        Its f is the declared one; None follows the replies, and is at least 1 where the rule can
        bear one among the clients that are asked.
    fate : str
        What becomes of a round for which the replies are too few.
    asked : int
        Clients of whom a round asks for a reply.
    least : int
        Replies that are needed besides what the rule says.
    """
    f = max(0, min(1, rule.most(asked))) if rule.f is None else rule.f
    needed = max(least, rule.least(f)) if rule.strict else 1
    why = f"f={f}" if rule.f is not None else "f follows their number"
    text = f"{asked} are asked, {needed} replies are needed ({why}): "
    if asked < needed:
        return False, f"{text}every round is {fate}"
    return asked > needed, f"{text}{asked - needed or 'none'} may be lost"
