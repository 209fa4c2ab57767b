"""Small local models, made once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that answers "Say it." and two questions with what it was taught; it is not to be changed."""
    from local_checkpoints import make_checkpoint, one_thread, teach

    with one_thread():
        made = make_checkpoint(tmp_path_factory.mktemp("taught"), context=4096)
        return teach(made, "one two three four", '{"label": "billing"}', prompts=["Say it.", "question 1", "question 30"])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint that was taught nothing; it is not to be changed."""
    from local_checkpoints import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    from local_checkpoints import one_thread

    with one_thread():
        yield


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[Any]:
    """The engine of ``tiny`` on the CPU, closed afterwards."""
    from local_engine_helpers import CPU

    from dspex_lab.lms.engines import LocalEngine

    made = LocalEngine(tiny, **CPU)
    yield made
    made.close()
