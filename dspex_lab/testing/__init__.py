"""Fakes for tests of your own: a language model whose answers you write."""

from __future__ import annotations

from dspex_lab.testing._scripted import AsyncScriptedEngine, ScriptedEngine, scripted_lm

__all__ = ["AsyncScriptedEngine", "ScriptedEngine", "scripted_lm"]
