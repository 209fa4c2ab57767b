"""What the README tells people to type works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import dspex_lab as dx
from dspex_lab.cli import parser

README = Path(__file__).parent.parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_its_cells_run_one_after_the_other(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPEX_POOL_GENERAL_WORKERS", "1")
    cells = [text for language, text in BLOCKS if language == "python"]
    assert len(cells) == 7
    for cell in cells:
        done = shell.run_cell(cell)
        done.raise_error()
    result = dx.lab().last_result
    assert result is not None
    assert result.status == "complete", result.error
    assert {"intent", "urgency", "answer"} <= set(result.outputs)


def test_its_commands_are_those_of_the_command_line() -> None:
    told = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines() if "dspex-lab " in line]
    assert told
    for line in told:
        words = shlex.split(line.split("&&")[-1])
        assert parser().parse_args(words[1:]).command == words[1]
