"""A Lab, and servers of its pipelines that are gone after the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import dspex_lab as dx
from dspex_lab.web import serve
from dspex_lab.web._server import Served


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients ask 127.0.0.1 and no proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as made:
        yield made


@pytest.fixture
def serving(lab: dx.Lab) -> Iterator[Callable[..., Served]]:
    """Serves pipelines of the Lab, given by name; no chat page, and no rate unless a test asks for them."""
    with ExitStack() as stack:

        def start(pipelines: dict[str, dx.Pipeline] | None = None, **how: object) -> Served:
            lab.pipelines.update(pipelines or {})
            served = serve(lab, list(pipelines) if pipelines else None, **{"chat": False, "rate": None, **how})
            stack.callback(served.stop, within=0.0)
            return served

        yield start
    assert "dspex-web" not in [thread.name for thread in threading.enumerate()]
