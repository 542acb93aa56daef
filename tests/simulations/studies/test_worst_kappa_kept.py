"""The worst inputs that are kept, worked out anew: what docs/worst-kappa.md says of them."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import pytest

from simulations.studies.plain_geometry import aggregate_of
from simulations.studies.worst_inputs import families
from simulations.studies.worst_kappa import FAR, Unbounded
from simulations.studies.worst_page import PAGE, with_records
from simulations.studies.worst_records import LEFT_OUT, SEARCHED, in_force, kept_in
from tests.simulations.every_honest_set import by_every_set

FOLDER = Path(__file__).parent / "worst_kappa"

ROOT = Path(__file__).parents[3]

KEPT = [
    pytest.param(
        record,
        id=f"{record.rule}-{record.f}-of-{record.n}",
        marks=pytest.mark.slow if record.n == 20 else (),  # 38,760 sets, for each of 23 rules
    )
    for path in sorted(FOLDER.glob("*.json"))
    for record in kept_in(path)
]

SIZES = {(5, 1), (10, 3), (11, 2), (20, 6)}


@pytest.mark.parametrize("record", KEPT)
def test_a_kept_input_brings_its_rule_as_far_as_is_said_of_it(record):
    rule, f = in_force(record.rule, record.n, record.f)
    assert f == record.f
    worst = record.worst
    if isinstance(worst, Unbounded):
        family = families(f)[worst.family]
        inputs, said = [family(record.n, f, t) for t in FAR], worst.kappas
        assert all(later >= 50 * earlier for earlier, later in pairwise(said))
    else:
        inputs, said = [worst.rows], [worst.kappa]
        assert worst.kappa == max(record.by_seed.values())
    for rows, kappa in zip(inputs, said, strict=True):
        assert len(rows) == record.n
        assert by_every_set(rows, rule(rows).vector, f) == pytest.approx(kappa, rel=1e-9)


def test_inputs_are_kept_of_every_size_and_of_no_rule_below_the_floor():
    records = [param.values[0] for param in KEPT]
    assert {tuple(map(int, path.stem.split("-"))) for path in FOLDER.glob("*.json")} == SIZES
    for record in records:
        if not isinstance(record.worst, Unbounded):
            floor = record.f / (record.n - 2 * record.f)
            assert record.worst.kappa >= floor * (1 - 1e-4), record.rule
    assert {r.rule for r in records if r.n == 20} == set(SEARCHED) - {"smea(most_sets=1000)"}


@pytest.mark.parametrize("text", ["median", "trimmed-mean", "meamed", "phocas", "krum"])
def test_no_input_of_whole_numbers_on_a_line_is_worse_than_what_is_kept(text):
    (kept,) = [r.worst.kappa for r in kept_in(FOLDER / "5-1.json") if r.rule == text]
    rule, _ = in_force(text, 5, 1)
    worst = 0.0
    for honest in combinations_with_replacement(range(7), 4):
        for liar in range(-3, 10):
            if len(set(honest)) > 1:
                rows = np.array([[float(liar)], *([float(x)] for x in honest)])
                A = aggregate_of(rule, rows)
                mean = rows[1:].mean()
                worst = max(worst, float((A[0] - mean) ** 2 / rows[1:].var()))
    assert worst <= kept * (1 + 1e-3)


def test_the_page_in_the_repository_tells_of_the_inputs_that_are_kept():
    text = (ROOT / PAGE).read_text()
    assert with_records(text, FOLDER) == text
    assert all(f"- `{name}`: " in text for name in LEFT_OUT)
    assert all(f"<!-- {f} of {n} -->\n`python" in text for n, f in ((5, 1), (20, 6)))
