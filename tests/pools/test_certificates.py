"""Certificates for a cluster of one's own, from code and from the command line."""

from __future__ import annotations

import datetime
import os
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from dspex_lab.cli import main
from dspex_lab.errors import ConfigurationError
from dspex_lab.pools import make_certificates


def test_three_files_that_only_their_owner_can_read(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "new" / "tls")
    files = sorted((tmp_path / "new" / "tls").iterdir())
    assert [file.name for file in files] == ["ca.pem", "cert.pem", "key.pem"]
    assert files == [made.ca, made.cert, made.key]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(made.ca.parent.stat().st_mode) == 0o700


def test_the_certificate_is_the_authoritys_and_holds_as_long_as_was_said(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, days=3)
    authority, certificate = (x509.load_pem_x509_certificate(file.read_bytes()) for file in (made.ca, made.cert))
    certificate.verify_directly_issued_by(authority)
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now
    left = certificate.not_valid_after_utc - now
    assert datetime.timedelta(days=2, hours=23) < left <= datetime.timedelta(days=3)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_nothing_is_overwritten_and_nothing_is_half_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=rf"has {name} already"):
        make_certificates(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_folder_that_cannot_be_made_and_no_days_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be written to"):
        make_certificates(tmp_path / "file" / "tls")
    with pytest.raises(ConfigurationError, match="0 days"):
        make_certificates(tmp_path, days=0)


def test_the_command_writes_them_and_says_the_lines_that_use_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my tls"
    assert main(["certificate", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "dask scheduler --protocol tls" in said
    worker = next(line for line in said.splitlines() if line.startswith("dask worker"))
    words = shlex.split(worker)
    assert words[words.index("--tls-key") + 1] == str(folder / "key.pem")
    assert words[words.index("--resources") + 1] == "general=1"
    settings: dict[str, Any] = __import__("tomllib").loads(said[said.index("[pools]") :])["pools"]
    assert settings["tls_ca"] == str(folder / "ca.pem")
    assert main(["certificate", str(folder)]) == 1
    assert "already" in capsys.readouterr().err
