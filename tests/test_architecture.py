"""The arrows of the design point one way; the plugin needs what it says and nothing else."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports_of(folder):
    """Yield (file, top-level package) of every import below a folder."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path.name, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"relative import in {path}"
                yield path.name, node.module.split(".")[0]


@pytest.mark.parametrize(
    ("folder", "others"),
    [
        ("flwr_krum", {"clients", "simulations", "benchmarks", "tests"}),
        ("clients", {"simulations", "benchmarks", "tests"}),
        ("simulations", {"benchmarks", "tests"}),
        ("benchmarks", {"tests"}),
        ("flwr_krum/rules", {"flwr"}),
    ],
)
def test_imports_point_one_way(folder, others):
    found = list(imports_of(folder))
    assert found
    assert [(file, package) for file, package in found if package in others] == []


def test_the_rules_load_without_flower_or_torch():
    code = "import sys, flwr_krum.rules; print(sorted({'flwr', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


OPTIONAL = {"numba_loops.py": {"numba", "llvmlite"}, "cuda_way.py": {"torch"}}
"""What may be missing, and the one module each that needs it: imported on demand only."""


def test_the_plugin_imports_only_what_its_wheel_requires():
    third_party = {
        name for file, name in imports_of("flwr_krum") if name not in OPTIONAL.get(file, ())
    } - set(sys.stdlib_module_names)
    assert third_party == {"flwr", "flwr_krum", "numpy", "threadpoolctl"}


def test_the_wheel_ships_the_plugin_alone_and_typed(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        required = [
            re.match(r"Requires-Dist: ([\w-]+)", line)[1]
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist") and "extra ==" not in line
        ]
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"flwr_krum"}
    assert "flwr_krum/py.typed" in names
    assert required == ["flwr", "numpy", "threadpoolctl"]
