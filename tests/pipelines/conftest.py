"""A Lab in memory, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspex_lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(":memory:") as made:
        yield made
