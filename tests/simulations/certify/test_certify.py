"""Rules judged on the replies of a run that is over."""

import json

import numpy as np
import pytest

from flwr_krum.boundary.replies import Reply
from flwr_krum.recorded import read_distances
from flwr_krum.round import Rounds
from flwr_krum.rules import RULES, Average, MultiKrum
from simulations.certify.judge import BY_COORDINATE, as_it_was, judged, why_not
from tests.flwr_krum.every_set import Round
from tests.flwr_krum.npy_bytes import npy

N, F, D = 11, 2, 5


def replies_of(t):
    """Return the rows of a round; in odd rounds the first F lie far away."""
    rng = np.random.default_rng(t)
    X = 0.1 * rng.standard_normal((N, D))
    X[:F] += 50.0 * (t % 2)
    return X


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "distances.jsonl"
    rounds = Rounds(MultiKrum(F), distances=path)
    for t in range(1, 5):
        rounds.begin({"w": np.zeros(D)}, range(N))
        rounds.finish(t, [Reply(i, {"w": npy(row)}) for i, row in enumerate(replies_of(t))])
    return read_distances(path)


@pytest.mark.parametrize("rule", ["average", "multi-krum", "nnm | krum"])
def test_a_rules_row_says_what_a_look_at_every_set_of_every_round_finds(records, rule):
    found = judged(rule, records, F, seed=0)
    kappas, survived = [], []
    for record in records:
        X = replies_of(record.server_round)
        kind = {"average": Average(F), "multi-krum": MultiKrum(F)}.get(rule)
        weights = kind(X).choice.mix[0] if kind else _nnm_krum(X)
        truths = [Round(X, weights, np.zeros(D)).truth(N - k) for k in range((N + 1) // 2)]
        fails = [truth.kappa > record.limit for truth in truths]
        kappas.append(float(truths[F].kappa))
        survived.append(fails.index(True) - 1 if any(fails) else len(fails) - 1)
    assert found.kappa == pytest.approx(np.median(kappas), rel=1e-6)
    assert found.survives == min(survived)
    held = np.mean([kappa <= records[0].limit for kappa in kappas])
    shares = [found.share(verdict) for verdict in ("holds", "does not hold", "cannot be known")]
    assert shares == [held, 1.0 - held, 0.0]


def _nnm_krum(X):
    """Return the weights of nearest-neighbour mixing and Krum, by loops."""
    squared = ((X[:, None] - X) ** 2).sum(axis=-1)
    mix = np.zeros((N, N))
    for i in range(N):
        mix[i, np.argsort(squared[i], kind="stable")[: N - F]] = 1.0 / (N - F)
    Y = mix @ X
    apart = np.sort(((Y[:, None] - Y) ** 2).sum(axis=-1), axis=1)
    return mix[int(np.argmin(apart[:, 1 : N - F - 1].sum(axis=1)))]


def test_the_average_holds_in_the_rounds_without_liars_alone(records):
    found = judged("average", records, F, seed=0)
    assert [each.verdict for each in found.certificates] == ["does not hold", "holds"] * 2
    assert found.survives < F


def test_the_run_itself_is_judged_by_what_it_had_made(records):
    own = as_it_was("multi-krum", records)
    again = judged("multi-krum", records, F, seed=0)
    assert [c.kappa for c in own.certificates] == [c.kappa for c in again.certificates]


def test_every_rule_is_judged_or_it_is_said_why_not(records):
    found = {rule: judged(rule, records, F, seed=0) for rule in RULES}
    without = {rule for rule, each in found.items() if not each.known}
    assert without == {
        *("median", "trimmed-mean", "meamed", "bulyan", "phocas"),
        *("dnc", "fltrust", "monna"),
    }
    sentences = why_not(found.values())
    assert f"not judged: median, trimmed-mean, meamed, bulyan, phocas: {BY_COORDINATE}" in sentences
    assert {name for line in sentences for name in line.split(": ")[1].split(", ")} == without


def test_a_rule_that_has_too_few_replies_in_every_round_says_what_it_needs(records):
    few = judged("bucketing(s=4) | krum", records, F, seed=0)
    assert not few.known
    assert "needs n >=" in few.reason


def test_a_run_is_certified_without_training_again(cli, tmp_path):
    made = cli("run", "-f", "6", "--attack", "gaussian", "--rounds", "2", "--distances")
    assert made.exit_code == 0, made.output
    before = (tmp_path / "runs/latest/model.npz").read_bytes()
    result = cli("certify", "runs/latest", "--rules", "average; multi-krum; median")
    assert result.exit_code == 0, result.output
    assert "2 of 2 rounds, n=20, f=6, attack gaussian, limit 1.5" in result.output
    rows = {
        cells[0]: cells[1:]
        for line in result.output.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("│").split("│")]) == 7
    }
    assert rows["average"][:3] == ["0.0%", "100.0%", "0.0%"]
    assert rows["multi-krum"][:3] == ["100.0%", "0.0%", "0.0%"]
    assert f"not judged: median: {BY_COORDINATE}" in result.output
    assert (tmp_path / "runs/latest/model.npz").read_bytes() == before


def test_a_run_without_distances_says_how_to_have_them(cli, tmp_path):
    assert cli("run", "--rounds", "1").exit_code == 0
    assert json.loads((tmp_path / "runs/latest/config.json").read_text())["distances"] is False
    result = cli("certify", "runs/latest")
    assert result.exit_code != 0
    assert "make the run with --distances" in result.output
