from pathlib import Path

import pytest

from simulations.engines.engines import quiet_flower, run


def model_bytes(config, engine):
    with quiet_flower():
        run(config, engine)
    return Path(config.run_dir, "model.npz").read_bytes()


@pytest.mark.slow
@pytest.mark.flower
def test_ray_gives_the_same_model_bytes_as_this_process(config, tmp_path):
    # The average depends on every client and on the order of summation. Momenta, and what the
    # attack remembers, are in contexts that travel. Through the Message API: test_on_ray.
    options = {"rule": "average", "f": 2, "num_clients": 7, "api": "fit", "momentum": 0.9}
    options |= {"attack": "mimic(warm_up=2)", "num_server_rounds": 4}
    engines = {
        engine: model_bytes(config(run_dir=str(tmp_path / engine), **options), engine)
        for engine in ("inprocess", "ray")
    }
    assert engines["inprocess"] == engines["ray"]


def test_an_unknown_engine_is_named(config):
    with pytest.raises(ValueError, match="engine is 'dask', expected one of"):
        run(config(), "dask")
