"""Splits as text, ``dirichlet(alpha=0.1)``, and one's own as ``my_splits.py:mine(beta=2)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from clients.tasks.splits import SPLITS, Labels, Rows, Split
from flwr_krum.calls import Call, build, look_up, parse_call, reading

ADAPTED = "flwr-datasets:"
"""Before the name of a partitioner of that package."""

Division = Callable[[Labels, int, np.random.Generator], Any]
"""A `Split`, or one's own function of the same arguments, whose answer is still to be checked."""


def parse_split(text: str) -> Division:
    """Return the split that a text describes.

    Parameters
    ----------
    text : str
        A name in `SPLITS`; ``flwr-datasets:DirichletPartitioner``, or another partitioner of that
        package; or one's own as ``file.py:Object`` or ``module:Object``: a function of ``labels``,
        ``n``, ``rng`` and arguments of its own, a class whose objects are called as a `Split` is,
        or a partitioner or the class of one. Arguments follow in parentheses.

    Raises
    ------
    ValueError
        If the text is no call, a name does not exist, a file cannot be imported, or an argument
        is not the split's or not legal.

    Examples
    --------
    >>> parse_split("dirichlet(alpha=0.3)")
    Dirichlet(alpha=0.3, least=10, balanced=False)
    """
    with reading("split", text):
        return _made(parse_call(text))


def _made(call: Call) -> Division:
    if call.name.startswith(ADAPTED):
        return _adapted(call)
    kind = look_up(call, SPLITS)
    if call.is_own and _is_partitioner(kind):
        return _adapted(call, kind)
    if isinstance(kind, type):
        kind = build(call, kind, {})
    elif callable(kind) and not isinstance(kind, Split):
        return lambda labels, n, rng: build(call, kind, {"labels": labels, "n": n, "rng": rng})
    if not callable(kind):
        raise ValueError(f"{call.name} cannot be called: a split is called with labels, n and rng")
    made: Division = kind
    return made


def _is_partitioner(kind: Any) -> bool:
    """Say whether a class or an object has the public face of flwr-datasets' partitioners."""
    of = kind if isinstance(kind, type) else type(kind)
    return all(hasattr(of, name) for name in ("dataset", "num_partitions", "load_partition"))


def _adapted(call: Call, kind: Any = None) -> Split:
    try:
        from clients.tasks.flwr_datasets import Partitioned, of_the_package
    except ImportError as error:
        raise ValueError(f"{error}: install it with: pip install flwr-datasets") from error
    return Partitioned(call, kind or of_the_package(call.name.removeprefix(ADAPTED)))


def divide(text: str, labels: Labels, n: int, rng: np.random.Generator) -> list[Rows]:
    """Return the rows of each of n clients, none of them empty.

    Raises
    ------
    ValueError
        If the text is none of a split, the split does not exist for these clients and labels,
        what one of one's own returns is none, or a client would hold nothing.
    """
    split = parse_split(text)
    try:
        shards = split(labels, n, rng)
        return _checked(shards, len(labels), n)
    except Exception as error:  # one of the user's own may raise anything
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"split is {text!r}: {said}") from error


def _checked(shards: Any, total: int, n: int) -> list[Rows]:
    arrays = [np.asarray(rows) for rows in shards]
    if len(arrays) != n:
        raise ValueError(f"it returns {len(arrays)} arrays of rows, expected n = {n}")
    for client, rows in enumerate(arrays):
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(
                f"client {client}'s rows are of {rows.dtype} and shape {rows.shape}, expected "
                "whole numbers in one dimension"
            )
        if not rows.size:
            raise ValueError(
                f"client {client} of {n} holds no example; a least size (least=1) where the split "
                "takes one, fewer clients or another seed give it some"
            )
    dealt = np.concatenate(arrays)
    if dealt.min() < 0 or dealt.max() >= total:
        raise ValueError(f"it deals row {dealt.max()}, expected rows from 0 to {total - 1}")
    twice = np.flatnonzero(np.bincount(dealt, minlength=total) > 1)
    if len(twice):
        raise ValueError(f"it deals row {twice[0]} more than once")
    return [rows.astype(np.int64, copy=False) for rows in arrays]
