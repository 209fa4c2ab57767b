"""A space that is served on a channel within this process, and seen from the other end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from remote_helpers import Hub

from dspex_lab.variables import RemoteSpace, Served, Space, serve_space


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def space() -> Space:
    space = Space()
    space.float("temperature", 0.0, 2.0, default=0.5)
    space.int("k", 0, 16, default=4)
    space.choice("adapter", ["chat", "json"], default="chat")
    space.demos("demos")
    space.derive("tokens", "k * 40 + 200")
    space.constrain("k + temperature < 17", name="small")
    return space


@pytest.fixture
def served(space: Space, hub: Hub) -> Iterator[Served]:
    with serve_space(space, hub, probe=0.01) as served:
        yield served


@pytest.fixture
def remote(served: Served, hub: Hub) -> Iterator[RemoteSpace]:
    with RemoteSpace(hub, timeout=30, every=0.05) as remote:
        yield remote
