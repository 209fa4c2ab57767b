"""What the doctor says of the pools."""

from __future__ import annotations

import ctypes
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dspex_lab.cli import _doctor_pools, main
from dspex_lab.cli._doctor_pools import MISSING, NOTE, OK, answers, deno, gpus, guarded, shared
from dspex_lab.pools import Device
from dspex_lab.security import Protection


def test_it_says_how_each_pool_was_scaled_and_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for part in (
        "pool general: ",
        "pool optimizer: ",
        "pool neural: ",
        "all pools together take",
        "protection of workers",
        "Deno",
    ):
        assert part in said, part


def test_it_says_what_is_wrong_with_a_setting_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dspex.toml").write_text("[pools.general]\nworker = 3\n")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "missing" in said
    assert "dspex.toml, line 2, [pools.general]: 'worker' is no setting" in said
    Path("dspex.toml").write_text("[pools.neural]\ngpus = ['99']\n")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "gpus is ['99']" in said
    assert "pool general: " in said, "the others are told all the same"
    Path("dspex.toml").write_text("concurrency = 0\n")
    assert main(["doctor"]) == 1
    assert "concurrency is 0" in capsys.readouterr().out


def test_it_says_which_file_the_settings_are_from(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Path("dspex.toml").write_text("[pools.general]\nworkers = 3\n")
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"settings: {tmp_path}/dspex.toml" in said
    assert "workers from dspex.toml" in said


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (Device("0", "NVIDIA H100", 80 * 10**9), Device("1", "NVIDIA T4"))
    monkeypatch.setattr("dspex_lab.pools.devices", lambda: found)
    assert gpus() == (OK, "GPUs: 0: NVIDIA H100 (80 GB), 1: NVIDIA T4", None)
    monkeypatch.setattr("dspex_lab.pools.devices", lambda: ())
    assert gpus()[0] == NOTE
    assert "on the CPU" in gpus()[1]


def test_protection_is_told_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("dspex_lab.security.protection", lambda: Protection(7, True, True))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    assert list(guarded()) == [
        (OK, "protection of workers and of model-written code: full (rlimits + landlock 7 + seccomp)", None),
        (OK, "libseccomp is installed", None),
    ]

    def no_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    less = Protection(7, False, True, ("seccomp (no sockets): libseccomp is not there",))
    monkeypatch.setattr("dspex_lab.security.protection", lambda: less)
    first, second = guarded()
    assert first[0] == NOTE
    assert first[2] == "seccomp (no sockets): libseccomp is not there"
    assert (second[0], second[2]) == (NOTE, "apt install libseccomp2")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert len(list(guarded())) == 1


def test_deno_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/deno")
    assert deno() == (OK, "Deno: /usr/bin/deno", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert deno()[::2] == (NOTE, "pip install deno")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert deno()[:2] == (OK, "Deno: the package deno")


def test_shared_memory_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(total=64_000_000))
    assert list(shared(tmp_path)) == [
        (NOTE, f"{tmp_path} has 64 MB: larger values travel through files", "docker run --shm-size=1g")
    ]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(total=8 * 10**9))
    assert list(shared(tmp_path)) == [(OK, f"{tmp_path} has 8,000 MB for large values", None)]
    assert next(iter(shared(tmp_path / "none")))[0] == NOTE


@dataclass
class Scheduler:
    """What speaks first, as a scheduler does, to who has a certificate of its authority."""

    port: int
    tls: dict[str, str]


def _certificate(folder: Path) -> dict[str, str]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=test -keyout"
    subprocess.run([*command.split(), str(key), "-out", str(cert)], check=True, capture_output=True)
    return {"tls_ca": str(cert), "tls_cert": str(cert), "tls_key": str(key)}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[bytes], Scheduler]]:
    """Serve TLS on the loopback and greet with some bytes."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    tls = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls["tls_ca"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls["tls_cert"], tls["tls_key"])
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def start(greeting: bytes) -> Scheduler:
        def accept() -> None:
            plain, _ = listening.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as wire:
                    wire.sendall(greeting)
            except OSError:  # the other side has no certificate of ours
                plain.close()

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return Scheduler(listening.getsockname()[1], tls)

    yield start
    for thread in threads:
        thread.join()
    listening.close()


def settings(port: int, tls: dict[str, str]) -> Any:
    return SimpleNamespace(address=f"tls://127.0.0.1:{port}", **tls)


def test_a_cluster_that_answers_is_told(serve: Callable[[bytes], Scheduler]) -> None:
    there = serve(b"hello")
    assert answers(settings(there.port, there.tls)) == (OK, f"the cluster at tls://127.0.0.1:{there.port} answers", None)


def test_a_cluster_that_says_nothing_is_told(serve: Callable[[bytes], Scheduler]) -> None:
    there = serve(b"")
    assert "closed the connection" in answers(settings(there.port, there.tls))[1]


def test_a_cluster_that_does_not_take_the_certificate_is_told(serve: Callable[[bytes], Scheduler], tmp_path: Path) -> None:
    there = serve(b"hello")
    other = tmp_path / "other"
    other.mkdir()
    state, said, hint = answers(settings(there.port, {**_certificate(other), "tls_ca": there.tls["tls_ca"]}))
    assert (state, "does not answer" in said or "closed" in said, bool(hint)) == (MISSING, True, True)


def test_a_cluster_that_is_not_there_is_told(serve: Callable[[bytes], Scheduler], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    there = serve(b"hello")
    state, said, _ = answers(settings(port, there.tls))
    assert (state, "does not answer: " in said) == (MISSING, True)
    for key, path in {**there.tls, "address": f"tls://127.0.0.1:{there.port}"}.items():
        monkeypatch.setenv(f"DSPEX_POOLS_{key.upper()}", path)
    found = list(_doctor_pools.findings())
    assert found[-1] == (OK, f"the cluster at tls://127.0.0.1:{there.port} answers", None)
    assert any("that carry the resource 'neural'" in said for _, said, _ in found)
