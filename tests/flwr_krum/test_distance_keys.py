"""Which layers a distance sees: the others are combined with the weights that come out."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.kernel.updates import ClientUpdates
from flwr_krum.round import Rounds
from flwr_krum.rules import Average, Krum, Medoid, MultiKrum, OneMinusPKrum
from tests.flwr_krum.references import best, krum_scores, squared_distances

N, F, LIAR = 11, 2, 4
RNG = np.random.default_rng(20171204)
WEIGHTS = RNG.standard_normal(30).astype(np.float32)
MODEL = {
    "conv.weight": WEIGHTS,
    "bn.running_var": np.ones(8),
    "bn.num_batches_tracked": np.array(10),
    "frozen": RNG.standard_normal(5).astype(np.float16),
}


def honest(client):
    rng = np.random.default_rng(client)
    return {
        "conv.weight": (WEIGHTS + 0.01 * rng.standard_normal(30)).astype(np.float32),
        "bn.running_var": 100.0 * rng.random(8),
        "bn.num_batches_tracked": np.array(10 + client),
        "frozen": MODEL["frozen"],
    }


HONEST = {c: honest(c) for c in range(1, N + 1) if c != LIAR}
LIE = {
    **MODEL,
    "conv.weight": -WEIGHTS,
    "bn.running_var": np.mean([sent["bn.running_var"] for sent in HONEST.values()], axis=0),
}
SENT = {**HONEST, LIAR: LIE}


def play(federation, rule, **options):
    strategy = federation.custom(rule, **options)
    named = federation.names_arrays
    federation.configure(strategy, MODEL if named else list(MODEL.values()), SENT)
    contents = [(c, federation.content(sent, 10, {})) for c, sent in SENT.items()]
    model, _ = federation.deliver(strategy, contents)
    return dict(zip(MODEL, model.values(), strict=True)), strategy.last_report


def unmeasured(federation):
    """Return the option that leaves BatchNorm's statistics out, in the API's own keys."""
    position = str(list(MODEL).index("bn.running_var"))
    if federation.names_arrays:
        return {"distance_keys": lambda key: "running" not in key}
    return {"distance_keys": lambda key: key != position}


@pytest.mark.parametrize("rule", [Krum(F), Medoid()])
def test_a_liar_with_average_statistics_is_picked_unless_they_are_not_measured(federation, rule):
    assert play(federation, rule)[1].selected == (federation.name(LIAR),)
    model, report = play(federation, rule, **unmeasured(federation))
    assert report.selected != (federation.name(LIAR),)
    assert np.dot(model["conv.weight"], WEIGHTS) > 0
    # All layers are those of the client that was chosen; counters take the lower median.
    chosen = SENT[int(report.selected[0])]
    for key in ("conv.weight", "bn.running_var", "frozen"):
        np.testing.assert_array_equal(model[key], chosen[key])
    counts = sorted(int(sent["bn.num_batches_tracked"]) for sent in SENT.values())
    assert model["bn.num_batches_tracked"] == counts[(N - 1) // 2]


def test_the_scores_are_those_of_the_measured_layers_alone(federation):
    _, report = play(federation, MultiKrum(F), **unmeasured(federation))
    V = [[*SENT[c]["conv.weight"], *SENT[c]["frozen"]] for c in range(1, N + 1)]
    scores = krum_scores(squared_distances(V), N - F - 2)
    np.testing.assert_allclose(list(report.scores.values()), scores, rtol=1e-5)
    expected = [federation.name(i + 1) for i in best(scores, N - F)]
    assert list(report.selected) == expected
    assert federation.name(LIAR) not in expected


def test_every_layer_is_the_mean_over_the_selected(federation):
    model, report = play(federation, MultiKrum(F), **unmeasured(federation))
    chosen = [SENT[int(client)] for client in report.selected]
    for key in ("conv.weight", "bn.running_var", "frozen"):
        mean = np.mean([sent[key].astype(np.float64) for sent in chosen], axis=0)
        np.testing.assert_allclose(model[key], mean.astype(MODEL[key].dtype), rtol=1e-6)


def test_a_list_and_a_function_of_the_same_keys_are_the_same(message_federation):
    keys = ["conv.weight", "frozen"]
    rounds = [
        play(message_federation, MultiKrum(F), distance_keys=option)
        for option in (keys, set(keys), lambda key: key in keys)
    ]
    for model, report in rounds:
        assert report.scores == rounds[0][1].scores
        assert all(np.array_equal(model[key], rounds[0][0][key]) for key in MODEL)


@pytest.mark.parametrize("rule", [Krum(F), MultiKrum(F), Medoid(), OneMinusPKrum(F, p=0.0)])
@pytest.mark.parametrize("name", ["cpu:numpy", "cpu:numba"])
def test_all_rules_on_all_ways_see_the_measured_layers_alone(rule, name):
    # Layers large enough for compiled kernels, and small ones that are joined.
    for size in (10, 40_000):
        rng = np.random.default_rng(size)
        seen = [rng.standard_normal(size).astype(np.float32) for _ in range(N)]
        hidden = [1e3 * rng.standard_normal(size + 3).astype(np.float32) for _ in range(N)]
        dtypes = (np.dtype(np.float32),) * 3
        models = tuple((h, s, h) for h, s in zip(hidden, seen, strict=True))
        updates = ClientUpdates(models, None, dtypes, name, measured=(1,))
        alone = ClientUpdates(tuple((s,) for s in seen), None, dtypes[:1], name)
        found, expected = rule(updates), rule(alone)
        assert found.selected == expected.selected
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.layers[1], expected.layers[0])
        mean = np.mean([hidden[i].astype(np.float64) for i in found.selected], axis=0)
        np.testing.assert_allclose(found.layers[0], mean, rtol=1e-5, atol=1e-2)


# --- nothing to measure ---

WITHOUT_FLOATS = {
    "integers": {"w": np.zeros(3, np.int8), "k": np.array(0)},
    "bfloat16 viewed as integers": {"w": np.zeros(3, np.uint16)},
    "truth values": {"w": np.zeros(3, bool)},
    "floats of no size": {"w": np.zeros((0, 3)), "k": np.array(0)},
    "nothing but constants": {"w": np.full(3, -np.inf), "k": np.array(0)},
    "no array": {},
}


@pytest.mark.parametrize("case", WITHOUT_FLOATS)
@pytest.mark.parametrize("rule", [Krum(1), Average()])
def test_a_model_without_floats_is_refused_before_the_first_round(federation, case, rule):
    model = WITHOUT_FLOATS[case]
    strategy = federation.custom(rule)
    with pytest.raises(ValueError, match=r"the global model \(.*\) holds no finite numbers of"):
        federation.configure(
            strategy, model if federation.names_arrays else list(model.values()), range(1, 9)
        )


def test_replies_without_floats_are_refused_where_the_model_is_not_known(federation):
    strategy = federation.custom(Krum(1))
    contents = [(c, federation.content({"w": np.full(3, c)}, 10, {})) for c in range(1, 8)]
    assert federation.deliver(strategy, contents)[0] is None
    reasons = {refusal.reason for refusal in strategy.last_report.refused}
    assert reasons == {"no array of floats, and no distance sees others"}
    assert len(strategy.last_report.refused) == 7


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        (["conv.weigth"], "distance_keys holds 'conv.weigth', expected some of"),
        (["conv.weight", "bn.num_batches_tracked"], "distance_keys holds 'bn.num_batches_tracked'"),
        ([], "distance_keys matches none of 'bn.running_var', 'conv.weight', 'frozen'"),
        (lambda key: False, "distance_keys matches none of"),
        (lambda key: "num_batches" in key, "distance_keys matches none of"),
    ],
)
def test_distance_keys_that_match_nothing_are_an_error(message_federation, keys, error):
    strategy = message_federation.custom(Krum(1), distance_keys=keys)
    with pytest.raises(ValueError, match=error):
        message_federation.configure(strategy, MODEL, range(1, 9))


def test_measured_keys_must_travel():
    rounds = Rounds(Krum(1), shared_keys=["bn.running_var"], distance_keys=["conv.weight"])
    with pytest.raises(ValueError, match="need a float array in common"):
        rounds.begin(MODEL, range(9))


def test_the_summary_says_what_travels_and_what_is_measured():
    lines = "\n".join(Rounds(Krum(1)).summary("Krum"))
    assert "Keys that travel: all, or what the replies agree on" in lines
    assert "Keys in distances: all float arrays" in lines
    assert "Largest reply: every number in 64 bits, and a MiB" in lines
    options = {"shared_keys": ["b", "a"], "distance_keys": lambda key: True, "max_reply_bytes": 7}
    lines = "\n".join(Rounds(Krum(1), **options).summary("Krum"))
    assert "Keys that travel: 'a', 'b'" in lines
    assert "Keys in distances: a function of the key" in lines
    assert "Largest reply: 7" in lines
