"""Rules and mixings of this package as the page compares them, and worked examples of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.conformance.compare import Inputs, Pairs, Solve
from benchmarks.conformance.samples import Float64, Sample
from flwr_krum.kernel.client_geometry import ClientGeometry
from flwr_krum.rules import MIXINGS, RULES, Bucketing, ClientUpdates, Mixing
from flwr_krum.rules.rule import ROOT
from flwr_krum.rules.written import parse_rule

TAU, STEPS, RADIUS, LIMIT, BUCKET, SEED = 1.0, 3, 1.0, 2.0, 2, 7
"""Of centred clipping, norm bounding, clipping and bucketing; of the permutation."""

WRITTEN = {
    "centered-clipping": f"centered-clipping(tau={TAU}, steps={STEPS})",
    "norm-bounding": f"norm-bounding(C={RADIUS})",
    "clipping": f"clipping(C={LIMIT})",
    "bucketing": f"bucketing(s={BUCKET})",
}
"""Rules and mixings that are not compared with what is their default."""

ABOUT_THE_MODEL = ("centered-clipping", "norm-bounding", "cge", "clipping", "arc")
"""What asks how far a model is from the global one: updates and models are not the same to it."""


def ours(name: str) -> Solve:
    """Return a rule's aggregate, or a mixing's models, of a round."""
    return _mixed(name) if name in MIXINGS else _aggregated(name)


def fitting(name: str, sample: Sample) -> Sample:
    """Return the sample with as many Byzantine clients as the rule can bear, f at most."""
    if name in MIXINGS:
        return sample
    return replace(sample, f=min(sample.f, max(0, RULES[name]().most(len(sample.V)))))


def permutation(n: int) -> list[int]:
    """Return the clients in the order in which `Bucketing` fills its buckets."""
    one_by_one = Bucketing(s=1, seed=SEED).matrix(ClientGeometry(_updates(np.zeros((n, 1)))), 1)
    return [int(i) for i in one_by_one.argmax(axis=1)]


def _aggregated(name: str) -> Solve:
    def solve(sample: Sample) -> Float64:
        rule = parse_rule(WRITTEN.get(name, name), f=sample.f, seed=SEED)
        pivot = sample.V[0] if name == "monna" else sample.root
        rows = {ROOT: pivot} if rule.server_rows else {}
        updates = _updates(sample.V, np.broadcast_to(sample.w, sample.V[0].shape), rows)
        return np.asarray(rule(updates).vector, dtype=np.float64)

    return solve


def _mixed(name: str) -> Solve:
    def solve(sample: Sample) -> Float64:
        chain = parse_rule(f"{WRITTEN.get(name, name)} | average", f=sample.f, seed=SEED)
        mixing: Mixing = chain.fitted(len(sample.V), sample.f).mixing  # type: ignore[attr-defined]
        w = np.broadcast_to(sample.w, sample.V[0].shape)
        M = mixing.matrix(ClientGeometry(_updates(sample.V, w)), 1)
        return w + M @ sample.updates

    return solve


def _updates(
    V: Float64, w: Float64 | None = None, rows: dict[str, Float64] | None = None
) -> ClientUpdates:
    server = {name: [row] for name, row in (rows or {}).items()}
    base = None if w is None else [w]
    return ClientUpdates.from_layers([[row] for row in V], base, server_rows=server)


def inputs(name: str, random: Sequence[Sample], tied: Sequence[Sample]) -> Inputs:
    """Return the inputs of a rule with its results."""
    solve = ours(name)

    def solved(samples: Sequence[Sample]) -> Pairs:
        fitted = [fitting(name, sample) for sample in samples]
        return tuple((sample, solve(sample)) for sample in fitted)

    return Inputs(worked(name), solved(random), solved(tied))


_A = [
    (1, 2), (1.5, 1.8), (0.8, 2.4), (1.2, 1.5), (0.6, 1.9),
    (1.1, 2.6), (1.4, 2.2), (5, -3), (4, -2),
]  # fmt: skip
_B = [
    (2.4, 1.8), (0.3, 3.1), (2.8, 0.9), (2.1, -3.8), (-2, -2.1),
    (1.7, 3.7), (-4, 0), (-0.4, 0.5), (-1.2, -0.1),
]  # fmt: skip
_L = [
    (-1, 2), (7, -9), (5, -2), (-8, -4), (-6, 2), (6, -2),
    (3, 8), (-6, 9), (-2, -9), (-3, 4), (-1, -4),
]  # fmt: skip


def _sample(V: Sequence[Sequence[float]], f: int, w: Sequence[float] = (0.0,)) -> Sample:
    root = np.add(w, (0.7, 0.9)) if len(w) == 2 else np.array(w)
    return Sample(np.array(V, dtype=np.float64), f, np.array(w, dtype=np.float64), root)


_A9, _B9, _B8 = _sample(_A, 2, (0.5, 1.0)), _sample(_B, 2, (0.5, -1.0)), _sample(_B[:8], 2)
_E8 = _sample([(x,) for x in (0, 1, 2, 4, 7, 11, 16, 22)], 2)
_K5 = _sample([(x,) for x in (0, 3, 6, 10, 11)], 1)
_L11, _L7 = _sample(_L, 2), _sample([(x,) for x in (-2, 2, 3, -5, -3, -8, -7)], 1)

_WORKED: dict[str, list[tuple[Sample, Sequence[object]]]] = {
    "krum": [(_K5, (10,)), (_B9, (2.4, 1.8))],
    "multi-krum": [(_B9, (0.5142857142857142, 1.1142857142857143))],
    "median": [(_A9, (1.2, 1.9)), (_B9, (0.3, 0.5)), (_B8, (1.0, 0.7)), (_E8, (5.5,))],
    "trimmed-mean": [(_A9, (1.24, 1.88)), (_B9, (0.5, 0.62)), (_B8, (0.925, 0.8)), (_E8, (6,))],
    "meamed": [
        (_A9, (1.0857142857142856, 2.057142857142857)),
        (_B9, (0.4142857142857143, 0.5857142857142857)),
        (_B8, (1.4833333333333334, 0.7)),
        (_E8, (4.166666666666667,)),
    ],
    "phocas": [
        (_A9, (1.0857142857142856, 2.057142857142857)),
        (_B9, (1.1, 0.5857142857142857)),
        (_B8, (1.4833333333333334, 0.7)),
        (_E8, (4.166666666666667,)),
    ],
    "geometric-median": [(_A9, (1.2006671213059767, 1.913160417127559)), (_B9, (-0.4, 0.5))],
    "minimum-diameter": [
        (_A9, (1.0857142857142856, 2.057142857142857)),
        (_B9, (-0.3, 0.5857142857142857)),
    ],
    "centered-clipping": [(_B9, (0.13416513902567712, 0.021241223698707845))],
    "norm-bounding": [(_B9, (0.35971967061025467, -0.5885092632558704))],
    "caf": [
        (_A9, (1.094193572009791, 2.043086006693637)),
        (_B9, (0.18888888888888888, 0.44444444444444464)),
    ],
    "smea": [
        (_A9, (1.0857142857142856, 2.057142857142857)),
        (_B9, (-0.4, -0.08571428571428565)),
    ],
    "cge": [(_B9, (0.5714285714285715, 0.042857142857142705))],
    "bulyan": [(_L11, (-1.6666666666666667, -3.3333333333333335)), (_L7, (-3.3333333333333335,))],
    "dnc": [(_B9, (0.2857142857142857, 0.34285714285714297))],
    "monna": [(_B9, (1.1, 0.8714285714285717))],
    "fltrust": [(_B9, (0.8744270494478712, -0.032528447356264145))],
    "nnm": [
        (
            _B9,
            [
                (1.1, 0.871428571429), (0.228571428571, 1.41428571429), (1.1, 0.871428571429),
                (0.571428571429, 0.0428571428571), (-0.342857142857, -0.214285714286),
                (0.228571428571, 1.41428571429), (-0.457142857143, 0.985714285714),
                (-0.3, 0.585714285714), (-0.3, 0.585714285714),
            ],
        )
    ],
    "arc": [
        (
            _B9,
            [
                _B[0], (0.335133360251, 2.37976611485), *_B[2:5], (1.33709168072, 2.27860908284),
                (-2.80320699784, -0.26595400048), *_B[7:],
            ],
        )
    ],
}  # fmt: skip


def worked(name: str) -> Pairs:
    """Return inputs of a rule whose results were worked out by independent loops."""
    return tuple(
        (sample, np.array(result, dtype=np.float64)) for sample, result in _WORKED.get(name, [])
    )
