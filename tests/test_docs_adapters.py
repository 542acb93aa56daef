"""What docs/adapters.md shows runs, and what it says of means is so."""

import re
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp

from flwr_krum.space import LowRank
from simulations.engines.inprocess import InProcessGrid

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/adapters.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(source, name="docs/adapters.md"):
    names = {"__name__": name}
    exec(compile(source, name, "exec"), names)
    return names


def test_the_strategy_is_built_as_printed():
    (source,) = (snippet for snippet in SNIPPETS if "keys = [" in snippet)
    assert run(source)["pairs"] == {"q.lora_A": "q.lora_B", "v.lora_A": "v.lora_B"}
    assert LowRank({0: 1, 2: 3}).pairs == {"0": "1", "2": "3"}


def test_the_example_learns_beside_two_liars(capsys):
    (source,) = (snippet for snippet in SNIPPETS if "ServerApp()" in snippet)
    names = run(source)
    model = names["build"]()
    assert {value.dtype for value in names["adapters"](model).values()} == {torch.bfloat16}
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    names["server_app"](InProcessGrid(names["client_app"], 7), context)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split()[-1]) for line in lines if line.startswith("round")]
    assert len(losses) == 9
    assert losses[-1] < losses[0] / 4
    selected = [set(map(int, re.findall(r"\d+", x))) for x in lines if x.startswith("selected")]
    # Nodes 2 and 3 hold the first two partitions, which lie.
    assert selected == [{4, 5, 6, 7, 8}] * 8


def test_the_mean_of_factors_misses_the_mean_of_products_and_stacking_does_not():
    rng = np.random.default_rng(0)
    A, a, B, b = (rng.standard_normal(s) for s in ((2, 5), (2, 5), (4, 2), (4, 2)))
    pairs = [(B + b, A + a), (B - b, A - a)]
    mean = sum(left @ right for left, right in pairs) / 2
    np.testing.assert_allclose(mean - B @ A, b @ a)
    lefts, rights = zip(*pairs, strict=True)
    np.testing.assert_allclose(np.hstack(lefts) @ np.vstack(rights) / 2, mean)


def test_the_mean_of_products_is_the_closest_to_it_of_the_models_rank_and_learns():
    names = run(next(snippet for snippet in SNIPPETS if "ServerApp()" in snippet))
    (source,) = (snippet for snippet in SNIPPETS if "class MeanOfProducts" in snippet)
    exec(compile(source, "docs/adapters.md", "exec"), names)
    model, rounds = names["build"](), []
    pairs = {"0.lora_A": "0.lora_B", "2.lora_A": "2.lora_B"}

    class Watched(names["MeanOfProducts"]):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            made = super().aggregate_train(server_round, replies)
            rounds.append((self.last_report.selected, replies, made[0]))
            return made

    app = ServerApp()

    @app.main()
    def main(grid, context):
        strategy = Watched(
            LowRank(pairs, names["SCALE"]),
            names["RANK"],
            num_malicious_nodes=2,
            min_train_nodes=7,
            min_available_nodes=7,
            fraction_evaluate=0.0,
        )
        initial = names["record_of"](names["to_arrays"](names["adapters"](model)))
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=8)

    before = float(names["loss_of"](model, 100).detach())
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    app(InProcessGrid(names["client_app"], 7), context)
    assert len(rounds) == 8
    for selected, replies, record in rounds:
        assert set(selected) == {4, 5, 6, 7, 8}
        sent = {reply.metadata.src_node_id: reply.content["arrays"] for reply in replies}
        for a, b in pairs.items():
            products = [sent[c][b].numpy().astype(float) @ sent[c][a].numpy() for c in selected]
            u, sizes, v = np.linalg.svd(sum(products) / 5)
            closest = (u[:, :2] * sizes[:2]) @ v[:2]
            found = record[b].numpy().astype(float) @ record[a].numpy()
            np.testing.assert_allclose(found, closest, rtol=1e-4, atol=1e-5)
    names["load"](model, rounds[-1][2])
    assert float(names["loss_of"](model, 100).detach()) < before / 4


def test_the_files_and_tests_that_it_names_exist():
    (path, word) = re.search(r"pytest -s (\S+) -k (\w+)", PAGE).groups()
    assert word in (ROOT / path).read_text()
