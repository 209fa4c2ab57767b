"""Spaces of other kernels are opened once, and closed where they could not be opened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from remote_helpers import TOLD, Hub

from dspex_lab.errors import VariableError
from dspex_lab.variables import Space, serve_space
from dspex_lab.workbench._sharing import Sharing


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.close()


def _sharing(channel: Callable[[], Any]) -> Sharing:
    return Sharing(SimpleNamespace(joined=True, address="tls://somewhere", channel=channel), "mine", "lab")  # type: ignore[arg-type]


def test_two_threads_that_open_the_same_variables_have_one_space(hub: Hub) -> None:
    both = threading.Barrier(2)

    def channel() -> Hub:
        both.wait(60)  # neither has opened it yet
        return hub

    space = Space("default")
    space.int("k", 0, 9, default=1)
    sharing, found = _sharing(channel), list[Any]()
    with serve_space(space, hub, name="default"):
        threads = [threading.Thread(target=lambda: found.append(sharing.of("default", 60))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] is found[1]
        assert found[0].values() == {"k": 1}
        assert len(hub._handlers[TOLD]) == 1, "the other one was closed"
        sharing.close()
        assert hub._handlers[TOLD] == []
        both.reset()
        closing = threading.Thread(target=both.wait)
        closing.start()
        with pytest.raises(VariableError, match="the Lab is being closed"):
            sharing.of("default", 60)
        closing.join()
        assert hub._handlers[TOLD] == []


class Impatient(Hub):
    """Somebody presses the button while it is asked for what there is."""

    def publish(self, topic: str, message: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt


def test_who_loses_patience_leaves_nothing_open() -> None:
    hub = Impatient()
    with pytest.raises(KeyboardInterrupt):
        _sharing(lambda: hub).of("default", 60)
    assert hub._handlers[TOLD] == []
    hub.close()
