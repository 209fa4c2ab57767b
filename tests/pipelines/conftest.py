"""A Lab in memory, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checkpoint_helpers import Work

from dspex_lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(":memory:") as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Lab]:
    """A Lab for what asks nothing of the store."""
    with Lab(":memory:") as made:
        yield made


@pytest.fixture
def work() -> Work:
    return Work()
