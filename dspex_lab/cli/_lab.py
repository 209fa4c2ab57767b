"""``dspex-lab lab``: JupyterLab on the tour notebook."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from dspex_lab._shipped import shipped
from dspex_lab.cli._base import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("notebook", nargs="?", type=Path, help="the notebook to open; default a copy of the tour, here")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--port", type=int, default=8888, help="default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Start JupyterLab on the loopback and wait for its end."""
    target = options.notebook
    if target is None:
        target = Path("00_tour.ipynb")
        if not target.exists():
            shutil.copyfile(shipped("notebooks/00_tour.ipynb"), target)
    command = [sys.executable, "-m", "jupyterlab", str(target), "--ip=127.0.0.1", f"--port={options.port}"]
    if options.no_browser:
        command.append("--no-browser")
    return subprocess.call(command)  # noqa: S603 - our own interpreter and a fixed module


COMMAND = Command("lab", "open JupyterLab on the tour", arguments, run)
