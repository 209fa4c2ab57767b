"""Certificates for a cluster of one's own: an authority, and one certificate that scheduler, workers and kernels all show.

Dask takes whoever shows a certificate of the authority, whatever the name in it; so the key is the right to run code on the
cluster. The authority's own key is thrown away: it can sign nothing more.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_lab.errors import ConfigurationError

#: Days that a certificate holds.
DAYS = 365

_AUTHORITY = "dspex-lab cluster authority"


@dataclass(frozen=True, slots=True)
class Certificates:
    """The three files, PEM, readable by their owner only."""

    ca: Path
    cert: Path
    key: Path


def make_certificates(folder: str | Path, *, days: int = DAYS) -> Certificates:
    """Write ``ca.pem``, ``cert.pem`` and ``key.pem`` into a folder, which is made if it is not there.

    Args:
        days: how long they hold.

    Raises:
        ConfigurationError: one of the files is there already (none is overwritten), the folder cannot be written to, or
            ``days`` is not above 0.
    """
    if days < 1:
        raise ConfigurationError(
            f"Certificates cannot hold for {days} days.", key="days", expected="a whole number above 0", actual=days
        )
    folder = Path(folder).expanduser()
    made = Certificates(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    files = (made.ca, made.cert, made.key)
    there = [file.name for file in files if os.path.lexists(file)]
    if there:
        raise ConfigurationError(
            f"{folder} has {', '.join(there)} already.",
            key="folder",
            expected="a folder without ca.pem, cert.pem and key.pem",
            actual=there,
            hint="Remove them, if no cluster uses them, or name another folder.",
        )
    contents = _signed(days)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, content in zip(files, contents, strict=True):
            _write(file, content)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written to: {error.strerror}.",
            key="folder",
            expected="a folder to write to",
            actual=str(folder),
        ) from error
    return made


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)


def _signed(days: int) -> tuple[bytes, bytes, bytes]:
    """Return the PEM texts of authority, certificate and key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    above = authority_key.public_key()
    authority = _begun(_AUTHORITY, above, above, days, signs=True).sign(authority_key, hashes.SHA256())
    certificate = (
        _begun("dspex-lab cluster", key.public_key(), above, days, signs=False)
        .add_extension(x509.ExtendedKeyUsage([Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return (
        authority.public_bytes(pem),
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _begun(name: str, key: Any, authority: Any, days: int, *, signs: bool) -> Any:
    """Return what is to be signed: a certificate of a name and its public key.

    Args:
        authority: the public key of who signs it.
        signs: whether it may sign others.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)]) for who in (name, _AUTHORITY))
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    unused = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    usage = x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **dict.fromkeys(unused, False))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days, hours=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
        .add_extension(x509.BasicConstraints(ca=signs, path_length=0 if signs else None), critical=True)
        .add_extension(usage, critical=True)
    )
