"""Fakes and conformance suites for tests of your own: a model whose answers you write, a pool without processes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex_lab.testing._fake_pool import FakePool
    from dspex_lab.testing._pool_conformance import PoolConformance
    from dspex_lab.testing._scripted import AsyncScriptedEngine, Gate, ScriptedEngine, Streams, scripted_lm

_HOME = {
    "AsyncScriptedEngine": "_scripted",
    "FakePool": "_fake_pool",
    "Gate": "_scripted",
    "PoolConformance": "_pool_conformance",
    "ScriptedEngine": "_scripted",
    "Streams": "_scripted",
    "scripted_lm": "_scripted",
}

__all__ = ["AsyncScriptedEngine", "FakePool", "Gate", "PoolConformance", "ScriptedEngine", "Streams", "scripted_lm"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        # PoolConformance needs pytest, which a program that uses only the fakes may lack.
        return getattr(importlib.import_module(f"dspex_lab.testing.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dspex_lab.testing' has no attribute {name!r}")
