"""The arrows of the design point one way; the plugin needs what it says and nothing else."""

import ast
import re
import subprocess
import sys
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


PACKAGES = ("flwr_krum", "clients", "simulations", "benchmarks", "tests")


def name_of(path):
    """Return the dotted name of a module's file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}


def imports_in(source):
    """Return the modules that a source text imports, wherever in it and in whatever way."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = named & MODULES.keys()
            found |= modules | ({node.module} if modules != named else set())
    return found


IMPORTS = {name: imports_in(path.read_text()) for name, path in MODULES.items()}
"""What each module of the repository imports."""


def lies_in(module, place):
    """Tell whether a module is a place, or lies in it; a place may hold a ``*``."""
    return any(
        fnmatchcase(".".join(module.split(".")[:depth]), place)
        for depth in range(1, module.count(".") + 2)
    )


def arrows(source, target):
    """Return every import from a place to another, as (importer, imported)."""
    return [
        (importer, imported)
        for importer, found in IMPORTS.items()
        if lies_in(importer, source)
        for imported in sorted(found)
        if lies_in(imported, target)
    ]


FORBIDDEN = {
    "flwr_krum": "clients simulations benchmarks tests",
    "clients": "simulations benchmarks tests",
    "simulations": "benchmarks tests",
    "benchmarks": "tests",
    "flwr_krum.kernel": "flwr_krum.rules flwr_krum.boundary flwr_krum.attacks flwr_krum.round flwr",
    "flwr_krum.kernel.updates": "flwr_krum.kernel.*_way",
    "flwr_krum.kernel.device": "flwr_krum.kernel.*_way",
    "flwr_krum.rules": "flwr_krum.boundary flwr_krum.attacks flwr_krum.report flwr",
    "flwr_krum.boundary": "flwr_krum.rules flwr_krum.attacks flwr_krum.round",
    "flwr_krum.attacks": "flwr_krum.rules flwr_krum.round flwr_krum.server flwr_krum.serverapp",
    "flwr_krum.resilience": "flwr_krum.boundary flwr_krum.round",
    "flwr_krum.guarantee": "flwr_krum.boundary flwr_krum.round",
    "flwr_krum.certificate": "flwr_krum.boundary flwr_krum.round flwr_krum.rules flwr",
    "flwr_krum.report": "flwr_krum.round",
    "flwr_krum.log": "flwr_krum.round",
    "flwr_krum.monitor": "flwr_krum.round flwr_krum.strategy flwr",
    "flwr_krum.report_page": "flwr_krum.round flwr_krum.strategy flwr",
    "flwr_krum.server": "flwr_krum.serverapp",
    "flwr_krum.serverapp": "flwr_krum.server",
    "simulations.run": "simulations.engines simulations.studies simulations.figures"
    " simulations.report simulations.real simulations.show",
    "simulations.report": "simulations.real",
    "simulations.figures": "simulations.real",
}
"""From where no import may lead where."""


@pytest.mark.parametrize(
    ("source", "target"),
    [(source, target) for source, targets in FORBIDDEN.items() for target in targets.split()],
)
def test_no_import_leads_where_none_may(source, target):
    assert any(lies_in(module, source) for module in MODULES)
    assert target == "flwr" or any(lies_in(module, target) for module in MODULES)
    assert arrows(source, target) == []


FLOORS = (
    ("kernel", "calls", "checks"),
    ("boundary", "rules", "moments", "tensors", "certificate"),
    ("attacks", "resilience", "in_force", "server_rows", "claimed", "optimizers", "space"),
    ("guarantee", "weights", "adapters", "certified"),
    ("report", "fitted"),
    ("lines", "lock", "step", "fates", "hook"),
    ("journal", "log", "recorded", "orders"),
    ("settings", "monitor", "nodes", "report_page"),
    ("ledger", "arguments", "decision"),
    ("round",),
    ("strategy",),
    ("server", "serverapp"),
)
"""The rooms of flwr_krum, from the ground up: each stands on those below it alone."""


def test_every_room_of_the_plugin_stands_on_those_below_it():
    floor = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
    rooms = {module.split(".")[1] for module in MODULES if lies_in(module, "flwr_krum.*")}
    assert rooms - floor.keys() == set()
    upwards = [
        (importer, imported)
        for importer, imported in arrows("flwr_krum.*", "flwr_krum.*")
        if (here := importer.split(".")[1]) != (there := imported.split(".")[1])
        and floor[there] >= floor[here]
    ]
    assert upwards == []


def test_one_place_alone_knows_the_ways_to_compute():
    askers = {importer for importer, _ in arrows("flwr_krum", "flwr_krum.kernel.*_way")}
    assert askers == {"flwr_krum.kernel.ways"}
    askers = {importer for importer, _ in arrows("flwr_krum", "flwr_krum.kernel.numba_exact")}
    assert askers == {"flwr_krum.kernel.ways", "flwr_krum.kernel.numba_way"}


def test_a_rule_stands_on_the_contract_and_on_krum_or_averaging_at_most():
    shared = {f"flwr_krum.rules.{name}" for name in ("rule", "mixing", "facts", "krum", "average")}
    found = [
        (importer, imported)
        for importer, imported in arrows("flwr_krum.rules.*", "flwr_krum.rules")
        if importer != "flwr_krum.rules.written" and imported not in shared
    ]
    assert found == []


def circles(graph):
    """Return the nodes that can come back to themselves."""
    reached = {node: set(targets) for node, targets in graph.items()}
    for middle in graph:
        for found in reached.values():
            if middle in found:
                found |= reached[middle]
    return sorted(node for node, found in reached.items() if node in found)


@pytest.mark.parametrize("package", ["flwr_krum", "clients", "simulations"])
def test_no_import_leads_back_to_where_it_came_from(package):
    graph = {m: IMPORTS[m] & MODULES.keys() for m in MODULES if lies_in(m, package)}
    assert circles(graph) == []
    rooms = {}
    for importer, imported in arrows(f"{package}.*", f"{package}.*"):
        here, there = (module.split(".")[1] for module in (importer, imported))
        rooms.setdefault(here, set()).update({there} - {here})
    assert circles({here: found & rooms.keys() for here, found in rooms.items()}) == []


def test_a_circle_is_found_and_what_only_leads_to_it_is_not_of_it():
    assert circles({1: {2}, 2: {3}, 3: {4}, 4: {2}, 5: {1}}) == [2, 3, 4]
    assert circles({1: {2, 3}, 2: {3}, 3: set()}) == []


@pytest.mark.parametrize(
    "line",
    [
        "import flwr_krum.kernel.updates",
        "import numpy, flwr_krum.kernel.updates as u",
        "from flwr_krum.kernel import updates",
        "from flwr_krum.kernel.updates import ClientUpdates",
        "def f():\n    from flwr_krum.kernel.updates import ClientUpdates",
        "if TYPE_CHECKING:\n    import flwr_krum.kernel.updates",
    ],
)
def test_an_import_is_seen_however_it_is_written(line):
    assert "flwr_krum.kernel.updates" in imports_in(line)
    assert all(lies_in("flwr_krum.kernel.cuda_way", f"flwr_krum{p}") for p in ("", ".kernel*"))
    assert not lies_in("flwr_krum.serverapp.strategy", "flwr_krum.server")


def test_the_rules_load_without_flower_or_torch():
    code = "import sys, flwr_krum.rules; print(sorted({'flwr', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


OPTIONAL = {
    "flwr_krum.kernel.lanes": {"numba", "llvmlite"},
    "flwr_krum.kernel.numba_loops": {"numba", "llvmlite"},
    "flwr_krum.kernel.numba_windows": {"numba", "llvmlite"},
    "flwr_krum.kernel.cuda_way": {"torch"},
    "flwr_krum.monitor.exposition": {"prometheus_client"},
    "flwr_krum.monitor.command": {"prometheus_client"},
    "flwr_krum.report_page.html": {"jinja2", "markupsafe"},
}
"""What may be missing, and the modules that need it: imported on demand only."""


def test_the_plugin_imports_only_what_its_wheel_requires():
    third_party = {
        name
        for module in MODULES
        if lies_in(module, "flwr_krum")
        for name in {imported.split(".")[0] for imported in IMPORTS[module]}
        if name not in OPTIONAL.get(module, ())
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
    assert {"flwr_krum/py.typed", "flwr_krum/report_page/page.html.j2"} <= set(names)
    assert required == ["flwr", "numpy", "threadpoolctl"]
