"""What the README and the pages that it leads to show does what they say."""

import re

from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp

from clients.client_app import build_client_app
from flwr_krum.boundary.records import to_record
from simulations.engines.inprocess import InProcessGrid
from tests.documents import ROOT, block, read


def test_the_server_app_runs_as_printed(capsys):
    source = block("docs/start-server.md", "@app")
    # Only the size of the model is the reader's: here it is the spam filter of the clients.
    source = source.replace("[np.zeros((10, 57), np.float32), np.zeros(10, np.float32)]", "MODEL")
    from clients.learning.models import build_model, parameters_of

    names = {"MODEL": list(parameters_of(build_model("spambase", "mlp", 0)).values())}
    exec(compile(source, "page", "exec"), names)
    config = {"num-clients": 10, "f": 2, "attack": "gaussian"}
    grid = InProcessGrid(build_client_app(config), 10)
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    names["app"](grid, context)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[str(t), "selected"] for t in (1, 2, 3)]
    # Nodes 10 and 11 hold the last two partitions, which attack.
    for line in lines:
        selected = {int(id_) for id_ in re.search(r"\((.*?)\)", line)[1].split(",")}
        assert len(selected) == 8
        assert not selected & {10, 11}


def test_the_server_optimizer_that_it_shows_goes_on_to_the_bytes_of_an_unbroken_run(
    tmp_path, monkeypatch
):
    source = block("docs/optimizers.md", "save(")
    from clients.learning.models import build_model, parameters_of

    first = parameters_of(build_model("spambase", "mlp", 0))
    config = {"num-clients": 10, "f": 2, "attack": "gaussian"}

    def run(folder, rounds):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        names = {}
        exec(compile(source, "page", "exec"), names)
        app = ServerApp()

        @app.main()
        def main(grid, context):
            names["strategy"].start(
                grid=grid,
                initial_arrays=to_record(names.get("model", first)),
                num_rounds=rounds - names["done"],
                evaluate_fn=names["save"],
            )

        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
        app(InProcessGrid(build_client_app(config), 10), context)
        assert all(report.optimizer for report in names["strategy"].reports)
        return (folder / "model.npz").read_bytes()

    run(tmp_path / "parts", 2)
    assert run(tmp_path / "parts", 4) == run(tmp_path / "whole", 4)


def test_every_make_target_that_it_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = read("README.md") + read("CONTRIBUTING.md")
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", told, re.MULTILINE))
    assert {"demo", "test", "test-all", "install", "docs"} <= named
    assert named <= targets


def test_the_declared_weights_that_it_shows_make_a_strategy():
    source = block("docs/weights.md", "VOLUMES")
    names = {}
    exec(compile(source, "page", "exec"), names)
    assert names["strategy"]._name(1001) == "aachen"
    assert set(names["SITES"].values()) == set(names["VOLUMES"])
