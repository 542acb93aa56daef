"""What the deployment guide and the files under deploy/ say is right."""

import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from flwr.common.config import parse_config_args

from clients import Settings, partition_of, role_of
from clients.roles import settings_of
from flwr_krum.attacks import FAULTS
from simulations.cli import app
from simulations.run.config import RunConfig

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs/deploy.md").read_text()
UNITS = {"flower-superlink.service": "superlink", "flower-supernode.service": "supernode"}


def settings_in(unit):
    """Return the settings of a unit, each with its values."""
    text = (DEPLOY / unit).read_text().replace("\\\n", " ")
    found = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_flower_knows_every_option_of_a_unit(unit):
    (command,) = settings_in(unit)["ExecStart"]
    program, *words = command.split()
    shown = subprocess.run(
        [Path(sys.executable).parent / Path(program).name, "--help"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    options = [word for word in words if word.startswith("--")]
    assert len(options) >= 5
    assert [option for option in options if f"{option} " not in shown.replace("\n", " ")] == []


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_starts_again_for_ever_as_a_user_of_its_own(unit):
    settings = settings_in(unit)
    assert settings["Restart"] == ["always"]
    assert settings["StartLimitIntervalSec"] == ["0"]
    assert settings["User"] == ["flwr-krum"]
    assert settings["NoNewPrivileges"] == ["yes"]


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
