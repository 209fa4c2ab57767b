"""Kernels that are killed in the middle of a job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def kill_when(said: str, arguments: list[str], cwd: Path, *folders: Path) -> None:
    """Have Python do something, and end it by kill -9 when it has said a line.

    Args:
        arguments: of Python.
        folders: whose modules it can import beside ours.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), *sys.path])}
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=cwd
    ) as kernel:
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == f"{said}\n"
        os.kill(kernel.pid, signal.SIGKILL)
