"""Twenty thousand mutated replies through both strategies."""

import resource

import numpy as np
import pytest

MUTATIONS = 20_000
HOSTILE_PER_ROUND = 20
MODEL = [np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), np.arange(3.0), np.array(5)]


def mutate(rng, data):
    """Flip bits, cut, or edit the header of npy bytes."""
    kind = rng.integers(4)
    raw = bytearray(data)
    if kind == 0:
        for _ in range(rng.integers(1, 9)):
            raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    elif kind == 1:
        raw = raw[: rng.integers(len(raw))]
    elif kind == 2:
        start = rng.integers(10, min(len(raw), 90))
        raw[start : start + rng.integers(1, 12)] = rng.bytes(rng.integers(0, 20))
    else:
        old = [b"(4, 3)", b"<f4", b"False", b"'shape'", b"(3,)"][rng.integers(5)]
        new = [b"(9999999999,)", b"<f8", b"|O8", b"True", b"(-1,)", b"((),)", b"0x" + b"f" * 30]
        raw = bytearray(bytes(raw).replace(old, new[rng.integers(len(new))]))
    return bytes(raw)


@pytest.mark.parametrize("rule", ["Krum", "MultiKrum"])
def test_no_mutated_reply_ends_a_round_or_fills_the_memory(federation, wire, rule):
    rng = np.random.default_rng(0)
    honest = {i: [layer + np.asarray(0.01 * i, layer.dtype) for layer in MODEL] for i in range(9)}
    encoded = [wire.npy(layer) for layer in MODEL]
    strategy = federation.strategy(rule, 3)
    federation.configure(strategy, MODEL, range(1, 9 + HOSTILE_PER_ROUND))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Two rules share the mutations; each API gets all of them.
    for t in range(1, MUTATIONS // 2 // HOSTILE_PER_ROUND + 1):
        hostile = {
            100 + k: [mutate(rng, data) if rng.random() < 0.6 else data for data in encoded]
            for k in range(HOSTILE_PER_ROUND)
        }
        layers, _ = federation.aggregate(strategy, {**honest, **hostile}, t)
        report = strategy.reports[-1]
        assert report.stepped
        assert {federation.name(i) for i in honest} <= set(report.received)
        assert [layer.shape for layer in layers] == [layer.shape for layer in MODEL]
        assert [layer.dtype for layer in layers] == [layer.dtype for layer in MODEL]
        assert all(np.isfinite(layer).all() for layer in layers)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes
    assert grown < 64 * 1024
    assert any(report.refused for report in strategy.reports)
