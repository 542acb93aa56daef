import json
import re
import shlex

import pytest
from typer.core import TyperGroup

from flwr_krum.attacks import ATTACKS, WRAPPERS
from flwr_krum.journal import read_journal
from flwr_krum.rules import MIXINGS, PAPER, RULES
from simulations.run.history import read_history
from simulations.show import terminal
from simulations.studies import proposition_1


def test_run_leaves_history_model_config_and_picture(cli, tmp_path):
    result = cli("run", "--rounds", "4", "--attack", "gaussian", "-f", "6", "--rule", "krum")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs/latest"
    assert len(read_history(folder)) == 5
    assert json.loads((folder / "config.json").read_text())["rule"] == "krum"
    assert (folder / "model.npz").stat().st_size > 0
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "rounds with a Byzantine client selected: 0 of 4" in result.output


def test_every_option_reaches_the_run_config(cli, tmp_path):
    options = {
        "--task": "spambase", "--model": "mlp", "--rule": "average", "--attack": "omniscient",
        "-n": "9", "-f": "2", "-m": "3", "--rounds": "2", "--batch-size": "4",
        "--local-steps": "2", "--learning-rate": "0.01", "--schedule": "inverse",
        "--decay-rounds": "7", "--server-learning-rate": "0.5", "--gaussian-variance": "3.0",
        "--omniscient-factor": "5.0", "--omniscient-examples": "11", "--seed": "8",
        "--api": "fit", "--evaluate-every": "2", "--data-dir": "elsewhere", "--run-dir": "mine",
        "--fault": "inf", "--quarantine": "3", "--attack-rounds": "1", "--folds": "5",
        "--fold": "4", "--tensorboard": "board", "--round-timeout": "60",
        "--knowledge": "own", "--momentum": "0.5", "--weight-decay": "0.01", "--clip-norm": "2",
        "--local-epochs": "1", "--momentum-over": "steps",
        "--split": "shards(each=3)", "--holders": "honest", "--require": "certificate",
        "--quorum": "8",
    }  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    flat = [word for pair in options.items() for word in pair]
    result = cli("run", *flat, "--no-strict", "--distances")
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "mine/config.json").read_text())
    assert written == {
        "task": "spambase", "model": "mlp", "rule": "average", "attack": "omniscient",
        "num-clients": 9, "f": 2, "m": 3, "num-server-rounds": 2, "batch-size": 4,
        "local-steps": 2, "learning-rate": 0.01, "schedule": "inverse", "decay-rounds": 7,
        "server-learning-rate": 0.5, "gaussian-variance": 3.0, "omniscient-factor": 5.0,
        "omniscient-examples": 11, "seed": 8, "api": "fit", "evaluate-every": 2,
        "data-dir": "elsewhere", "run-dir": "mine", "strict": False, "download": False,
        "fault": "inf", "quarantine": 3, "resume": False, "attack-rounds": 1, "folds": 5,
        "fold": 4, "tensorboard": "board", "round-timeout": 60.0, "roles": "partition",
        "server-optimizer": "", "knowledge": "own", "momentum": 0.5,
        "momentum-over": "steps", "weight-decay": 0.01,
        "clip-norm": 2.0, "local-epochs": 1, "split": "shards(each=3)", "holders": "honest",
        "certificate": True, "require": "certificate", "distances": True, "quorum": 8,
    }  # fmt: skip


def test_a_run_that_requires_certificates_keeps_its_model_under_far_liars_and_says_so(
    cli, tmp_path
):
    result = cli(
        *("run", "--rule", "average", "--attack", "gaussian", "-f", "6", "--rounds", "2"),
        *("--require", "certificate"),
    )
    assert result.exit_code == 0, result.output
    reports = read_journal(tmp_path / "runs/latest/journal.jsonl")
    assert [report.stepped for report in reports] == [False, False]
    assert all(report.note.startswith('require="certificate": it does not') for report in reports)
    assert "kept for want of a certificate that holds: the model in 2" in result.output


def test_an_optimizer_is_written_as_a_call_and_moves_the_model(cli, tmp_path):
    result = cli("run", "--rounds", "2", "--server-optimizer", "fedadam(eta=0.01)")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs/latest"
    written = json.loads((folder / "config.json").read_text())
    assert written["server-optimizer"] == "fedadam(eta=0.01)"
    moved_by = "FedAdam(eta=0.01, beta_1=0.9, beta_2=0.99, tau=0.001)"
    assert {report.optimizer for report in read_journal(folder / "journal.jsonl")} == {moved_by}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-f", "9"), "MultiKrum needs 2f + 2 < n, got n=20, f=9; legal: f <= 8"),
        (("--batch-size", "-1"), "Invalid value for '--batch-size': -1 is not in the range x>=0"),
        (("-n", "0"), "Invalid value for '-n': 0 is not in the range x>=1"),
        (("--rounds", "0"), "Invalid value for '--rounds': 0 is not in the range x>=1"),
        (
            ("--task", "cifar"),
            "ValueError: --task is 'cifar': there is no 'cifar', expected one of spambase,",
        ),
        (("-f", "20"), "ValueError: -f is 20, expected an integer from 0 to 19"),
        (
            ("--learning-rate", "nan"),
            "ValueError: --learning-rate is nan, expected a finite number >= 0",
        ),
        (("--model", "convnet"), "ValueError: --model is 'convnet'"),
        (("--rule", "krumm"), "there is no 'krumm', expected one of average, krum, multi-krum"),
        (("--rule", "multi-krum(k=4)"), "argument 'k'; it takes f=None, m=None, strict=True"),
        (("--rule", "multi-krum(m=40)"), "m=40, n=20; m <= 20"),
        (("--rule", "krum(f=[x])"), "'[x]' is no value"),
        (("--rule", "nope.py:MyRule"), "/nope.py"),
        (
            ("--server-optimizer", "adam"),
            "'adam': there is no 'adam', expected one of fedavgm, fed",
        ),
        (
            ("--server-optimizer", "fedadam(eta=0)"),
            "FedAdam: eta must be a finite number > 0, got 0",
        ),
        (("--rule", "nope:MyRule"), "module 'nope' cannot be imported"),
    ],
)
def test_an_illegal_setting_ends_with_a_sentence_and_not_a_traceback(cli, arguments, message):
    result = cli("run", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("resilience --sigma -1", "Invalid value for '--sigma': -1.0 is not in the range x>=0"),
        ("resilience --sigma nan", "sigma must be a finite number >= 0, got nan"),
        (
            "resilience --draws 0",
            "Invalid value for '--draws': 0 is not in the range 2<=x<=1000000",
        ),
        ("resilience -n 2", "Invalid value for '-n': 2 is not in the range 3<=x<=10000"),
        ("resilience -n 5 -f 9", "legal: f <= 1 at n=5"),
        ("resilience -d 0", "Invalid value for '-d': 0 is not in the range 1<=x<=1000000"),
        ("resilience --seed -1", "'--seed': -1 is not in the range 0<=x<=4294967295"),
        ("resilience --picture a.nope", "'a.nope' is no picture, expected a name in .avif, .eps"),
        ("resilience --picture file/x.png", "Invalid value for '--picture': 'file' cannot be made"),
        ("split --picture file/x.png", "Invalid value for '--picture': 'file' cannot be made"),
        ("split -n 0", "Invalid value for '-n': 0 is not in the range x>=1"),
        ("report folder --page file/x.html", "Invalid value for '--page': 'file' cannot be made"),
        ("report folder --page folder", "'folder' is a folder, expected a file"),
        ("report nowhere", "nowhere"),
        ("survive --page file/x.md", "Invalid value for '--page': 'file' cannot be made"),
        ("certify nowhere", "nowhere"),
        ("certificates --rounds 0", "Invalid value for '--rounds': 0 is not in the range x>=1"),
        ("demo --rounds 0", "Invalid value for '--rounds': 0 is not in the range x>=1"),
        ("demo --folder file", "Invalid value for '--folder': 'file' cannot be made"),
        ("worst-kappa --rule nope", "there is no 'nope', expected one of average, krum"),
        ("figure nope", "figure is 'nope', expected one of"),
        ("figure U1 --page file/x.md", "Invalid value for '--page': 'file' cannot be made"),
        ("arena nope", "arena is 'nope', expected one of"),
        (
            "arena --rules nope --rounds 1",
            "--rules is 'nope': there is no 'nope', expected one of average, krum",
        ),
        ("published nope", "table is 'nope', expected one of"),
        ("run --run-dir file --rounds 1", "Invalid value for '--run-dir': 'file' cannot be made"),
        ("real --run-dir file/x", "Invalid value for '--run-dir': 'file/x' cannot be made"),
        ("arena --out file", "Invalid value for '--out': 'file' cannot be made"),
        ("split --data-dir nope", "--data-dir is 'nope', which is not there; expected the folder"),
        (
            "run --task fashion-mnist --data-dir folder --rounds 1",
            "Put them there, or set --download to fetch them.",
        ),
        ("run --data-dir file", "--data-dir is 'file', which is no folder; expected the folder"),
        ("arena --data full --data-dir nope", "--data-dir is 'nope', which is not there;"),
        ("figure 2 --first-seed 4294967296", "--first-seed is 4294967296, expected an integer"),
        ("run --task csv:nope.csv", "nope.csv"),
        ("run --engine ray --backend {", "--backend is '{', which is not JSON"),
        ("run --server-optimizer nope", "--server-optimizer is 'nope': there is no 'nope'"),
        ("run -m 50", "got m=50, n=20; m <= 20"),
        ("run -f 9", "on the command line that is --no-strict"),
        ("worst-kappa -n 4 -f 3", "-f is 3, expected an integer from 1 to 1 where -n is 4"),
        ("arena --rules ; --seeds 1", "--rules are none, expected names or calls"),
        ("arena --rules krum --attacks none --on 127.0.0.1:1", "there is no Ray at '127.0.0.1:1'"),
        ("run --folds 1", "--folds is 1, expected 0 or an integer >= 2"),
        ("run -n 3 -f 3", "-f is 3, expected an integer from 0 to 2"),
        ("real --nodes 3 --byzantine 3", "--byzantine is 3, expected an integer from 0 to 2"),
        (
            "real --run-config 'batch-size=-1'",
            "batch-size is -1, expected an integer from 0 to 100000",
        ),
        ("real --run-config nope=1", "unknown run config keys ['nope']"),
        ("speed --engine nope", "Invalid value for '--engine': 'nope' is not one of"),
        ("nope", "No such command 'nope'"),
    ],
)
def test_what_a_user_gets_wrong_is_answered_by_the_options_name_and_before_any_work(
    cli, tmp_path, command, message
):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    result = cli(*shlex.split(command))
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("run", "interrupted: the same command with --resume goes on after the last round"),
        ("arena", "interrupted: the same command goes on where it stopped"),
        ("cost", "interrupted: nothing is kept"),
    ],
)
def test_ctrl_c_says_how_to_go_on(cli, monkeypatch, command, says):
    def interrupted(self, ctx):
        ctx.invoked_subcommand = command
        raise KeyboardInterrupt

    monkeypatch.setattr(TyperGroup, "invoke", interrupted)
    result = cli(command)
    assert result.exit_code == 130
    assert says in " ".join(result.output.split())


def test_a_run_that_ctrl_c_ended_goes_on_to_the_bytes_of_one_that_was_not(
    cli, tmp_path, monkeypatch
):
    shown = terminal.show

    def interrupt(progress, line, record):
        shown(progress, line, record)
        if record.round == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("simulations.cli.show", interrupt)
    again = ("run", "--rounds", "4", "--run-dir", "parts")
    assert cli(*again).exit_code == 130
    monkeypatch.setattr("simulations.cli.show", shown)
    assert cli(*again, "--resume").exit_code == 0
    assert cli("run", "--rounds", "4", "--run-dir", "whole").exit_code == 0
    parts, whole = ((tmp_path / name / "model.npz").read_bytes() for name in ("parts", "whole"))
    assert parts == whole


@pytest.mark.parametrize(
    ("command", "names"),
    [("rules", [*RULES, *MIXINGS]), ("attacks", [*ATTACKS, *WRAPPERS])],
)
def test_a_table_is_there_for_programs_too(cli, command, names):
    result = cli(command, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)
    assert [row["name"] for row in rows] == names
    assert len({tuple(row) for row in rows}) == 1
    (krum, *_) = [row for row in rows if row["name"] in ("krum", "sign-flip")]
    assert krum.get("needs", "2f + 2 < n") == "2f + 2 < n"
    assert krum.get("sends", "-scale u_i, or -scale mu") == "-scale u_i, or -scale mu"


def test_demo_prints_a_row_per_rule_and_saves_one_picture(cli, tmp_path):
    result = cli("demo", "--rounds", "10")
    assert result.exit_code == 0, result.output
    for label in ("average, no attack", *PAPER):
        assert f"│ {label} " in result.output
    assert [path.name for path in (tmp_path / "runs/demo").glob("*.png")] == ["accuracy.png"]


def test_a_run_on_spam_says_honestly_that_the_guarantee_does_not_hold(cli, tmp_path):
    result = cli("run", "--rounds", "40", "--attack", "gaussian", "-f", "6")
    text = " ".join(result.output.split())
    assert re.search(r"guarantee: .*does not hold in \d+", text)
    assert "the median round: guarantee does not hold: sin(alpha) = " in text
    factor, batch = re.search(r"mini-batches (\d+) times as large \(3 -> (\d+)\)", text).groups()
    assert int(factor) > 100
    assert int(batch) == 3 * int(factor)
    assert "guarantee: holds" not in text


@pytest.mark.parametrize("curves", [2, pytest.param(len(PAPER), marks=pytest.mark.slow)])
def test_resilience_prints_the_bound_beside_each_attack_and_saves_a_picture(
    cli, tmp_path, monkeypatch, curves
):
    monkeypatch.setattr(proposition_1, "PAPER", list(PAPER)[:curves])
    result = cli("resilience", "--draws", "60", "-n", "5", "-f", "1", "-d", "5", "--sigma", "0.01")
    assert result.exit_code == 0, result.output
    assert result.output.count("respected") == 3
    assert "BROKEN" not in result.output
    assert "picks an honest one: True" in result.output
    assert (tmp_path / "runs/resilience/angle.png").read_bytes().startswith(b"\x89PNG")


def test_split_prints_who_holds_what_and_saves_a_picture(cli, tmp_path):
    options = ("--task", "digits", "--split", "classes(k=2)", "-n", "5", "--picture", "s.png")
    result = cli("split", *options)
    assert result.exit_code == 0, result.output
    assert "digits, classes(k=2), 5 clients" in result.output
    rows = [line.split() for line in result.output.splitlines() if line[:8].strip().isdigit()]
    assert [row[2] for row in rows] == ["2"] * 5
    assert sum(int(row[1]) for row in rows) == 1437
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    wrong = cli("split", "--split", "dirichlet(alpha=0)")
    assert wrong.exit_code == 2
    assert "alpha is 0, expected a finite number > 0" in " ".join(wrong.output.split())
