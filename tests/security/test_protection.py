"""What the kernel of this machine is found to give."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dspex_lab.security as room
from dspex_lab.security import Protection, _bare, _probe, _protection, protection


@pytest.fixture
def anew() -> None:
    """What was found before is forgotten, and what the test finds too."""
    protection.cache_clear()
    yield
    protection.cache_clear()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the probe is for Linux")
def test_a_probe_agrees_with_the_kernel() -> None:
    from dspex_lab.security import _landlock

    found = protection()
    assert found.landlock in (0, _landlock.abi())
    assert found.rlimits
    assert (found.level == "full") == (not found.missing)
    assert found is protection()


def test_levels_say_what_holds_together() -> None:
    assert Protection(7, True, True).level == "full"
    assert Protection(7, False, True).level == "partial"
    assert Protection(0, True, True).level == "partial"
    assert Protection(0, False, True).level == "none"
    assert str(Protection(7, True, True)) == "full (rlimits + landlock 7 + seccomp)"
    assert str(Protection(0, False, False)) == "none (nothing)"


def test_elsewhere_than_on_linux_there_is_nothing(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert protection().level == "none"
    assert "Linux is needed" in protection().missing[0]


@pytest.mark.parametrize("command", [["/bin/false"], ["/none/such"], [sys.executable, "-c", "print('{')"]])
def test_a_probe_that_fails_is_none_and_says_why(anew: None, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setattr(_protection, "bare_python", lambda _: command)
    assert protection().level == "none"
    assert len(protection().missing) == 3
    assert "could not be tried" in protection().missing[0]


def test_what_is_missing_is_said_by_layer(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = """print('{"landlock": 7, "missing": {"seccomp": "libseccomp is not installed", "landlock": "x"}}')"""
    monkeypatch.setattr(_protection, "bare_python", lambda _: [sys.executable, "-c", told])
    assert protection() == Protection(
        0,
        False,
        True,
        (
            "seccomp (no sockets, no programs, no other processes): libseccomp is not installed",
            "Landlock (no files but those allowed): x",
        ),
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the probe is for Linux")
def test_a_probe_names_the_layer_that_does_not_hold() -> None:
    # In a process of its own each: what holds, holds for good.
    code = """
import json, os, sys
from dspex_lab.security import _landlock, _probe, _rlimits, _seccomp
_rlimits.limit = lambda *a, **k: None
_landlock.Ruleset.restrict = lambda self: None
_seccomp.install = lambda program: None
_probe.bytearray = lambda size: None
_probe.main()
_landlock.abi = lambda: 0
def broken(): raise OSError("none here")
_seccomp.program = broken
_probe.main()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    first, second = ran.stdout.splitlines()
    assert first.count("taken and not held") == 3
    assert "Linux 5.13 or later" in second
    assert "none here" in second


def test_a_layer_that_raises_is_missing() -> None:
    def broken() -> str:
        raise AttributeError("no such call")

    assert _probe.tried(broken) == "no such call"


def test_a_bare_python_has_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_API_KEY", "sk-1")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    environment = _bare.bare_environment()
    assert "sk-1" not in environment.values()
    assert environment["LD_LIBRARY_PATH"] == "/opt/lib"
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert "LD_LIBRARY_PATH" not in _bare.bare_environment()


def test_the_room_says_what_it_has_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        room.nothing  # noqa: B018
    assert room.Sandbox.__name__ == "Sandbox"
