"""The distances of rounds beside the journal: kept whole, and enough to judge rules again."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from flwr_krum.boundary.npy import decode
from flwr_krum.boundary.replies import Reply
from flwr_krum.kernel.recorded import NotRecordedError
from flwr_krum.lines import FileError
from flwr_krum.recorded import DistancesFile, read_distances
from flwr_krum.round import Rounds
from flwr_krum.rules import (
    CGE,
    Average,
    CenteredClipping,
    DnC,
    FLTrust,
    GeometricMedian,
    Krum,
    Median,
    Medoid,
    MinimumDiameter,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
)
from flwr_krum.space import LowRank
from tests.flwr_krum.every_set import Round
from tests.flwr_krum.npy_bytes import npy

N, F, D = 11, 2, 7
FROM_DISTANCES = {
    "average": Average(F),
    "Krum": Krum(F),
    "Multi-Krum": MultiKrum(F),
    "medoid": Medoid(F),
    "geometric median": GeometricMedian(F),
    "minimum diameter": MinimumDiameter(F),
    "by length": CGE(F),
    "with a share of the global model": CenteredClipping(F, tau=0.5),
    "mixing, then Krum": NearestNeighborMixing(F) | Krum(F),
}
MODEL = np.full(D, 100.0)


def drawn(t):
    """Return the rows of a round, of which the first few lie."""
    rng = np.random.default_rng(t)
    X = MODEL + 0.3 + 0.1 * rng.standard_normal((N, D))
    X[:F] += 20.0 * rng.standard_normal((F, D))
    return X


KRUM = Krum(F)


def played(path, rule=KRUM, rounds=(1, 2, 3), done=0, **options):
    """Play rounds that leave their distances in a file; return what is read, and the models."""
    made = Rounds(rule, distances=path, rounds_done=done, largest_step=math.inf, **options)
    models = []
    for t in rounds:
        made.begin({"w": MODEL}, range(N))
        model, _ = made.finish(t, [Reply(i, {"w": npy(row)}) for i, row in enumerate(drawn(t))])
        models.append(None if model is None else decode(model["w"]))
    return read_distances(path), models


# --- what can be told from them ---


@pytest.mark.parametrize("name", FROM_DISTANCES)
def test_a_rule_chooses_from_recorded_distances_as_it_does_from_the_models(name, tmp_path):
    rule = FROM_DISTANCES[name]
    for record in played(tmp_path / "distances.jsonl")[0]:
        X = drawn(record.server_round)
        from_model = rule(X - MODEL, server_round=record.server_round).choice
        again = rule.choose(record.geometry, record.server_round)
        assert again.selected == from_model.selected
        np.testing.assert_allclose(again.mix, from_model.mix, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", FROM_DISTANCES)
def test_what_a_rule_would_have_made_is_certified_as_a_look_at_every_set_finds_it(name, tmp_path):
    rule = FROM_DISTANCES[name]
    for record in played(tmp_path / "distances.jsonl")[0]:
        X = drawn(record.server_round)
        choice = rule.choose(record.geometry, record.server_round)
        said = record.certified(choice)
        assert (said.n, said.f) == (N, F)
        for k, kappa in enumerate(said.curve):
            true = Round(X - MODEL, choice.mix[0], np.zeros(D)).truth(N - k).kappa
            assert true * (1 - 1e-12) <= kappa <= true * (1 + 1e-3) + 1e-9
        assert (said.verdict == "holds") == (said.kappa <= said.limit)


@pytest.mark.parametrize("rule", [Krum(F), Average(F), TrimmedMean(F), Median(F)], ids=str)
def test_a_round_is_certified_from_its_record_as_it_was(rule, tmp_path):
    records, models = played(tmp_path / "distances.jsonl", rule)
    for record, model in zip(records, models, strict=True):
        said = record.certified_as_it_was()
        true = Round(drawn(record.server_round), point=model).truth(N - F).kappa
        assert true * (1 - 1e-12) <= said.kappa <= true * (1 + 1e-6)


def test_a_round_in_which_the_model_is_kept_is_recorded_too(tmp_path):
    records, models = played(tmp_path / "d.jsonl", Average(F), require="certificate")
    assert models == [None, None, None]
    assert [record.server_round for record in records] == [1, 2, 3]
    assert {record.certified_as_it_was().verdict for record in records} == {"does not hold"}


def test_a_rule_that_reads_coordinates_is_told_that_there_are_none(tmp_path):
    record = played(tmp_path / "distances.jsonl")[0][0]
    with pytest.raises(NotRecordedError, match="distances hold none"):
        DnC(F).choose(record.geometry, 1)
    with pytest.raises(ValueError, match="no row 'root'"):
        FLTrust(F).choose(record.geometry, 1)
    with pytest.raises(ValueError, match="sorts coordinates"):
        record.certified(Median(F).choose(record.geometry, 1))


def test_the_servers_own_rows_are_recorded_with_the_clients(tmp_path):
    def own_model(model):
        return [layer + 0.3 for layer in model]

    records, models = played(tmp_path / "d.jsonl", FLTrust(F), root=own_model)
    for record, model in zip(records, models, strict=True):
        assert record.server_rows == ("root",)
        choice = FLTrust(F).choose(record.geometry, record.server_round)
        np.testing.assert_allclose(choice.mix[0], record.weights, rtol=1e-9, atol=1e-12)
        true = Round(drawn(record.server_round), point=model).truth(N - F).kappa
        assert record.certified(choice).kappa >= true * (1 - 1e-6)


# --- the file ---


def test_records_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "distances.jsonl"
    for record in played(path)[0]:
        X = drawn(record.server_round)
        squared = ((X[:, None] - X) ** 2).sum(axis=-1)
        found, error = record.points.squared[:N, :N], record.points.error[:N, :N]
        assert (np.abs(found - squared) <= error + 1e-12 * squared).all()
        assert np.array_equal(found, found.T)
        from_model = ((X - MODEL) ** 2).sum(axis=1)
        np.testing.assert_allclose(record.points.squared[N, :N], from_model, rtol=1e-12)
        np.testing.assert_allclose(record.products, (X - MODEL) @ (X - MODEL).T, atol=1e-9)
        assert record.clients == tuple(range(N))
        assert record.d == D


def test_a_torn_last_record_is_left_out_and_the_run_goes_on_behind_the_last_whole_one(tmp_path):
    path = tmp_path / "distances.jsonl"
    played(path)
    whole = path.read_bytes()
    for cut in (1, 30, 2000):
        path.write_bytes(whole[:-cut])
        expected = [1, 2, 3] if cut == 1 else [1, 2]
        assert [record.server_round for record in read_distances(path)] == expected
    played(path, rounds=(3,), done=2)
    assert path.read_bytes() == whole


def test_a_run_that_goes_on_from_an_earlier_round_leaves_the_file_of_an_unbroken_one(tmp_path):
    path = tmp_path / "distances.jsonl"
    played(path)
    whole = path.read_bytes()
    played(path, rounds=(2, 3), done=1)
    assert path.read_bytes() == whole


def test_a_damaged_record_is_named(tmp_path):
    path = tmp_path / "distances.jsonl"
    played(path)
    first, *rest = path.read_bytes().splitlines(keepends=True)
    values = json.loads(first)
    for change in (
        {"squared": values["squared"][8:]},
        {"products": "?" * 8},
        {"weights": values["weights"][:8]},
        {"clients": values["clients"][1:]},
        {"limit": "1"},
    ):
        line = json.dumps(values | change).encode() + b"\n"
        path.write_bytes(line + b"".join(rest))
        with pytest.raises(FileError, match="line 1: not the distances of a round"):
            read_distances(path)


def test_a_file_of_another_run_is_not_written_over(tmp_path):
    path = tmp_path / "distances.jsonl"
    played(path)
    with pytest.raises(FileError, match="already holds 3 rounds"):
        Rounds(Krum(F), distances=path)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(FileError, match="round 1 follows round 3"):
        read_distances(path)


def test_a_round_twice_is_refused(tmp_path):
    path = tmp_path / "distances.jsonl"
    (record, *_), _ = played(path)
    file = DistancesFile(tmp_path / "other.jsonl", 1)
    with pytest.raises(FileError, match=r"round 1 follows round 1; .* rounds_done=1"):
        file.append(record)


def test_a_strategy_leaves_the_same_file_through_both_apis_and_as_a_copy(federation, tmp_path):
    path = tmp_path / "distances.jsonl"
    strategy = federation.strategy("MultiKrum", F, distances=path)
    replies = {i + 1: [row] for i, row in enumerate(drawn(1))}
    federation.configure(strategy, [MODEL], replies)
    federation.aggregate(strategy, replies)
    strategy = pickle.loads(pickle.dumps(strategy))
    federation.configure(strategy, [MODEL], replies, 2)
    federation.aggregate(strategy, replies, 2)
    records = read_distances(path)
    for record, report in zip(records, strategy.reports, strict=True):
        assert (record.server_round, record.clients) == (report.server_round, report.received)
    assert np.array_equal(records[0].products, records[1].products)


# --- what is refused ---


def test_distances_need_the_global_model_and_no_products_of_layers(tmp_path):
    path = tmp_path / "distances.jsonl"
    with pytest.raises(ValueError, match="distances need the global model"):
        Rounds(Krum(F), distances=path).finish(1, [])
    with pytest.raises(ValueError, match="distances and space are both set"):
        Rounds(Krum(F), distances=path, space=LowRank(pairs={"A": "B"}))


def test_a_round_without_an_aggregate_leaves_no_record(tmp_path):
    rounds = Rounds(Krum(F), distances=tmp_path / "distances.jsonl")
    rounds.begin({"w": MODEL}, range(N))
    rounds.finish(1, [Reply(0, {"w": npy(drawn(1)[0])})])
    assert read_distances(tmp_path / "distances.jsonl") == []
