"""What the tests of local models on a pool share: the pool, a model, requests, and a look at each forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from dspy.lm15 import Config, Message, Request
from local_checkpoints import one_thread
from local_engine_helpers import CPU, passes_of
from thread_workers import ThreadWorkers

from dspex_lab.lms import _submit
from dspex_lab.lms._submit import use_pools
from dspex_lab.lms.engines import LocalEngine
from dspex_lab.lms.engines import _local_worker as worker

SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": False}


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadWorkers]:
    made = ThreadWorkers()
    with one_thread():
        yield made
    worker._held.clear()
    made.close()


@pytest.fixture(autouse=True)
def wired(pool: ThreadWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_submit, "_find", [])
    use_pools({"neural": pool}.__getitem__, "place of {}".format)


@pytest.fixture(scope="module")
def tiny(taught: Path) -> Path:
    return taught


def ask(text: str = "Hello", **config: Any) -> Request:
    config = {"temperature": 0, "max_tokens": 24, **config}
    return Request(model="local/tiny", messages=(Message.user(text),), config=Config(**config))


def watched(folder: Path, before: Callable[[int], Any] = lambda number: None) -> AbstractContextManager[list[int]]:
    """Have ``before`` called with the number of each forward pass in the worker; gives the batch size of each."""
    return passes_of(worker.kept(LocalEngine(folder, **CPU)._checkpoint), before)
