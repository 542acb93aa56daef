"""An arena as its user meets it; numbers are computed anew from the histories by plain loops."""

import json
import re
import shutil
import subprocess
import sys
from statistics import median

import pytest

from flwr_krum.journal import read_journal
from tests.simulations.arena.conftest import TINY, Ring
from tests.simulations.processes import until

OMNISCIENT = "omniscient(factor=1e30)"
CELLS = [(rule, attack) for rule in ("krum", "average") for attack in ("none", "alie", OMNISCIENT)]


def history(ring, row):
    path = ring.folder / "runs/arena/runs" / row["run"] / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def row_of(ring, rule, attack, seed):
    (row,) = (
        row
        for row in ring.rows()
        if (row["rule"], row["attack"], row["seed"]) == (rule, attack, str(seed))
    )
    return row


def last_accuracies(ring, rule, attack):
    """The accuracy of each seed's last model, None where its loss is not finite."""
    lines = [history(ring, row_of(ring, rule, attack, seed))[-1] for seed in (0, 1)]
    return [None if line["loss"] is None else line["accuracy"] for line in lines]


def test_every_cell_and_seed_has_a_row_with_the_numbers_of_its_history(tiny):
    for rule, attack in CELLS:
        for seed in (0, 1):
            row = row_of(tiny, rule, attack, seed)
            lines = history(tiny, row)
            assert [line["round"] for line in lines] == list(range(7))
            best, at = -1.0, None
            chosen = attackers = skipped = 0
            for line in lines:
                if line["loss"] is not None and line["accuracy"] > best:
                    best, at = line["accuracy"], line["round"]
                if line["round"] > 0:
                    chosen += len(line["selected"])
                    # Clients 6 and 7 of 8 attack, where anybody does.
                    attackers += sum(i >= 6 for i in line["selected"]) * (attack != "none")
                    skipped += not line["stepped"]
            assert float(row["best_accuracy"]) == pytest.approx(best, abs=1e-6)
            assert int(row["best_round"]) == at
            assert float(row["byzantine_share"]) == pytest.approx(attackers / chosen, abs=1e-6)
            assert int(row["rounds_skipped"]) == skipped
            if lines[-1]["loss"] is not None:
                assert row["outcome"] == "ran"
                last = lines[-1]["accuracy"]
                assert float(row["last_accuracy"]) == pytest.approx(last, abs=1e-6)


def test_a_destroyed_model_is_said_to_be_and_has_no_accuracy(tiny):
    for seed in (0, 1):
        row = row_of(tiny, "average", OMNISCIENT, seed)
        assert history(tiny, row)[-1]["loss"] is None
        assert history(tiny, row)[-1]["accuracy"] is not None
        assert (row["outcome"], row["last_accuracy"]) == ("destroyed", "")
        assert int(row["rounds_skipped"]) > 0
    table = tiny.text(".md")
    assert f"| average | destroyed | – | {OMNISCIENT} |" in table
    (row,) = (line for line in table.splitlines() if line.startswith("| average | destroyed"))
    assert "0.000" not in row
    assert not re.search(r"(last|accuracy)\s*0\.000", tiny.text(".html"))
    assert "†" in tiny.text(".svg")


def test_a_rule_that_cannot_run_says_so_on_every_page(tiny):
    reason = "cannot run: Bulyan needs n >= 4f + 3, got n=8, f=2; legal: f <= 1 at n=8"
    assert f"bulyan {reason}" in tiny.output
    assert f"| bulyan | {reason}" in tiny.text(".md")
    outcomes = [row["outcome"] for row in tiny.rows() if row["rule"] == "bulyan"]
    assert [outcome.startswith(reason) for outcome in outcomes] == [True] * 3
    assert reason.replace(">", "&gt;").replace("<", "&lt;") in tiny.text(".html")


def test_a_rule_is_ranked_by_its_worst_attack_with_the_interval_of_that_cell(tiny):
    worst = {}
    for attack in ("alie", OMNISCIENT):
        found = last_accuracies(tiny, "krum", attack)
        worst[attack] = sum(found) / 2, abs(found[0] - found[1]) / 2
    under = min(worst, key=lambda attack: worst[attack][0])
    mean, reach = worst[under]
    reach *= 12.706  # Student's t for two seeds
    line = f"| krum | {mean:.3f} | {mean - reach:.3f} to {mean + reach:.3f} | {under} |"
    assert line in tiny.text(".md")
    rules = [row["rule"] for row in tiny.rows()]
    assert list(dict.fromkeys(rules)) == ["krum", "average", "bulyan"]
    table = tiny.text(".md").split("\n| --- ")[1]
    assert re.findall(r"^\| (krum|average|bulyan) ", table, re.MULTILINE) == [
        "krum", "average", "bulyan",
    ]  # fmt: skip


def test_a_cell_of_the_table_is_the_mean_of_the_last_accuracies(tiny):
    peace, alie = (sum(last_accuracies(tiny, "krum", a)) / 2 for a in ("none", "alie"))
    (line,) = (line for line in tiny.text(".md").splitlines() if line.startswith("| krum"))
    cells = [cell.strip("*?") for cell in line.split(" | ")[5:7]]
    assert cells == [f"{peace:.3f}", f"{alie:.3f}"]


def test_runs_of_a_seed_begin_with_one_model_whatever_the_rule_and_the_attack(tiny):
    for seed in (0, 1):
        begins = [history(tiny, row_of(tiny, *cell, seed))[0] for cell in CELLS]
        assert len({(line["accuracy"], line["loss"]) for line in begins}) == 1
    assert (
        len({history(tiny, row_of(tiny, "krum", "none", seed))[0]["loss"] for seed in (0, 1)}) == 2
    )


def test_runs_of_a_seed_share_split_and_batches_so_that_differences_are_paired(ring):
    # Two names of one rule: what a run draws must not hang on the name.
    ring.hold("--rules", "average;average(f=1)", "--attacks", "none", *TINY[4:])
    for seed in (0, 1):
        one, other = (
            history(ring, row_of(ring, r, "none", seed)) for r in ("average", "average(f=1)")
        )
        assert [line["loss"] for line in one] == [line["loss"] for line in other]
    assert len(set(ring.made)) == 4


def copy_of(tiny, tmp_path):
    shutil.copytree(tiny.folder / "runs", tmp_path / "runs")
    return Ring(tmp_path)


def test_a_finished_run_is_never_made_again(tiny, tmp_path):
    ring = copy_of(tiny, tmp_path)
    assert ring.hold(*TINY).exit_code == 0
    assert ring.made == []
    assert all(ring.text(suffix) == tiny.text(suffix) for suffix in (".csv", ".md", ".svg"))
    more = ring.hold("--rules", "krum;median", "--attacks", "alie", *TINY[4:])
    assert more.exit_code == 0
    assert len(ring.made) == 4  # the median's, without an attack and with one
    fewer = ring.hold(*TINY, "--rounds", "4")
    assert fewer.exit_code == 0
    assert len(ring.made) == 4
    assert row_of(ring, "krum", "alie", 0)["run"] == row_of(tiny, "krum", "alie", 0)["run"]
    at_four = history(ring, row_of(ring, "krum", "alie", 0))[4]["accuracy"]
    assert float(row_of(ring, "krum", "alie", 0)["last_accuracy"]) == pytest.approx(at_four)


def test_an_arena_that_was_torn_away_goes_on_to_the_same_table(tiny, ring):
    ring.stop_in = 3
    torn = ring.hold(*TINY)
    assert torn.exit_code != 0
    assert not (ring.folder / "runs/arena/arena.csv").exists()
    ring.stop_in, made = None, len(ring.made)
    assert ring.hold(*TINY).exit_code == 0
    assert made == 4
    assert len(ring.made) == 12 + 1  # the torn one twice
    assert ring.text(".csv") == tiny.text(".csv")


@pytest.mark.slow  # a program of its own starts processes of its own
def test_an_arena_that_was_killed_goes_on_to_the_same_table(tiny, ring):
    command = [sys.executable, "-m", "simulations", "arena", *TINY, "--processes", "1"]
    with subprocess.Popen(command, cwd=ring.folder, stdout=subprocess.DEVNULL) as program:
        try:
            until(lambda: len([*ring.folder.glob("runs/arena/runs/*/model.npz")]) > 1)
        finally:
            program.kill()
    begun = [*ring.folder.glob("runs/arena/runs/*/history.jsonl")]
    assert 0 < len(begun) < 12
    assert not (ring.folder / "runs/arena/arena.csv").exists()
    assert ring.hold(*TINY).exit_code == 0
    assert 0 < len(ring.made) < 12
    assert ring.text(".csv") == tiny.text(".csv")


def test_a_file_gives_what_the_options_give_and_options_go_before_it(tiny, tmp_path):
    ring = copy_of(tiny, tmp_path)
    (tmp_path / "my.toml").write_text(
        f"rules = ['average', 'krum', 'bulyan']\nattacks = ['alie', '{OMNISCIENT}']\n"
        "rounds = 6\nseeds = 5\n[settings]\nnum-clients = 8\nf = 2\nevaluate-every = 3\n"
    )
    (tmp_path / "page.md").write_text("<!-- arena -->\nThe other.\n<!-- end of arena -->\n")
    options = ("--seeds", "2", "--evaluate-every", "2")
    result = ring.hold("my.toml", *options, "--page", "page.md")
    assert result.exit_code == 0, result.output
    assert ring.made == []
    assert ring.text(".csv", "my") == tiny.text(".csv")
    command = "python -m simulations arena --seeds 2 --evaluate-every 2 my.toml"
    assert command in re.sub("`", "", ring.text(".md", "my"))
    # A page holds several arenas, each by the name of its file.
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("<!-- arena -->\nThe other.\n<!-- end of arena -->\n\n<!-- my -->\n![")
    assert (tmp_path / "arena/my.png").exists()
    assert not (tmp_path / "arena/arena.png").exists()
    # A dot in the name is no suffix's.
    (tmp_path / "my.toml").rename(tmp_path / "my.v2.toml")
    assert ring.hold("my.v2.toml", *options, "--page", "page.md").exit_code == 0
    assert "(arena/my-v2.png)" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "arena/my-v2.png").exists()


def test_a_rule_of_ones_own_fights_too(ring):
    (ring.folder / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom flwr_krum.rules import Median\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(Median):\n    pass\n"
    )
    result = ring.hold("--rules", "median;mine.py:Mine", "--attacks", "alie", *TINY[4:])
    assert result.exit_code == 0, result.output
    for attack in ("none", "alie"):
        of = [row_of(ring, rule, attack, 1) for rule in ("median", "mine.py:Mine")]
        assert of[0]["last_accuracy"] == of[1]["last_accuracy"] != ""
    assert str(ring.folder) not in ring.text(".md") + ring.text(".html") + ring.text(".csv")


def test_a_page_gets_the_block_between_its_marks_and_keeps_the_rest(tiny, tmp_path):
    ring = copy_of(tiny, tmp_path)
    page = tmp_path / "docs/arena.md"
    page.parent.mkdir()
    page.write_text("# Mine\n\n<!-- arena -->\nobsolete\n<!-- end of arena -->\n\nAfter.\n")
    assert ring.hold(*TINY, "--page", "docs/arena.md").exit_code == 0
    text = page.read_text()
    assert text.startswith("# Mine\n\n<!-- arena -->\n![")
    assert text.endswith("<!-- end of arena -->\n\nAfter.\n")
    assert "obsolete" not in text
    for suffix in ("png", "svg", "csv", "html"):
        assert (page.parent / f"arena/arena.{suffix}").exists()
        assert f"(arena/arena.{suffix})" in text


def test_the_block_says_settings_seeds_versions_and_command(tiny):
    text = tiny.text(".md")
    assert "num-clients = 8, f = 2" in text
    assert "Rounds: 6. Seeds: 0, 1." in text
    assert re.search(r"Versions: Python 3\S+, flwr-krum \S+ flwr \S+ numpy \S+ torch ", text)
    assert "`python -m simulations arena --rules 'average; krum; bulyan' --attacks" in text
    assert "left out" not in text  # three rules were asked for, and are here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rules", "krun"), "ValueError: --rules is 'krun': there is no 'krun'"),
        (
            ("--rules", "bulyan", "-f", "5"),
            "no rule can run: Bulyan needs n >= 4f + 3, got n=20, f=5",
        ),
        (("no.toml",), "No such file or directory: 'no.toml'"),
        (("--attacks", "no.py:A"), "there is no file"),
        (("--data", "full"), "DataError: the original data of 'spambase' are not in data"),
    ],
)
def test_what_cannot_be_held_ends_with_a_sentence(ring, arguments, message):
    result = ring.hold(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert ring.made == []


def test_a_search_says_its_factor_and_a_certificate_in_how_many_rounds_it_held(ring):
    asked = ("--rules", "trimmed-mean; krum", "--attacks", "optimal-ipm", "--certificate")
    result = ring.hold(*asked, "-n", "7", "-f", "1", "--seeds", "1", "--rounds", "4")
    assert result.exit_code == 0, result.output
    rows = ring.rows()
    assert all((row["factor"] == "") == (row["attack"] == "none") for row in rows)
    for row in rows:
        reports = read_journal(ring.folder / "runs/arena/runs" / row["run"] / "journal.jsonl")
        held = [each.certificate.verdict == "holds" for each in reports if each.certificate]
        assert float(row["certified_share"]) == pytest.approx(sum(held) / len(held))
        if row["factor"]:
            chosen = [record["factor"] for record in history(ring, row)[1:]]
            assert float(row["factor"]) == pytest.approx(median(chosen))
    text = ring.text(".md")
    assert "| certificate held | none | optimal-ipm |" in text
    assert "| factor chosen | optimal-ipm |" in text
    assert "Factor that the attack chose" in ring.text(".html")
    assert "certificate held in " in ring.text(".html")
