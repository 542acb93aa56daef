"""Inputs at the edges of what floats and integers can hold."""

from __future__ import annotations

import time

import numpy as np
import pytest

from flwr_krum.boundary.intake import admit
from flwr_krum.boundary.npy import UndecodableError, decode
from flwr_krum.boundary.replies import Reply
from flwr_krum.kernel.ways import prepare
from flwr_krum.round import Rounds
from flwr_krum.rules import Average, ClientUpdates, Krum, Medoid, MultiKrum
from tests.flwr_krum.federations import FakeProxy, FitApi
from tests.flwr_krum.npy_bytes import forge, forged_header, npy
from tests.flwr_krum.references import best, exact_distances, exact_medoid_scores, krum_scores

API = FitApi()


# 1 (grave) serverapp: any model with a 0-d integer array (BatchNorm num_batches_tracked) raises
def test_scalar_counters_stay_arrays():
    models = [[np.array([float(i)]), np.array(100 + i)] for i in range(5)]
    counter = Krum(1)(ClientUpdates.from_layers(models)).layers[1]
    assert isinstance(counter, np.ndarray)
    assert counter.shape == ()


def test_a_batchnorm_model_goes_through_both_strategies(federation):
    replies = {i: [np.array([float(i)], np.float32), np.array(100 + i)] for i in range(1, 6)}
    layers, _ = federation.aggregate(federation.strategy("Krum", 1), replies)
    assert layers[1] == 103


# 2 (grave) one client ends the run: header numbers too long to be printed
@pytest.mark.parametrize(
    "header",
    [
        {"shape": "(0x" + "f" * 4000 + ",)"},
        {"shape": "(-0x" + "f" * 4000 + ",)"},
        {"descr": "0x" + "f" * 4000},
    ],
)
def test_a_header_with_a_number_too_long_to_print_is_undecodable(header):
    with pytest.raises(UndecodableError):
        decode(forge(forged_header(**header)))


def test_such_a_reply_is_refused_by_both_strategies(federation):
    bomb = forge(forged_header(shape="(0x" + "f" * 4000 + ",)"))
    replies = {i: [np.array([float(i)], np.float32)] for i in range(1, 6)} | {6: [bomb]}
    layers, _ = federation.aggregate(federation.strategy("Krum", 1), replies)
    assert layers is not None


# 3 (grave) Medoid: a single float64 vector of 1e155 or more from the smallest id is the result
@pytest.mark.parametrize("huge", [1e155, 1e300])
def test_a_vector_whose_square_overflows_is_never_the_medoid(huge):
    V = np.array([[huge], [0.0], [0.1], [0.2], [0.3], [0.4], [0.5]])
    assert Medoid()(V).selected[0] != 0
    # exact: sums of distances are smallest in the middle, all plus the same huge - v
    assert Medoid()(V).selected == (4,)


# 4 (grave without a configured round) the first client chooses dtype and range of the result
def test_without_a_global_model_the_smallest_id_does_not_choose_the_dtypes():
    def reply(client, w, k):
        return Reply(client, {"w": npy(w), "k": npy(k)})

    honest = [reply(i, np.array([1e5 + i], np.float32), np.array([1000 + i])) for i in range(1, 7)]
    hostile = reply(0, np.array([0.0], np.float16), np.array([1], np.int8))
    model, report = Rounds(Krum(1)).finish(1, [hostile, *honest])
    assert report.stepped  # got: "the aggregate is not finite" (float16 overflow)
    assert decode(model["w"]).dtype == np.float32
    assert decode(model["k"]).dtype == np.int64
    assert decode(model["k"])[0] == 1003  # got: -21 where w fits (int8 wraps)


# 5 selections differ from exact arithmetic below the 2^-90 resolution
def test_the_choice_on_multiples_of_a_tenth_is_exact():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        V = 0.1 * rng.integers(0, 6, (9, 2))
        order = best(krum_scores(exact_distances(V), 5), 9)
        wrong += MultiKrum(f=2, m=9)(V).selected != order
    assert wrong == 0  # got 6 or so; Krum's own pick is wrong in about 1 of 130


@pytest.mark.parametrize("huge", [1e16, 1e30, 1e100])
def test_the_medoid_beside_a_huge_hostile_vector_is_exact(huge):
    rng = np.random.default_rng(2)
    for _ in range(10):
        V = 1e-3 * rng.standard_normal((9, 3))
        V[0] = huge * rng.standard_normal(3)
        scores = exact_medoid_scores(exact_distances(V))
        assert Medoid()(V).selected == best(scores, 1)


def test_coordinates_whose_squares_underflow_beside_others_count():
    z = [-3.0, 3.0, 1.0, 0.5, -9.0, 0.6, 0.7]
    V = np.array([[1.0, 1e-200 * x] for x in z])
    order = best(krum_scores(exact_distances(V), 4), 7)
    assert MultiKrum(1, m=7)(V).selected == order


def test_a_huge_coordinate_of_the_global_model_does_not_blind_the_distances():
    V = np.random.default_rng(6).standard_normal((7, 3))
    base = [np.array([0.0, 1e300, 1.0])]
    order = best(krum_scores(exact_distances(V), 4), 7)
    updates = ClientUpdates.from_layers([[row] for row in V], base)
    assert MultiKrum(1, m=7)(updates).selected == order


# 6 one hostile pattern of ties costs seconds: 95 ns per contested client, client and coordinate
def test_colluding_ties_do_not_stall_a_round():
    prepare("cpu")
    rng = np.random.default_rng(0)
    n, f, d = 20, 8, 100_000
    V = (1e-2 * rng.standard_normal((n, d))).astype(np.float32)
    V[:f] = 0
    for i in range(f):
        V[i, i] = 1.0  # f different vectors near the mean whose distances tie
    V[f:, :f] = 0
    start = time.process_time()
    MultiKrum(f)(V)
    assert time.process_time() - start < 0.5


# 7 smaller ones
def test_counters_of_mixed_signedness_keep_every_digit():
    count = 2**62 + 1
    kinds = [np.int64, np.uint64, np.int64]
    models = [[np.zeros(1), np.array([count], kind)] for kind in kinds]
    assert Average()(ClientUpdates.from_layers(models)).layers[1].tolist() == [count]


@pytest.mark.filterwarnings("error")
def test_the_mean_of_vectors_near_the_largest_float_does_not_overflow():
    assert Average()(np.full((5, 1), 1.7e308)).vector[0] == pytest.approx(1.7e308)


@pytest.mark.filterwarnings("error")
def test_scores_that_overflow_do_not_warn():
    V = np.arange(12.0).reshape(-1, 1)
    V[0] = 1.3e154  # one hostile float64 client
    Krum(3)(V)


@pytest.mark.parametrize("rate", [np.float32(0.5), np.int64(1)])
def test_numpy_numbers_are_learning_rates(rate):
    Rounds(Krum(1), server_learning_rate=rate)


def test_reasons_are_short():
    bad = forge(forged_header(descr=f"'{'f' * 3900}'"))
    reason = admit([Reply(1, {"w": bad})]).refused[0].reason
    assert len(reason) < 400


@pytest.mark.parametrize("tensors", [[None], ["text"], [5], None])
def test_tensors_that_are_not_bytes_are_refused(tensors):
    from flwr.common import Code, FitRes, Parameters, Status

    from flwr_krum.server.strategy import Krum as Strategy

    good = [(FakeProxy(str(i)), API.result([np.array([float(i)])])) for i in range(2, 8)]
    bad = FitRes(Status(Code.OK, ""), Parameters(tensors, "numpy.ndarray"), 1, {})
    strategy = Strategy(num_malicious_clients=1)
    assert strategy.aggregate_fit(1, [(FakeProxy("1"), bad), *good], [])[0] is not None


# 8 (new code: metrics.doubts) a whole number of more than 4300 digits ends the round
def test_a_metric_too_long_to_print_does_not_end_the_round():
    def reply(i, **metrics):
        return Reply(i, {"w": npy(np.array([float(i)]))}, metrics=metrics)

    sent = [*(reply(i, loss=1.0) for i in range(1, 7)), reply(7, x=10**5000)]
    _, report = Rounds(Krum(1)).finish(1, sent)
    assert report.stepped
