import os
from dataclasses import replace

import pytest

from simulations.engines.kept import key, missing, placed, run_missing
from simulations.run.history import read_config
from tests.simulations.engines.conftest import of_ray

OPTIONS = {"num_clients": 7, "f": 2, "attack": "alie", "evaluate_every": 1}


@pytest.mark.flower
def test_runs_on_a_cluster_are_kept_as_those_of_this_machine_are(two_nodes, config, tmp_path):
    configs = [config(rule=rule, **OPTIONS) for rule in ("krum", "average", "median")]
    configs[0] = replace(configs[0], distances=True)
    away, here = (
        [placed(each, tmp_path / folder, "embedded", "data") for each in configs]
        for folder in ("away", "here")
    )
    run_missing(away, 1, "away", cluster=two_nodes.address)
    run_missing(here, 2, "here")
    for one in configs:
        name = key(one, "embedded")
        distances = ("distances.jsonl",) if one.distances else ()
        for file in ("history.jsonl", "model.npz", *distances):
            found = (tmp_path / folder / name / file for folder in ("away", "here"))
            first, second = (path.read_bytes() for path in found)
            assert first == second, file
        assert read_config(tmp_path / "away" / name)["run-dir"] == str(tmp_path / "away" / name)
    assert missing(away) == []
    # Who joins a cluster leaves it running.
    assert sum("raylet/raylet" in command for _, command in of_ray(os.getpid()).values()) == 2

    # What a task says of its failure is said here.
    gone = replace(away[0], run_dir=str(tmp_path / "gone"))
    settings = replace(gone.settings, rule=f"{tmp_path}/gone.py:Rule")
    with pytest.raises(ValueError, match=r"there is no file .*gone\.py"):
        run_missing([replace(gone, settings=settings)], 1, "gone", cluster=two_nodes.address)
    assert not (tmp_path / "gone" / "history.jsonl").exists()
