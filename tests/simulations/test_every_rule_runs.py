"""Every rule and mixing runs a whole federation under attack, and goes on to the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from flwr_krum.journal import read_journal
from flwr_krum.rules import MIXINGS, RULES
from simulations.engines.engines import quiet_flower, run
from simulations.run.config import RunConfig
from simulations.run.history import read_history, read_model

N, F = 11, 2

NUMBERS = {"norm-bounding": "(C=1.0)", "clipping": "(C=1.0)", "bucketing": "(s=2)"}
LENIENT = ("average",)
"""Rules that no f but 0 suits: they average what comes."""

CHAINS = tuple(f"{name}{NUMBERS.get(name, '')} | median" for name in MIXINGS)
REMEMBERING = ('centered-clipping(tau=1.0, start="step")', 'monna(pivot="step")')
NAMES = (*REMEMBERING, *(name + NUMBERS.get(name, "") for name in RULES), *CHAINS)


def made(folder, rule, api, rounds, **options):
    keys = {
        "run-dir": str(folder),
        "rule": rule,
        "api": api,
        "num-server-rounds": rounds,
        "num-clients": N,
        "f": F,
        "attack": "gaussian",
        "evaluate-every": rounds,
        "seed": 1,
        **options,
    }
    return RunConfig.from_config(keys)


def play(config):
    with quiet_flower():
        run(config, "inprocess")


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("api", ["message", pytest.param("fit", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rule", NAMES)
def test_it_runs_and_goes_on_to_the_same_bytes(rule, api, rounds, tmp_path):
    play(made(tmp_path / "whole", rule, api, rounds))
    reports = read_journal(tmp_path / "whole" / "journal.jsonl")
    assert [report.server_round for report in reports] == list(range(1, rounds + 1))
    assert all(report.received == tuple(range(N)) and not report.refused for report in reports)
    if rounds == 50 and rule not in LENIENT:
        (record,) = [r for r in read_history(tmp_path / "whole") if r.round == rounds]
        assert record.accuracy is not None
        assert record.accuracy > 0.6  # of three letters, two are ham
    play(made(tmp_path / "parts", rule, api, rounds // 2))
    play(made(tmp_path / "parts", rule, api, rounds, resume=True))
    (_, whole), (_, parts) = (read_model(tmp_path / name) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[key], parts[key], equal_nan=True) for key in whole)
