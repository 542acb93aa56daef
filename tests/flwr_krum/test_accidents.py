"""Rounds in which f clients lie and up to f others meet with accidents, drawn at random.

Of n clients, at least 3f + 3 and as many as leave the rule enough after f accidents, no round
raises, is captured or stalls. What is captured is told from the honest clients alone.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from flwr_krum.attacks import FAULTS
from flwr_krum.rules import MIXINGS, RULES
from tests.flwr_krum.references import f_in_force
from tests.flwr_krum.test_fuzz import quiet

QUICK, ALL = 200, 50_000
SEED = 20171204
SECONDS = 0.1
"""What a round may take beyond three times an honest one."""

OPTIONS = {"1-p-krum": {"seed": 0}, "smea": {"most_sets": 300}, "norm-bounding": {"C": 1.0}}
CHAINS = ("nnm | trimmed-mean", "nnm | krum", "arc | median", "arc | multi-krum")
NAMES = (*RULES, *CHAINS)

LENGTHS = {
    "average": 10.0,
    "1-p-krum": 10.0,
    "norm-bounding": 10.0,
    "dnc": 10.0,
    "cge": 1.0,
    "centered-clipping": 1.0,
    "fltrust": 1.0,
}
"""Rules that promise only a step of so many times the longest honest one."""

MEANS = ("average", "norm-bounding")
"""Rules for which no f but 0 is legal."""

REFUSED = ("nan", "one-nan", "inf", "wrong-size", "missing-array", "truncated")
ACCIDENTS = ("silence", "crash", *REFUSED)
BROKEN = ("silence", "crash", *FAULTS)

# --- drawing a round ---


def column(count: int, d: int, value: Any) -> np.ndarray:
    """Return the same row for every liar, or a number of each one's own throughout a row."""
    return np.broadcast_to(value, (count, d))


def lies_of(H: np.ndarray, w: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return kinds of lies (count, d): liars know all honest rows H and the global model w."""
    mean, spread, d = H.mean(axis=0), H.std(axis=0), len(w)
    way = rng.standard_normal((count, d))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    near = np.linalg.norm(H - mean, axis=1).max() * 10.0 ** rng.uniform(-3, 2)
    giants = np.array([3e38, 1.0, 1e3, 1e10, 1e20, 7.0])
    return [
        column(count, d, rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(0, 38)),
        way * 10.0 ** rng.uniform(-38, 37, (count, 1)),
        column(count, d, w - (mean - w) * 10.0 ** rng.uniform(-2, 6)),
        column(count, d, mean + near * way[0]),
        mean + near * way,
        column(count, d, mean - rng.uniform(0, 3) * spread),
        np.nextafter(column(count, d, w), w + way),
        np.nextafter(H[rng.integers(len(H), size=count)], 0.0),
        column(count, d, H[rng.integers(len(H))]),
        column(count, d, w),
        np.where(rng.random((count, d)) < 0.5, 3e38, -3e38),
        column(count, d, np.where(np.arange(d) == rng.integers(d), 1e30, mean)),
        column(count, d, giants[np.arange(count) % len(giants), None]),
    ]


Model = dict[str, np.ndarray]


@dataclass(frozen=True)
class Round:
    """A rule, how many lie and how many are said to, and what each client sends.

    ``sent`` has a model for each client, or the name of what befalls an honest one; ``honest``
    are the rows of those who are honest and sound.
    """

    rule: str
    f: int
    declared: int | None
    model: Model
    sent: dict[int, Model | str]
    honest: np.ndarray

    def build(self) -> Any:
        return rule_of(self.rule, self.declared)

    def on_the_server(self, rule: Any) -> dict[str, Any]:
        """Return the options of a server that, if the rule asks, has the honest clients' mean."""
        own = list(model_of(self.honest.mean(axis=0), self.model).values())
        return {"root": lambda _: own} if "root" in rule.server_rows else {}

    def in_peace(self) -> Round:
        """Return the round of as many honest clients."""
        rows = self.honest
        sent = {i: model_of(rows[i % len(rows)], self.model) for i in self.sent}
        return replace(self, sent=sent)


def rule_of(name: str, f: int | None) -> Any:
    *before, last = name.split(" | ")
    rule: Any = RULES[last](f, **OPTIONS.get(last, {}))
    for mixing in before:
        rule = MIXINGS[mixing]() | rule
    return rule


def row_of(model: Model) -> np.ndarray:
    """Return a model's floats as one row."""
    return np.concatenate([a.ravel() for a in model.values() if a.dtype.kind == "f"]).astype(float)


def model_of(row: np.ndarray, like: Model) -> Model:
    """Return the model of a row of floats; a counter goes up by one."""
    model, start = {}, 0
    for key, array in like.items():
        if array.dtype.kind == "f":
            model[key] = row[start : start + array.size].reshape(array.shape).astype(array.dtype)
            start += array.size
        else:
            model[key] = np.asarray(array + 1)
    return model


def drawn_model(rng: np.random.Generator) -> Model:
    dtype = rng.choice([np.float32, np.float32, np.float64])
    rows, columns = rng.integers(1, 8, 2)
    model = {
        "w": (10.0 ** rng.uniform(-4, 2) * rng.standard_normal((rows, columns))).astype(dtype),
        "b": rng.standard_normal(columns).astype(dtype),
    }
    return model | ({"seen": np.array(7)} if rng.random() < 0.3 else {})


def drawn(number: int) -> Round:
    """Draw a round; all rules take their turns."""
    rng = np.random.default_rng([SEED, number])
    name, f = NAMES[number % len(NAMES)], int(rng.integers(1, 6))
    accidents = int(rng.integers(0, f + 1))
    n = max(3 * f + 3, rule_of(name, f).least(f) + f) + int(rng.integers(0, 4))
    model = drawn_model(rng)
    w = row_of(model)
    scale = np.abs(w).max() * 10.0 ** rng.uniform(-2, 1)
    spread = scale * 10.0 ** rng.uniform(-2, 0)
    H = w + scale * rng.standard_normal(len(w)) + spread * rng.standard_normal((n - f, len(w)))
    H = H.astype(model["w"].dtype).astype(float)
    sent: list[Model | str] = [model_of(row, model) for row in H]
    common = rng.choice(ACCIDENTS)
    for i in range(accidents):
        sent[i] = str(common if rng.random() < 0.7 else rng.choice(ACCIDENTS))
    with np.errstate(over="ignore"):
        kinds = lies_of(H[accidents:], w, f, rng)
        of_all, alone = int(rng.integers(len(kinds))), rng.random() < 0.3
        for i in range(f):
            kind = int(rng.integers(len(kinds))) if alone else of_all
            broken = rng.random() < 0.15
            sent.append(str(rng.choice(BROKEN)) if broken else model_of(kinds[kind][i], model))
    places = rng.permutation(n) + 1
    by_client = {int(place): what for place, what in zip(places, sent, strict=True)}
    return Round(name, f, None if rng.random() < 0.2 else f, model, by_client, H[accidents:])


# --- playing it ---


def contents_of(round_: Round, federation: Any) -> list[tuple[int, RecordDict | Exception]]:
    """Return what comes from the network, in an order of its own."""
    contents: list[tuple[int, RecordDict | Exception]] = []
    for client, what in round_.sent.items():
        if what == "crash":
            contents.append((client, RuntimeError("out of memory")))
        elif what != "silence":
            model = model_of(round_.honest[0], round_.model) if isinstance(what, str) else what
            content = federation.content(model, 10, {"loss": 0.5})
            if isinstance(what, str):
                FAULTS[what](content)
            contents.append((client, content))
    return contents


def play(round_: Round, federation: Any) -> tuple[np.ndarray | None, Any, float]:
    """Return the new model as a row, the report, and the seconds of the processor."""
    rule = round_.build()
    strategy = federation.custom(rule, **round_.on_the_server(rule))
    model: Any = round_.model if federation.names_arrays else [*round_.model.values()]
    federation.configure(strategy, model, sorted(round_.sent))
    contents = contents_of(round_, federation)
    before = time.process_time()
    found, _ = federation.deliver(strategy, contents)
    spent = time.process_time() - before
    return None if found is None else row_of(found), strategy.reports[-1], spent


def stalled(round_: Round, federation: Any, spent: float) -> str:
    """Say if a round takes longer than the bound, also the second time."""
    if spent <= SECONDS:
        return ""
    usual = min(play(round_.in_peace(), federation)[2] for _ in range(2))
    spent = min(play(round_, federation)[2] for _ in range(2))
    return f"took {spent:.3f} s, in peace {usual:.3f} s" if spent > 3 * usual + SECONDS else ""


def misjudged(round_: Round, report: Any) -> str:
    """Say if the f in force is not what the declared one and the refusals make it."""
    if round_.declared is None:
        return ""
    accepted, refused = len(report.received), len(report.refused)
    least = (lambda f: math.inf if f else 1) if round_.rule in MEANS else round_.build().least
    expected = f_in_force(round_.f, accepted, refused, least)
    return "" if report.byzantine == expected else f"f is {report.byzantine}, expected {expected}"


def captured(round_: Round, model: np.ndarray) -> str:
    """Say if the model is further from the honest clients than any robust rule allows.

    A client whose score is as good as an honest one's lies within ``2 sqrt(n)`` radii of one;
    means of such, and values between honest ones, are no further. Rules in LENGTHS only bound the
    step.
    """
    centre, start = round_.honest.mean(axis=0), row_of(round_.model)
    away = np.linalg.norm(model - centre)
    radius = np.linalg.norm(round_.honest - centre, axis=1).max()
    if round_.rule.startswith("arc"):
        radius *= 3.0  # it shortens honest updates to another honest one's length
    bound = 3.0 * (1.0 + math.sqrt(len(round_.sent))) * radius
    if round_.rule in LENGTHS:
        away = np.linalg.norm(model - start)
        longest = np.linalg.norm(round_.honest - start, axis=1).max()
        bound = max(LENGTHS[round_.rule] * longest, OPTIONS.get(round_.rule, {}).get("C", 0.0))
    rounding = 1e-6 * np.abs(round_.honest).max() * math.sqrt(len(model))
    return "" if away <= bound + rounding else f"{away:.3g} away, at most {bound:.3g}"


def problem(round_: Round, federation: Any) -> tuple[str, bool]:
    """Say what is wrong with a round, and whether the model moved."""
    model, report, spent = play(round_, federation)
    wrong = stalled(round_, federation, spent) or misjudged(round_, report)
    if model is not None:
        return wrong or captured(round_, model), True
    return wrong or ("" if report.note else "skipped without a word"), False


@pytest.mark.parametrize("rounds", [QUICK, pytest.param(ALL, marks=pytest.mark.slow)])
def test_no_lies_beside_accidents_raise_capture_or_stall_a_round(federation, rounds):
    moved = Counter[bool]()
    with quiet(), warnings.catch_warnings(action="ignore"):
        for number in range(rounds):
            round_ = drawn(number)
            wrong, stepped = problem(round_, federation)
            assert not wrong, f"round {number}: {round_.rule}, f={round_.f}: {wrong}"
            moved[stepped] += 1
    assert moved[True] > 0.7 * rounds
