"""What the tests of the sandbox share: whether there is one here, and looks at its processes from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspex_lab.security import protection
from dspex_lab.security.sandbox import Sandbox

MB = 1 << 20

needs_sandbox = pytest.mark.skipif(protection().level != "full", reason=f"the kernel gives too little: {protection()}")


def gone(pid: int) -> bool:
    """Whether a process has ended and nobody keeps its remains."""
    return not Path(f"/proc/{pid}").exists()


def state_of(sandbox: Sandbox) -> str:
    """What the process of a sandbox does, by the letter of /proc: T is stopped."""
    return Path(f"/proc/{sandbox.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
