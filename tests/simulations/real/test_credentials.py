import ssl
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from flwr.supercore.primitives.asymmetric import uses_nist_ec_curve

from simulations.real.credentials import make_node_key, make_server_credentials

HOSTS = ["127.0.0.1", "server.example"]


def handshake(credentials, authority, host):
    """Let a strict client meet a server, in memory; raises if it does not trust it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(credentials.certificate, credentials.key)
    client = ssl.create_default_context(cafile=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
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
    assert ends == []


@pytest.fixture
def credentials(tmp_path):
    return make_server_credentials(tmp_path / "certificates", HOSTS)


@pytest.mark.parametrize("host", HOSTS)
def test_a_client_that_trusts_the_authority_trusts_the_server_by_each_of_its_names(
    credentials, host
):
    handshake(credentials, credentials.authority, host)


def test_the_server_cannot_pass_for_another_host(credentials):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.2"):
        handshake(credentials, credentials.authority, "127.0.0.2")


def test_another_authority_does_not_vouch_for_the_server(credentials, tmp_path):
    other = make_server_credentials(tmp_path / "other", HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(credentials, other.authority, HOSTS[0])


def test_the_authoritys_own_key_is_never_written(credentials):
    names = {path.name for path in credentials.key.parent.iterdir()}
    assert names == {"ca.crt", "server.pem", "server.key"}
    authority = x509.load_pem_x509_certificate(credentials.authority.read_bytes())
    server = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    key = load_pem_private_key(credentials.key.read_bytes(), None).public_key()
    assert key == server.public_key() != authority.public_key()


def test_private_keys_are_the_owners_alone(credentials, tmp_path):
    node = make_node_key(tmp_path / "keys", "node-0")
    for path in (credentials.key, node.private):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_node_key_is_a_pair_that_flower_accepts(tmp_path):
    paths = make_node_key(tmp_path, "node-0")
    private = load_ssh_private_key(paths.private.read_bytes(), None)
    public = load_ssh_public_key(paths.public.read_bytes())
    assert private.public_key() == public
    assert uses_nist_ec_curve(public)
    assert paths.public.read_text().endswith(" node-0\n")


def test_no_key_is_written_over(tmp_path):
    first = make_node_key(tmp_path, "node-0").private.read_bytes()
    with pytest.raises(FileExistsError):
        make_node_key(tmp_path, "node-0")
    assert (tmp_path / "node-0").read_bytes() == first
    make_server_credentials(tmp_path, HOSTS)
    with pytest.raises(FileExistsError):
        make_server_credentials(tmp_path, HOSTS)
