"""``dspex-lab serve`` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MODULE = '''
"""What the process serves."""

import asyncio
import gc

import dspex_lab as dx


def double(text: str) -> str:
    """Give a text twice."""
    return text * 2


def frozen(text: str) -> str:
    """Say how many objects the collector of garbage leaves alone."""
    return str(gc.get_freeze_count())


async def wait(text: str) -> str:
    """Wait for ever."""
    await asyncio.Event().wait()
    return text


held = dx.pipeline("held", out=dx.step(wait))
plain = double
'''

YAML = """
name: twice
steps:
  out: {function: 'served_module:double'}
"""


class Address(NamedTuple):
    """Where a process serves, as its output says: enough of a server for the clients of ``web_helpers``."""

    process: subprocess.Popen[str]
    said: dict[str, str]

    @property
    def token(self) -> str:
        return self.said["key"]

    @property
    def url(self) -> str:
        return self.said["OpenAI base"].removesuffix("/v1")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def served_by_process(folder: Path, *arguments: str) -> Iterator[Address]:
    """Start one, and wait until it says where it serves."""
    (folder / "served_module.py").write_text(MODULE)
    (folder / "twice.yaml").write_text(YAML)
    command = [sys.executable, "-m", "dspex_lab", "serve", "--port", "0", "--no-chat", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said: dict[str, str] = {}
        assert process.stdout is not None
        while "API" not in said:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            what, colon, where = line.strip().partition(":")
            if colon:
                said[what] = where.strip()
        yield Address(process, said)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
