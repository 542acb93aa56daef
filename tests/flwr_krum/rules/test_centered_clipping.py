"""Centred clipping, with memory and without, against a plain loop on the models."""

import math

import numpy as np
import pytest

from flwr_krum.rules import CenteredClipping, ClientUpdates, NearestNeighborMixing

pytestmark = pytest.mark.filterwarnings("error")


def clipped(V, start, tau, steps):
    """The paper's iteration in d dimensions."""
    v = start
    for _ in range(steps):
        apart = [math.sqrt(sum((x - v) ** 2)) for x in V]
        length = float(np.median(apart)) if tau is None else tau
        pulls = [
            (x - v) * min(1.0, length / a) if a else x - v for x, a in zip(V, apart, strict=True)
        ]
        v = v + sum(pulls) / len(V)
    return v


def test_the_result_is_that_of_a_plain_loop(device):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n, d = 1 + int(rng.integers(0, 9)) * (seed % 4 != 0), int(rng.integers(1, 6))
        w = rng.standard_normal(d)
        V = w + (rng.integers(-2, 3, (n, d)) if seed % 2 else rng.standard_normal((n, d)))
        V[rng.integers(n)] = V[rng.integers(n)]
        tau = None if seed % 3 == 0 else float(10.0 ** rng.uniform(-1, 1))
        steps, memory = int(rng.integers(1, 4)), w + rng.standard_normal(d)
        for start, begin in (("model", w), ("step", memory)):
            rule = CenteredClipping(tau=tau, steps=steps, start=start)
            rows = {name: [memory] for name in rule.server_rows}
            updates = ClientUpdates.from_layers(
                [[v] for v in V], [w], device=device, server_rows=rows
            )
            expected = clipped(V, begin, tau, steps)
            np.testing.assert_allclose(
                rule(updates).vector, expected, rtol=1e-9, atol=1e-9, err_msg=f"{seed=}, {start=}"
            )


def test_memory_stays_the_servers_behind_a_mixing():
    V, w, memory = np.random.default_rng(0).standard_normal((7, 4)), np.zeros(4), np.full(4, 3.0)
    rule = CenteredClipping(f=0, tau=1.0, start="step")
    updates = ClientUpdates.from_layers([[v] for v in V], [w], server_rows={"step": [memory]})
    found = (NearestNeighborMixing(f=0) | rule)(updates)
    expected = clipped(np.tile(V.mean(axis=0), (7, 1)), memory, 1.0, 1)
    np.testing.assert_allclose(found.vector, expected, atol=1e-12)
    assert found.weights.sum() == pytest.approx(1.0 / np.linalg.norm(V.mean(axis=0) - memory))


def test_with_memory_a_federation_keeps_its_way_though_a_round_is_all_lies(federation):
    strategy = federation.custom(CenteredClipping(f=0, tau=1.0, start="step"))
    w = [np.zeros(4, np.float32)]
    way = np.full(4, 5.0, np.float32)
    for t in range(1, 30):
        federation.configure(strategy, w, range(1, 6), t)
        lies = t == 29
        sent = {i: [w[0] - 100.0 * way if lies else w[0] + way] for i in range(1, 6)}
        before, (w, _) = w, federation.aggregate(strategy, sent, t)
    # The last step is the one before it, but for a pull of length tau.
    np.testing.assert_allclose(w[0] - before[0], way * (1.0 - 1.0 / np.linalg.norm(way)), rtol=1e-5)


def test_a_start_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"start must be one of \('model', 'step'\), got 'client'"):
        CenteredClipping(start="client")


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_clipping_length_that_is_no_number_above_0_is_refused(tau):
    with pytest.raises(ValueError, match=f"tau must be a number > 0, got {tau}"):
        CenteredClipping(tau=tau)
