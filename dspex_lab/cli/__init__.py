"""``dspex-lab``: the workbench from a terminal. One command, one file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dspex_lab._version import __version__
from dspex_lab.cli import _certificate, _doctor, _lab, _serve, _tour
from dspex_lab.errors import DspexError

__all__ = ["main", "parser"]

COMMANDS = (_tour.COMMAND, _lab.COMMAND, _serve.COMMAND, _doctor.COMMAND, _certificate.COMMAND)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(prog="dspex-lab", description="A Jupyter workbench for DSPy programs.")
    top.add_argument("--version", action="version", version=f"dspex-lab {__version__}")
    subcommands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.arguments(subcommands.add_parser(command.name, help=command.summary, description=command.summary))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrongly called, 130 interrupted."""
    arguments = parser().parse_args(argv)
    command = next(c for c in COMMANDS if c.name == arguments.command)
    try:
        return command.run(arguments)
    except DspexError as error:
        print(f"dspex-lab {command.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"dspex-lab {command.name}: interrupted", file=sys.stderr)
        return 130
