"""The offline default: an engine that answers a DSPy prompt from what stands in the prompt."""

from __future__ import annotations

from dspex_lab.lms.exemplar._engine import AsyncExemplarEngine, ExemplarEngine

__all__ = ["AsyncExemplarEngine", "ExemplarEngine"]
