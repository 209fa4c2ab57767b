"""The wire below HttpEngine: TLS, and connections that die."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dspy._vendor.lm15.transports import WriteError, WriteTimeout
from dspy._vendor.lm15.transports._url import parse_url
from dspy.lm15 import TransportError
from http_helpers import ask, canned, failure, http, ways

from dspex_lab.lms.engines import Endpoint, HttpEngine
from dspex_lab.lms.engines._http_transport import TimedRequest, Transport, _Connection, _TimedSocket

ANSWER = http(json.dumps({"model": "m", "choices": [{"message": {"content": "Yes"}, "finish_reason": "stop"}]}).encode())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    signed = made.add_extension(here, critical=False).sign(key, hashes.SHA256())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "here.pem"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("way", ["complete", "acomplete"])
def test_certificates_are_checked_unless_it_is_said_otherwise(way: str, tls: ssl.SSLContext, certificate: Path) -> None:
    with canned(ANSWER, tls=tls) as base:
        error = failure(lambda: ways(HttpEngine(base))[way](ask()))
        assert isinstance(error, TransportError)
        assert "certificate" in str(error).lower()
        assert ways(HttpEngine(base, ca_bundle=str(certificate)))[way](ask()) == "Yes"
        assert ways(HttpEngine(base, verify=False, total_timeout=60))[way](ask()) == "Yes"


@pytest.fixture
def pair() -> Iterator[tuple[_Connection, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield _Connection(("http", "h", 80), _TimedSocket(near)), far


def send(connection: _Connection, deadline: float | None = None) -> None:
    request = TimedRequest("POST", "http://h/v1", [], b"{}", deadline=deadline)
    transport = Transport(Endpoint(api_base="http://h/v1"))
    transport._send_request(connection, request, parse_url(request.url), proxy=None, write_timeout=5.0)


def test_head_and_body_go_out_as_one(pair: Any) -> None:
    connection, far = pair
    send(connection)
    assert far.recv(65536).endswith(b"\r\n\r\n{}")


def test_a_connection_that_died_is_told_from_one_that_is_slow(pair: Any) -> None:
    connection, far = pair
    assert not connection.is_stale()
    assert isinstance(failure(lambda: send(connection, deadline=time.monotonic() - 1)), WriteTimeout)
    far.close()
    assert connection.is_stale()
    assert isinstance(failure(lambda: send(connection)), BrokenPipeError | ConnectionResetError)
    connection.sock.close()
    assert connection.is_stale()
    assert isinstance(failure(lambda: send(connection)), WriteError)


def test_connections_are_kept_where_a_process_has_many_files(pair: Any) -> None:
    near, far = socket.socketpair()
    with near, far:
        import fcntl

        try:
            high = fcntl.fcntl(near.fileno(), fcntl.F_DUPFD, 1100)
        except OSError:
            pytest.skip("this process may not open so many files")
        with socket.socket(fileno=high) as sock:
            connection = _Connection(("http", "h", 80), _TimedSocket(sock))
            assert not connection.is_stale(), "select knows no file above 1,023"
            far.sendall(b"bytes that nobody asked for")
            assert connection.is_stale()
