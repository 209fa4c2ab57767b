"""Fakes and conformance suites for tests of your own: a model whose answers you write, a provider that fails when you say,
a pool without processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex_lab import _lazy

if TYPE_CHECKING:
    from dspex_lab.testing._embedder_conformance import EmbedderConformance
    from dspex_lab.testing._engine_conformance import Declared, EngineConformance
    from dspex_lab.testing._fake_pool import FakePool
    from dspex_lab.testing._faulty import FaultyServer
    from dspex_lab.testing._faulty_fault import Fault
    from dspex_lab.testing._faulty_log import Arrival, Counts
    from dspex_lab.testing._gate import Gate
    from dspex_lab.testing._pool_conformance import PoolConformance
    from dspex_lab.testing._provider_conformance import ProviderConformance
    from dspex_lab.testing._reply import Reply, ToolUse
    from dspex_lab.testing._scripted import AsyncScriptedEngine, ScriptedEngine, Streams, scripted_lm

_HOME = {
    "Arrival": "_faulty_log",
    "AsyncScriptedEngine": "_scripted",
    "Counts": "_faulty_log",
    "Declared": "_engine_conformance",
    "EmbedderConformance": "_embedder_conformance",
    "EngineConformance": "_engine_conformance",
    "FakePool": "_fake_pool",
    "Fault": "_faulty_fault",
    "FaultyServer": "_faulty",
    "Gate": "_gate",
    "PoolConformance": "_pool_conformance",
    "ProviderConformance": "_provider_conformance",
    "Reply": "_reply",
    "ScriptedEngine": "_scripted",
    "Streams": "_scripted",
    "ToolUse": "_reply",
    "scripted_lm": "_scripted",
}

__all__ = [
    "Arrival",
    "AsyncScriptedEngine",
    "Counts",
    "Declared",
    "EmbedderConformance",
    "EngineConformance",
    "FakePool",
    "Fault",
    "FaultyServer",
    "Gate",
    "PoolConformance",
    "ProviderConformance",
    "Reply",
    "ScriptedEngine",
    "Streams",
    "ToolUse",
    "scripted_lm",
]


# The conformance suites need pytest, which a program that uses only the fakes may lack.
__getattr__ = _lazy.names(__name__, _HOME)
