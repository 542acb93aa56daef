"""What is handed out: the files beside the code, and the archives made of them."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml

import flwr_krum
from deploy.readme import with_whole_links

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(folder, kind, out):
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def contents_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_version_is_the_same_wherever_it_is_said():
    assert flwr_krum.__version__ == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_names_the_paper_that_the_rules_are_from():
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert paper["title"].startswith("Machine Learning with Adversaries")
    assert [author["family-names"] for author in paper["authors"]] == [
        "Blanchard", "El Mhamdi", "Guerraoui", "Stainer",
    ]  # fmt: skip


def test_a_commit_is_checked_by_the_linters_of_make_lint_and_fetches_nothing():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    run = [hook["entry"].replace(" --force-exclude", "") for hook in repo["hooks"]]
    wanted = [line.strip() for line in recipe.splitlines()[1:]]
    assert [line.removesuffix(" .").replace("$(BIN)", ".venv/bin") for line in wanted] == run


def test_the_readme_of_a_package_index_links_the_repository_by_its_whole_address():
    text = "![a](docs/a.png) [b](docs/b.md#c) [d](https://e) [f](#g) `x[0](1)`"
    assert with_whole_links(text, "") == text
    assert with_whole_links(text, "https://h/i/").split(") ")[:4] == [
        "![a](https://h/i/raw/HEAD/docs/a.png",
        "[b](https://h/i/blob/HEAD/docs/b.md#c",
        "[d](https://e",
        "[f](#g",
    ]


@pytest.mark.slow  # three archives
def test_the_source_archive_holds_all_that_makes_the_same_wheel_again(tmp_path):
    build(ROOT, "sdist", tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    kept = {path.name for path in unpacked.iterdir()}
    assert {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"} <= kept
    assert {"examples", "tests", "docs", "simulations", "Makefile", "LICENSE"} <= kept
    build(unpacked, "wheel", tmp_path / "again")
    build(ROOT, "wheel", tmp_path / "first")
    (first,), (again,) = ((tmp_path / name).glob("*.whl") for name in ("first", "again"))
    assert contents_of(first) == contents_of(again)
    (metadata,) = (v for name, v in contents_of(first).items() if name.endswith("METADATA"))
    told = message_from_bytes(metadata)
    assert told["Description-Content-Type"] == "text/markdown"
    assert told.get_payload().startswith("# flwr_krum")


@pytest.mark.slow
def test_what_the_deployment_guide_copies_is_enough_to_install(tmp_path):
    guide = (ROOT / "docs/deploy.md").read_text()
    (line,) = re.findall(r"sudo cp -r (.*) /opt/flwr-krum/app/$", guide, re.MULTILINE)
    for name in line.split():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    build(tmp_path, "wheel", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.whl"))) == 1


@pytest.mark.slow  # it fetches what the plugin requires
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_empty_environment_takes_the_plugin_and_aggregates(tmp_path, kind):
    build(ROOT, kind, tmp_path)
    (archive,) = tmp_path.iterdir()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-qq", archive], check=True)
    code = (
        "import numpy, flwr_krum.server.strategy\n"
        "from flwr_krum.serverapp.strategy import MultiKrum\n"
        "from flwr_krum.rules import Krum\n"
        "print(MultiKrum(num_malicious_nodes=1), flwr_krum.__version__)\n"
        "print(Krum(f=1)(numpy.array([[0.0], [3.0], [6.0], [10.0], [11.0]])).vector)\n"
    )
    done = subprocess.run(
        [python, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == [
        f"MultiKrum(rule=MultiKrum(f=1, strict=True, m=None)) {flwr_krum.__version__}",
        "[10.]",
    ]
