"""Nearest-neighbour averaging around a row of the server's, against a plain loop."""

import numpy as np
import pytest

from flwr_krum.rules import ClientUpdates, MoNNA


def updates_beside(V, pivot, device="cpu", name="root"):
    return ClientUpdates.from_layers(
        [[row] for row in V], [np.zeros(len(pivot))], device=device, server_rows={name: [pivot]}
    )


def nearest_mean(V, pivot, keep):
    """The mean of the nearest vectors, the smaller number of two as near; and their numbers."""
    apart = [sum((float(x) - float(p)) ** 2 for x, p in zip(v, pivot, strict=True)) for v in V]
    near = sorted(range(len(V)), key=lambda i: (apart[i], i))[:keep]
    return sum(np.array(V[i], float) for i in near) / keep, near


def test_the_result_is_that_of_a_plain_loop(device):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        f = int(rng.integers(0, 5))
        n, d = 2 * f + 1 + int(rng.integers(0, 4)) * (seed % 3), int(rng.integers(1, 6))
        V, pivot = rng.integers(-2, 3, (n, d)).astype(float), rng.integers(-2, 3, d).astype(float)
        if seed % 2:
            V, pivot = V + rng.standard_normal((n, d)), pivot + rng.standard_normal(d)
        V[rng.integers(n)] = V[rng.integers(n)]
        if seed % 5 == 0:
            pivot = V[rng.integers(n)].copy()
        name = "step" if seed % 7 == 0 else "root"
        found = MoNNA(f, pivot=name)(updates_beside(V, pivot, device, name))
        expected, near = nearest_mean(V, pivot, n - f)
        assert list(found.selected) == near, seed
        np.testing.assert_allclose(
            found.vector, expected, rtol=1e-13, atol=1e-13, err_msg=f"{seed=}"
        )


def test_liars_who_send_the_same_are_left_out_however_close_they_are_to_each_other():
    V = np.random.default_rng(0).normal(1.0, 0.1, (9, 20))
    V[:4] = -50.0
    found = MoNNA(f=4)(updates_beside(V, np.full(20, 1.1)))
    assert set(found.selected) == {4, 5, 6, 7, 8}


def test_without_the_servers_row_the_rule_names_what_is_missing():
    with pytest.raises(ValueError, match=r"the server gives no row 'root', only \[\]"):
        MoNNA(f=1)(np.zeros((3, 2)))


def test_a_client_is_no_pivot():
    with pytest.raises(ValueError, match=r"pivot must be one of \('root', 'step'\), got 0"):
        MoNNA(f=1, pivot=0)
