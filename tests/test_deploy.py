"""What the deployment guide and the files under deploy/ say is right."""

import re
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
import yaml
from flwr.common.config import parse_config_args
from flwr.supercore.grpc_health import run_health_server_grpc_no_tls

from clients import Settings, partition_of, role_of
from clients.roles import settings_of
from flwr_krum.attacks import FAULTS
from flwr_krum.monitor.command import _parser as monitors_parser
from simulations.cli import app
from simulations.run.config import RunConfig

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs/deploy.md").read_text()
UNITS = ("flower-superlink.service", "flower-supernode.service")
MONITOR = "flwr-krum-monitor@.service"
SERVICES = {
    (file, name): service
    for file in ("compose.yaml", "compose-supernode.yaml")
    for name, service in yaml.safe_load((DEPLOY / file).read_text())["services"].items()
}
"""What runs in containers, by file and name."""


def settings_in(unit):
    """Return the settings of a unit, each with its values."""
    text = (DEPLOY / unit).read_text().replace("\\\n", " ")
    found = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_flower_knows_every_option_of_a_unit_and_of_its_container(unit):
    (command,) = settings_in(unit)["ExecStart"]
    program, *words = command.split()
    (contained,) = (
        s["command"] for (_, name), s in SERVICES.items() if unit == f"flower-{name}.service"
    )
    shown = subprocess.run(
        [Path(sys.executable).parent / Path(program).name, "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    options = [word for word in words if word.startswith("--")]
    in_container = [word.partition("=")[0] for word in contained]
    assert len(options) >= 5
    assert set(options) <= set(in_container)
    for option in in_container:
        assert f"{option} " in shown.replace("\n", " "), option


def test_the_monitor_knows_every_option_of_its_unit_and_its_container():
    (command,) = settings_in(MONITOR)["ExecStart"]
    _, _, module, *words = command.split()
    assert module == "flwr_krum.monitor"
    service = SERVICES["compose.yaml", "monitor"]
    assert service["entrypoint"] == ["python", "-m", module]
    for arguments in (words, service["command"]):
        assert monitors_parser().parse_args(arguments).journal.name == "journal.jsonl"


@pytest.mark.parametrize("unit", [*UNITS, MONITOR])
def test_a_unit_starts_again_for_ever_as_a_user_of_its_own(unit):
    settings = settings_in(unit)
    assert settings["Restart"] == ["always"]
    assert settings["StartLimitIntervalSec"] == ["0"]
    assert settings["User"] == ["flwr-krum"]
    assert settings["NoNewPrivileges"] == ["yes"]


@pytest.mark.parametrize("unit", [*UNITS, MONITOR])
def test_a_unit_is_confined_to_what_it_needs(unit):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on PATH: nobody says how exposed the units are")
    version = subprocess.run([analyze, "--version"], capture_output=True, text=True).stdout
    if int(re.search(r"systemd (\d+)", version)[1]) < 250:
        pytest.skip("systemd-analyze is older than 250, and judges installed units only")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=30", DEPLOY / unit],
        capture_output=True, text=True,
    )  # fmt: skip
    (exposure,) = re.findall(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(exposure) <= 3.0
    assert done.returncode == 0, done.stderr
    assert settings_in(unit)["MemoryMax"]


@pytest.mark.parametrize("which", SERVICES, ids="/".join)
def test_a_container_has_a_version_no_root_no_way_to_write_and_says_how_it_is(which):
    service = SERVICES[which]
    assert re.search(r":\d+\.\d+\.\d+", service["image"])
    assert int(service["user"].split(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


def test_only_the_proxy_can_call_a_superlink_in_a_container():
    superlink, proxy = (SERVICES["compose.yaml", name] for name in ("superlink", "proxy"))
    assert {"--host=127.0.0.1", "--port=8123", "--enable-supernode-auth"} <= set(
        superlink["command"]
    )
    assert superlink["ports"] == ["8443:8443"]  # the proxy's, in the same network
    assert proxy["network_mode"] == "service:superlink"
    assert proxy["volumes"] == ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
    paths = re.findall(r" (/etc/flwr-krum/\S+);", (DEPLOY / "nginx.conf").read_text())
    assert set(paths) == {secret["target"] for secret in proxy["secrets"]}


def test_every_secret_of_a_container_is_declared_and_every_path_of_its_command_is_one():
    for (file, name), service in SERVICES.items():
        declared = yaml.safe_load((DEPLOY / file).read_text()).get("secrets", {})
        given = [s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])]
        assert set(given) <= declared.keys(), name
        named = re.findall(r"/run/secrets/(\S+)", "\n".join(service.get("command", [])))
        assert set(named) <= set(given), name


def test_the_image_is_flowers_at_the_version_that_is_tested_and_copies_what_there_is():
    text = (DEPLOY / "Dockerfile").read_text()
    (version,) = re.findall(r"^flwr==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert re.findall(r"^FROM flwr/\$\{ROLE\}:([\d.]+)-py", text, re.M) == [version]
    assert re.findall(r"^USER (\d+)$", text, re.M)[-1] == "49999"
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()]
    assert len(copied) >= 8
    assert [word for word in copied if not (ROOT / word).exists()] == []


def test_who_asks_for_the_health_of_nobody_is_told_so():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = subprocess.run(
        [sys.executable, DEPLOY / "health.py", address], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "no answer: StatusCode.UNAVAILABLE\n"


def test_who_asks_for_the_health_of_a_server_that_serves_is_told_so():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = run_health_server_grpc_no_tls(address)  # what Flower's programs start
    try:
        assert subprocess.run([sys.executable, DEPLOY / "health.py", address]).returncode == 0
    finally:
        server.stop(None)


def test_the_superlink_asks_for_keys_and_listens_where_only_the_proxy_can_call():
    (command,) = settings_in("flower-superlink.service")["ExecStart"]
    assert "--enable-supernode-auth" in command
    assert "--host 127.0.0.1 --port 8123" in command
    proxy = (DEPLOY / "nginx.conf").read_text()
    places = dict(re.findall(r"location (\S+) \{(.*?)\}", proxy, re.DOTALL))
    assert set(places) == {"/v1/fleet/", "/"}
    assert "proxy_pass https://127.0.0.1:8123;" in places["/v1/fleet/"]
    assert "proxy_ssl_verify on;" in places["/v1/fleet/"]
    assert places["/"].split() == ["return", "403;"]


def test_the_node_config_of_a_device_is_legal():
    (line,) = re.findall(r"^NODE_CONFIG='(.*)'$", (DEPLOY / "supernode.env").read_text(), re.M)
    node_config = parse_config_args([line])
    settings = Settings(num_clients=3, roles="node")
    assert partition_of(settings, node_config) == 0
    assert role_of(settings, 0, node_config) == "honest"


def test_the_guides_red_team_node_is_hostile():
    (line,) = re.findall(r"NODE_CONFIG='(.*?)'/\"", GUIDE)
    node_config = parse_config_args([line.replace("\\", "")])
    settings = settings_of(Settings(num_clients=3, roles="node"), node_config)
    assert role_of(settings, 2, node_config) == "malformed"
    assert settings.fault == "nan"
    for name in re.findall(r'`"([a-z-]+)"`', GUIDE[GUIDE.index("| `fault`") :].split("\n")[0]):
        assert name in FAULTS


def test_every_run_config_of_the_guide_is_legal():
    texts = re.findall(r'--run-config "([^"]*)"', GUIDE)
    assert len(texts) >= 4
    for text in texts:
        RunConfig.from_config(parse_config_args([text]))


def test_the_command_of_the_guide_is_one():
    (line,) = re.findall(r"^python -m simulations real (--.*)$", GUIDE, re.MULTILINE)
    real = typer.main.get_command(app).get_command(click.Context(click.Command("")), "real")
    given = real.make_context("real", line.split(), resilient_parsing=False).params
    assert (given["num_clients"], given["f"], given["num_server_rounds"]) == (10, 3, 5)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_guides_certificates_are_good_for_the_server_and_no_other(tmp_path):
    (block,) = (b for b in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) if "openssl req" in b)
    script = "\n".join(line for line in block.splitlines() if "sudo" not in line)
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, capture_output=True)
    for host, good in (("server.example", True), ("127.0.0.1", True), ("other.example", False)):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
        client = ssl.create_default_context(cafile=tmp_path / "ca.crt")
        client.verify_flags |= ssl.VERIFY_X509_STRICT
        assert trusts(client, server, host) == good


def trusts(client, server, host):
    """Say whether a client trusts a server under a name, in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return not ends


def test_every_file_that_the_guide_names_is_there():
    named = set(re.findall(r"(?:deploy|simulations|docs)/[\w./-]+\.\w+", GUIDE))
    named |= {f"docs/{link}" for link in re.findall(r"\]\((\w+\.md)\)", GUIDE)}
    assert len(named) >= 6
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
