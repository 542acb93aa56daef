"""Throw-away credentials: a certificate authority, a server's certificate, and a key per node.

They are what the deployment guide makes with `openssl` and `ssh-keygen`, in the forms that Flower
reads: PEM for TLS, OpenSSH for the keys that SuperNodes authenticate with.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=7)
"""How long a certificate is good for: throw-away ones must not be found working years later."""


@dataclass(frozen=True)
class ServerCredentials:
    """The files of a server: what its clients trust, and what it proves itself with."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class NodeKey:
    """The files of a node's key pair; the public one is registered with the SuperLink."""

    private: Path
    public: Path


def make_server_credentials(folder: Path, hosts: Sequence[str]) -> ServerCredentials:
    """Write a new authority's certificate, and a server's certificate and key signed by it.

    The authority's own key is never written: nobody can sign another certificate with it.

    Parameters
    ----------
    folder : Path
        Is made; gets ca.crt, server.pem and server.key.
    hosts : sequence of str
        Names and addresses by which clients reach the server.

    Raises
    ------
    FileExistsError
        If the folder holds a server's key already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = ServerCredentials(folder / "ca.crt", folder / "server.pem", folder / "server.key")
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _authority(authority_key)
    certificate = _server_certificate(server_key.public_key(), hosts, authority, authority_key)
    _write_private(
        paths.key,
        server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    paths.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    paths.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    return paths


def make_node_key(folder: Path, name: str) -> NodeKey:
    """Write a new key pair for a SuperNode, on the curve P-384.

    Parameters
    ----------
    folder : Path
        Is made; gets the private key as ``name`` and the public one as ``name.pub``.
    name : str
        Also the comment of the public key.

    Raises
    ------
    FileExistsError
        If there is a private key of that name already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = NodeKey(folder / name, folder / f"{name}.pub")
    key = ec.generate_private_key(ec.SECP384R1())
    _write_private(
        paths.private, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    paths.public.write_bytes(public + f" {name}\n".encode())
    return paths


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("flwr_krum throw-away authority")
    return (
        _builder(name, name, key.public_key(), key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _server_certificate(
    key: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return (
        _builder(_name(hosts[0]), authority.subject, key, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(purpose, critical=False)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    """Return what all certificates share; strict verifiers want both key identifiers."""
    # A clock that is a little slow must not find the certificate from the future.
    start = datetime.now(UTC) - timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody else can read, not even for the moment before a chmod."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
