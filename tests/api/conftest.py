"""Servers that several files share, and TLS for those at the other end: nobody trusts it, unless a test says so."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo import MongoClient

from schema_user.domain.job import JobState
from schema_user.store.embedded import socket_uri
from tests.api.every_operation import guarded
from tests.conftest import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.api.every_operation import Published
    from tests.conftest import Api

FAILURES = 5
"""Refused requests a minute to the token endpoint that ``proxied`` bears from one peer."""

ELSEWHERE = "127.1"
"""A name of this machine that does not look like one, so that the rules for other machines hold."""


@pytest.fixture(scope="session")
def resting(short_dir: Path) -> Iterator[Server]:
    """Run a server whose messages wait, for all test files that want one."""
    yield from _running(short_dir / "resting", SCHEMA_USER_WORKER="false")


@pytest.fixture(scope="session")
def operator(resting: Server) -> Iterator[Api]:
    """Call that server with the first token, which may do everything."""
    with resting.client() as client:
        yield client


@pytest.fixture(scope="session")
def operations(operator: Api) -> list[Published]:
    """Give all operations that need a token."""
    return guarded(operator)


@pytest.fixture
def no_jobs(resting: Server) -> None:
    """Forget jobs that wait for a worker: a server without one bears only so many."""
    with MongoClient[Any](socket_uri(resting.data_dir)) as client:
        client.schema_user.jobs.delete_many({"state": {"$in": [JobState.PENDING, JobState.RUNNING]}})


@pytest.fixture(scope="session")
def proxied(short_dir: Path) -> Iterator[Server]:
    """Run a server that believes a proxy on this machine and logs all, for all test files that want one."""
    yield from _running(
        short_dir / "proxied",
        SCHEMA_USER_TRUSTED_PROXIES="127.0.0.1",
        SCHEMA_USER_LOG_LEVEL="DEBUG",
        SCHEMA_USER_TOKEN_FAILURES_PER_PEER=str(FAILURES),
    )


def _running(folder: Path, **environment: str) -> Iterator[Server]:
    running = Server(folder, environment=environment).start()
    yield running
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for this machine, by nobody that anybody trusts, with its key in the same file."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(ELSEWHERE)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    """Give the server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process trust the certificate, as an operator would."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
