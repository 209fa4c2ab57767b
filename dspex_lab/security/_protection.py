"""What the kernel of this machine can refuse to a process that asks to be held."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from dspex_lab.security._bare import bare_environment, bare_python

Level: TypeAlias = Literal["full", "partial", "none"]

#: Seconds until a probe that does not answer counts as "none".
_PATIENCE = 30.0
#: What each layer is for, said where it is missing.
_PURPOSE = {
    "rlimits": "limits of memory and time",
    "landlock": "no files but those allowed",
    "seccomp": "no sockets, no programs, no other processes",
}


@dataclass(frozen=True, slots=True)
class Protection:
    """What was tried in a process of its own and held.

    Attributes:
        landlock: the version of Landlock, 0 where there is none that holds.
        seccomp: whether a filter of system calls holds.
        rlimits: whether limits of memory hold.
        missing: what does not, each as a sentence: ``"Landlock (no files but those allowed): Linux 5.13 … is needed"``.
    """

    landlock: int
    seccomp: bool
    rlimits: bool
    missing: tuple[str, ...] = field(default=())

    @property
    def level(self) -> Level:
        """``"full"``: model-written code may run. ``"partial"``: files or system calls are held. ``"none"``: neither."""
        if self.landlock and self.seccomp and self.rlimits:
            return "full"
        return "partial" if self.landlock or self.seccomp else "none"

    def __str__(self) -> str:
        parts = ["rlimits"] * self.rlimits + [f"landlock {self.landlock}"] * bool(self.landlock) + ["seccomp"] * self.seccomp
        return f"{self.level} ({' + '.join(parts) or 'nothing'})"


@functools.cache
def protection() -> Protection:
    """Return what this kernel gives. Tried once, in a process that is at its end afterwards (about 50 ms)."""
    if not sys.platform.startswith("linux"):
        return _of(0, dict.fromkeys(_PURPOSE, "Linux is needed"))
    try:
        tried = subprocess.run(  # noqa: S603 - our own program, no shell
            bare_python("dspex_lab.security._probe"),
            env=bare_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
        found = json.loads(tried.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return _of(0, dict.fromkeys(_PURPOSE, f"it could not be tried: {error}"))
    return _of(found["landlock"], found["missing"])


def _of(landlock: int, missing: Mapping[str, str]) -> Protection:
    names = {"landlock": "Landlock"}
    return Protection(
        landlock=0 if "landlock" in missing else landlock,
        seccomp="seccomp" not in missing,
        rlimits="rlimits" not in missing,
        missing=tuple(f"{names.get(k, k)} ({_PURPOSE[k]}): {why}" for k, why in missing.items()),
    )
