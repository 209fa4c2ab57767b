"""Where a tape may be written, and what autolog told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dspy
import pytest
from autolog_helpers import ANSWER, Log

from dspex_lab.lms.plain._autolog import autolog
from dspex_lab.testing import scripted_lm


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demo.jsonl"


@pytest.fixture(params=[".jsonl", ".jsonl.gz"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"demo{request.param}"


@pytest.fixture
def log() -> Iterator[Log]:
    """What is told while every DSPy call is recorded and answered by a script."""
    told = Log()
    off = autolog(told.append, owner="test")
    with dspy.context(lm=scripted_lm(ANSWER)):
        yield told
    off()
