"""FLTrust against a plain loop, and what a liar can make of it."""

import math

import numpy as np
import pytest

from flwr_krum.rules import ClientUpdates, FLTrust


def beside(V, w, root, device="cpu"):
    rows = {"root": [root]}
    return ClientUpdates.from_layers([[v] for v in V], [w], device=device, server_rows=rows)


def fltrust(V, w, root):
    """The paper's formula, client by client."""
    g = root - w
    length = math.sqrt(sum(x * x for x in g))
    total, trust = np.zeros(len(w)), []
    for v in V:
        u = v - w
        reach = math.sqrt(sum(x * x for x in u)) * length
        cosine = sum(a * b for a, b in zip(u, g, strict=True)) / reach if reach else 0.0
        trust.append(max(0.0, cosine))
        if trust[-1]:
            total = total + trust[-1] * length * length / reach * u
    return (w + total / sum(trust) if sum(trust) else w), trust


def test_the_result_is_that_of_a_plain_loop(device):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n, d = 1 + int(rng.integers(0, 9)) * (seed % 4 != 0), int(rng.integers(1, 6))
        w = rng.integers(-2, 3, d).astype(float)
        V, root = (w + rng.integers(-2, 3, shape).astype(float) for shape in ((n, d), d))
        if seed % 2:
            V, root = V + rng.standard_normal((n, d)), root + rng.standard_normal(d)
        V[rng.integers(n)] = V[rng.integers(n)]
        if seed % 6 == 0:
            V[rng.integers(n)] = w
        found = FLTrust()(beside(V, w, root, device))
        expected, trust = fltrust(V, w, root)
        np.testing.assert_allclose(found.scores, trust, atol=1e-12, err_msg=f"{seed=}")
        np.testing.assert_allclose(
            found.vector, expected, rtol=1e-12, atol=1e-12, err_msg=f"{seed=}"
        )
        assert set(found.selected) == {i for i in range(n) if trust[i] > 0.0}, seed


def test_where_nobody_points_where_the_server_does_the_model_stays_and_the_choice_says_so():
    w, root = np.array([3.0, -1.0]), np.array([4.0, -1.0])
    found = FLTrust()(beside(np.array([[2.0, -1.0], [3.0, 5.0], w]), w, root))
    np.testing.assert_array_equal(found.vector, w)
    assert found.selected == ()
    assert "nobody was trusted, the model stays" in found.choice.note


def test_a_server_that_did_not_move_trusts_nobody():
    w = np.array([3.0, -1.0])
    found = FLTrust()(beside(np.ones((3, 2)), w, w))
    np.testing.assert_array_equal(found.vector, w)


@pytest.mark.parametrize("size", [1e-40, 1e-12, 1e-3, 1.0, 1e30])
def test_liars_of_any_length_leave_the_result_as_near_as_the_servers_own_model(size):
    rng = np.random.default_rng(0)
    w = np.zeros(50)
    root = w + rng.standard_normal(50)
    V = root + 0.1 * rng.standard_normal((7, 50))
    V[:4] = 0.0
    V[:4, 7] = size * np.sign(root[7])  # as far off as one may point and still be trusted
    for dtype in (np.float32, np.float64):
        models = beside(V.astype(dtype), w.astype(dtype), root.astype(dtype))
        found = FLTrust()(models).vector.astype(float)
        assert np.linalg.norm(found) <= (1.0 + 1e-6) * np.linalg.norm(root)
        assert found @ root > 0.0


def test_without_the_servers_own_model_the_rule_names_what_is_missing():
    with pytest.raises(ValueError, match=r"the server gives no row 'root', only \[\]"):
        FLTrust()(np.zeros((3, 2)))


def test_one_honest_client_is_asked_for():
    with pytest.raises(ValueError, match=r"needs f < n, got n=2, f=2; legal: f <= 1 at n=2, or n"):
        FLTrust(f=2)(np.zeros((2, 2)))
