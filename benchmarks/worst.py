"""The search for replies that hold a round back: what liars can make ``finish`` take at most.

Liars know everything. Directed attacks make scores tie, or nearly, in as many columns as they can;
random ones mix the same ingredients. Each round is compared with an honest one of the same size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Table
from flwr_krum.boundary.npy import encode
from flwr_krum.boundary.replies import Reply
from flwr_krum.kernel.ways import warm_up
from flwr_krum.round import Rounds
from flwr_krum.rules import RULES, Rule

SHAPES = ((20, 1_000_000), (100, 100_000), (50, 1_000_000))
DTYPES = ("float32", "float64")
TIMES, SECONDS = 3.0, 0.1
"""A round may take so many times an honest one, and so many seconds more."""

NUMBERS: Mapping[str, dict[str, Any]] = {"norm-bounding": {"C": 1.0}, "1-p-krum": {"p": 0.0}}
"""Arguments of rules that need some; 1-p Krum is measured where it does not average."""

FEW: Mapping[str, int] = {"smea": 1}
"""How many liars are sent against rules that look at every set of n - f clients."""

Rows = NDArray[Any]


@dataclass(frozen=True)
class Field:
    """Honest rows (h, d) and the global model (d,); nobody trains the columns from ``idle`` on."""

    honest: Rows
    model: Rows
    idle: int

    @property
    def mean(self) -> Rows:
        """Where the honest rows are."""
        mean: Rows = self.honest.mean(axis=0, dtype=np.float64).astype(self.model.dtype)
        return mean


Attack = Callable[[Field, int, np.random.Generator], Rows]
"""Maps what liars know, their number and a source of chance to their rows (f, d)."""


@dataclass(frozen=True)
class Found:
    """The worst round of a rule."""

    rule: str
    f: int
    attack: str
    seconds: float
    honest: float
    note: str

    @property
    def bound(self) -> float:
        """Seconds that it may take."""
        return TIMES * self.honest + SECONDS


# --- attacks ---


def _copies(row: Rows, f: int) -> Rows:
    return np.repeat(row[None, :], f, axis=0)


def one_ulp(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send the global model with one last bit at a column of each one's own."""
    rows = _copies(field.model, f)
    own = field.idle + np.arange(f)
    rows[np.arange(f), own] = np.nextafter(rows[np.arange(f), own], np.inf)
    return rows


def idle_columns(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send the honest mean, and 2^-6 more at an idle column of each one's own."""
    rows = _copies(field.mean, f)
    rows[np.arange(f), field.idle + np.arange(f)] += rows.dtype.type(2.0**-6)
    return rows


def near_copies(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send honest rows with one last bit changed."""
    rows = field.honest[np.arange(f) % len(field.honest)].copy()
    rows[:, 0] = np.nextafter(rows[:, 0], np.inf)
    return rows


def walsh(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send the honest mean with signs of Walsh functions on all idle columns: f dense ties."""
    rows = _copies(field.mean, f)
    rows[:, field.idle :] += (2.0**-12 * _signs(f, rows.shape[1] - field.idle)).astype(rows.dtype)
    return rows


def wide_walsh(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send the same with sizes over a hundred powers of two, for the longest whole numbers."""
    rows = _copies(field.mean, f)
    d = rows.shape[1] - field.idle
    rows[:, field.idle :] = (_signs(f, d) * 2.0 ** -(np.arange(d) // 8 % 100)).astype(rows.dtype)
    return rows


def minus_zero(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send Walsh signs of zero beside a last bit: -0.0 everywhere nobody trains."""
    rows = _copies(field.mean, f)
    d = rows.shape[1] - field.idle
    rows[:, field.idle :] = np.copysign(0.0, _signs(f, d)).astype(rows.dtype)
    rows[np.arange(f), field.idle + np.arange(f)] = np.finfo(rows.dtype).tiny
    return rows


def faint(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send Walsh signs with one of the smallest numbers there are in every block of columns."""
    rows = walsh(field, f, np.random.default_rng(0))
    rows[:, ::512] = np.finfo(rows.dtype).smallest_subnormal
    return rows


def giants(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send numbers of very different sizes, one to a liar."""
    largest = 3e38 if field.model.dtype == np.float32 else 1e300
    sizes = np.resize([largest, 1.0, 1e3, 1e10, 1e20, 7.0], f)
    return np.broadcast_to(sizes[:, None], (f, field.model.size)).astype(field.model.dtype)


def one_giant(field: Field, f: int, _: np.random.Generator) -> Rows:
    """Send near copies, and one row of the largest numbers."""
    rows = idle_columns(field, f, np.random.default_rng(0))
    rows[0] = 3e38 if rows.dtype == np.float32 else 1e300
    return rows


def at_random(field: Field, f: int, rng: np.random.Generator) -> Rows:
    """Mix the ingredients: where from, how many columns, how large, and how alike."""
    d = field.model.size
    start = (field.model, field.mean, field.honest[0])[rng.integers(3)]
    rows = _copies(start, f)
    first = int(rng.choice([0, field.idle]))
    width = max(f, int((d - first) * 10.0 ** rng.uniform(-5, 0)))
    columns = slice(first, min(d, first + width))
    signs = _signs(f, columns.stop - first) if rng.random() < 0.7 else rng.choice([-1.0, 1.0], f)
    spread = 2.0 ** -rng.integers(0, int(rng.choice([1, 40, 140])), columns.stop - first)
    size = 2.0 ** -rng.integers(0, 40)
    with np.errstate(over="ignore"):
        change = (size * spread * np.reshape(signs, (f, -1))).astype(rows.dtype)
        rows[:, columns] = change if rng.random() < 0.5 else rows[:, columns] + change
    if rng.random() < 0.3:
        rows[: max(1, f // 4)] = 10.0 ** rng.uniform(0, 38)
    return rows


def _signs(f: int, d: int) -> NDArray[np.float64]:
    """Return rows of Walsh functions: +1 and -1, every two rows equal in half the columns."""
    columns, rows = np.arange(d), np.arange(1, f + 1)
    signs: NDArray[np.float64]
    signs = 1.0 - 2.0 * (np.bitwise_count(columns[None, :] & rows[:, None]) % 2)
    return signs


ATTACKS: dict[str, Attack] = {
    "one last bit": one_ulp,
    "idle columns": idle_columns,
    "near copies": near_copies,
    "Walsh signs": walsh,
    "wide Walsh signs": wide_walsh,
    "minus zero": minus_zero,
    "faint": faint,
    "giants": giants,
    "one giant": one_giant,
}


# --- rounds ---


def field_of(n: int, f: int, d: int, dtype: str, seed: int = 0) -> Field:
    """Draw a global model and n - f honest rows that train three quarters of its columns."""
    rng = np.random.default_rng([seed, n, d])
    model = rng.standard_normal(d, np.float32).astype(dtype) * np.dtype(dtype).type(0.05)
    idle = max(1, d - max(d // 4, f + 1))
    model[idle:] = 0.0
    honest = _copies(model, n - f)
    for row in honest:
        row[:idle] += rng.standard_normal(idle, np.float32).astype(dtype) * row.dtype.type(1e-3)
    return Field(honest, model, idle)


def seconds_of(rule: Rule, field: Field, lies: Rows) -> tuple[float, str]:
    """Return the wall seconds of a round, from npy bytes to npy bytes, and what it notes."""
    rounds = Rounds(rule, largest_step=math.inf)
    rows = [*field.honest, *lies]
    replies = [Reply(i, {"w": encode(row)}) for i, row in enumerate(rows)]
    rounds.begin({"w": field.model}, range(len(rows)))
    begin = time.perf_counter()
    _, report = rounds.finish(1, replies)
    return time.perf_counter() - begin, report.note


def rules_of(n: int) -> Iterator[tuple[str, Rule]]:
    """Yield the rules that can do alone what n clients send, each with as many liars as it bears.

    Without those that need a row of the server's.
    """
    for name, kind in RULES.items():
        rule: Any = kind(**NUMBERS.get(name, {}))
        f = max(0, rule.most(n)) if rule.most(n) < n else 0
        if not rule.server_rows:
            yield name, rule.fitted(n, min(f, FEW.get(name, 2 * n // 5)))


def search(
    n: int,
    d: int,
    dtype: str,
    rules: Sequence[str] = tuple(RULES),
    random_attacks: int = 6,
    tell: Callable[[str], None] = print,
) -> list[Found]:
    """Return the worst round that was found for each rule, of n clients and d columns."""
    warm_up("cpu", n, d)
    found = []
    for name, rule in rules_of(n):
        if name not in rules:
            continue
        f = max(1, rule.f or 0)
        tell(f"{name}, n = {n}, d = {d:,}, {dtype}")
        field = field_of(n, f, d, dtype)
        in_peace = field_of(n, 0, d, dtype, seed=1)
        honest = min(seconds_of(rule, in_peace, in_peace.honest[:0])[0] for _ in range(3))
        worst = Found(name, f, "none", 0.0, honest, "")
        chances = {f"random {k}": at_random for k in range(random_attacks)}
        for attack, forge in {**ATTACKS, **chances}.items():
            seed = [n, d, *attack.encode()]
            lies = forge(field, f, np.random.default_rng(seed))
            seconds, note = min(seconds_of(rule, field, lies) for _ in range(2))
            if seconds > worst.seconds:
                worst = Found(name, f, attack, seconds, honest, note)
        found.append(worst)
    return found


# --- what is shown ---


def table_of(n: int, d: int, dtype: str, found: Sequence[Found]) -> Table:
    """Return the worst rounds of one size beside what they may take."""
    rows = tuple(
        (
            f"{x.rule}, f = {x.f}",
            x.attack,
            f"{x.honest:.3f}",
            f"{x.seconds:.3f}",
            f"{x.bound:.3f}",
            "yes" if x.seconds <= x.bound else "**no**",
            "undecided" if x.note.startswith("undecided") else "",
        )
        for x in found
    )
    columns = ("rule", "worst attack", "honest, s", "worst, s", "bound, s", "within", "order")
    return Table(f"n = {n}, d = {d:,}, {dtype}", columns, rows)


def page(tables: Sequence[Table], machine: Mapping[str, str]) -> str:
    """Return what the search found as Markdown."""
    parts = [
        "# The worst that replies can cost\n",
        (
            "Made by `python -m benchmarks worst`. Liars who know everything send what makes "
            "scores tie, or nearly, in as many columns as they can; the attacks are the functions "
            "of `benchmarks/worst.py`, and random mixtures of their ingredients. Each round goes "
            f"from npy bytes to npy bytes and may take {TIMES:g} times an honest one of the same "
            f"size and {SECONDS:g} s more (wall time; of two rounds the quicker, of three honest "
            "ones). *Undecided* means that the worst round was one whose places rounding decided, "
            "since exact arithmetic would have cost more: the report of such a round says so.\n"
        ),
        *(made.markdown() for made in tables),
        "### Where this was measured\n",
        *(f"- {name}: {value}" for name, value in machine.items()),
    ]
    return "\n".join(parts) + "\n"
