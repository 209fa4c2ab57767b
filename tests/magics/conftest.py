"""A notebook's shell with the extension loaded, and a Lab of its own; it keeps no history of what is typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import dspex_lab as dx


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("DSPEX_STORE", ":memory:")
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    made.run_line_magic("load_ext", "dspex_lab")
    yield made
    made.run_line_magic("unload_ext", "dspex_lab")
    dx.lab().close()
    InteractiveShell.clear_instance()
