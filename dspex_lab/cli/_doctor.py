"""``dspex-lab doctor``: what is installed, what is missing and what to do."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from dspex_lab._settings import find_settings
from dspex_lab._version import __version__
from dspex_lab.cli import _doctor_pools
from dspex_lab.cli._base import Command
from dspex_lab.config import Config, default_store_path
from dspex_lab.errors import DspexError

OK, MISSING, NOTE = "ok", "missing", "note"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""


def run(options: argparse.Namespace) -> int:
    """Print one line per finding; exit 1 where something the base needs is missing."""
    worst = 0
    for state, what, remedy in findings():
        print(f"{state:>8}  {what}" + (f"\n          → {remedy}" if remedy else ""))
        worst |= state == MISSING
    return int(worst)


def findings() -> Iterator[tuple[str, str, str | None]]:
    """Yield (state, what was found, what to do)."""
    yield OK, f"dspex-lab {__version__}, Python {platform.python_version()} at {sys.executable}", None
    yield from _packages()
    yield from _models()
    yield from _settings()
    yield from _doctor_pools.findings()
    yield from _store()


def _packages() -> Iterator[tuple[str, str, str | None]]:
    absent: dict[str, list[str]] = {}
    for requirement in requires("dspex-lab") or []:
        name = re.split(r"[\s<>=!~;\[(]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name == "dspex-lab":
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            if extra is None:
                yield MISSING, f"{name} is not installed; the base needs it", f"pip install '{requirement}'"
            else:
                absent.setdefault(extra[1], []).append(name)
            continue
        if extra is None:
            yield OK, f"{name} {found}", None
    for extra_name, names in absent.items():
        yield NOTE, f"the extra {extra_name!r} is not installed ({', '.join(names)})", f'pip install "dspex-lab[{extra_name}]"'


def _models() -> Iterator[tuple[str, str, str | None]]:
    keys = sorted(k for k in os.environ if k.endswith("_API_KEY") and os.environ[k])
    if keys:
        yield OK, f"keys in the environment: {', '.join(keys)} (values are not read)", None
    else:
        yield (
            NOTE,
            "no model key in the environment: the offline engine answers",
            "export OPENAI_API_KEY=…, then %dspex lm openai/MODEL",
        )


def _settings() -> Iterator[tuple[str, str, str | None]]:
    try:
        file = find_settings()
        Config.from_environment()
    except DspexError as error:
        yield MISSING, str(error), None
        return
    if file.path is not None:
        yield OK, f"settings: {file.path}", None


def _store() -> Iterator[tuple[str, str, str | None]]:
    path = default_store_path()
    folder = next(p for p in (path.parent, *path.parent.parents, Path("/")) if p.exists())
    if os.access(folder, os.W_OK):
        yield OK, f"store: {path}{'' if path.exists() else ' (made on first use)'}", None
    else:
        yield (
            MISSING,
            f"{folder.resolve()} cannot be written to",
            "Start in a folder of your own, or set DSPEX_STORE=/path/file.duckdb.",
        )


COMMAND = Command("doctor", "say what is installed, what is missing and what to do", arguments, run)
