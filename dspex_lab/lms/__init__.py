"""Language models: every one is a ``dspy.LM`` over an engine, so it works wherever DSPy does.

Importing this room does not import DSPy; the names below load what they need when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex_lab.lms._asking import CONTEXT_KEY, Recorder, Terms, current_recorder
    from dspex_lab.lms._autolog import autolog, autolog_off, is_autologging
    from dspex_lab.lms._budget import Budget, Ledger, Notice, Spent
    from dspex_lab.lms._capabilities import set_model
    from dspex_lab.lms._chain import CACHE
    from dspex_lab.lms._direct import DirectCalls
    from dspex_lab.lms._embed import embed_text, sentence_embedder
    from dspex_lab.lms._failures import hint_of, lasting, partial_of
    from dspex_lab.lms._feedback import FEEDBACK_KEY, asking_again, current_feedback, install_feedback, with_feedback
    from dspex_lab.lms._gateway import Gateway
    from dspex_lab.lms._judge import LMJudge
    from dspex_lab.lms._make import OFFLINE_MODEL, describe, is_simulated, make_lm
    from dspex_lab.lms._mcp import MCPTools, mcp_tools
    from dspex_lab.lms._models import Models
    from dspex_lab.lms._portable import from_portable, portable, register_engine
    from dspex_lab.lms._prices import Price, price_of, set_price
    from dspex_lab.lms._providers import is_listed
    from dspex_lab.lms._recording import install
    from dspex_lab.lms._requirements import Requirements
    from dspex_lab.lms._shelf import LMs
    from dspex_lab.lms._streaming import Token
    from dspex_lab.lms._tape import Tape, TapeError, TapeMiss
    from dspex_lab.lms.exemplar._engine import AsyncExemplarEngine, ExemplarEngine

_HOME = {
    "AsyncExemplarEngine": "exemplar",
    "MCPTools": "_mcp",
    "autolog": "_autolog",
    "autolog_off": "_autolog",
    "is_autologging": "_autolog",
    "mcp_tools": "_mcp",
    "Budget": "_budget",
    "CACHE": "_chain",
    "CONTEXT_KEY": "_asking",
    "DirectCalls": "_direct",
    "ExemplarEngine": "exemplar",
    "FEEDBACK_KEY": "_feedback",
    "Gateway": "_gateway",
    "LMJudge": "_judge",
    "LMs": "_shelf",
    "Ledger": "_budget",
    "Models": "_models",
    "Notice": "_budget",
    "OFFLINE_MODEL": "_make",
    "Price": "_prices",
    "Recorder": "_asking",
    "Requirements": "_requirements",
    "Spent": "_budget",
    "Tape": "_tape",
    "TapeError": "_tape",
    "TapeMiss": "_tape",
    "Terms": "_asking",
    "Token": "_streaming",
    "asking_again": "_feedback",
    "current_feedback": "_feedback",
    "current_recorder": "_asking",
    "describe": "_make",
    "embed_text": "_embed",
    "from_portable": "_portable",
    "hint_of": "_failures",
    "install": "_recording",
    "install_feedback": "_feedback",
    "is_listed": "_providers",
    "is_simulated": "_make",
    "lasting": "_failures",
    "make_lm": "_make",
    "partial_of": "_failures",
    "portable": "_portable",
    "price_of": "_prices",
    "register_engine": "_portable",
    "sentence_embedder": "_embed",
    "set_model": "_capabilities",
    "set_price": "_prices",
    "with_feedback": "_feedback",
}

__all__ = [
    "CACHE",
    "CONTEXT_KEY",
    "FEEDBACK_KEY",
    "OFFLINE_MODEL",
    "AsyncExemplarEngine",
    "Budget",
    "DirectCalls",
    "ExemplarEngine",
    "Gateway",
    "LMJudge",
    "LMs",
    "Ledger",
    "MCPTools",
    "Models",
    "Notice",
    "Price",
    "Recorder",
    "Requirements",
    "Spent",
    "Tape",
    "TapeError",
    "TapeMiss",
    "Terms",
    "Token",
    "asking_again",
    "autolog",
    "autolog_off",
    "current_feedback",
    "current_recorder",
    "describe",
    "embed_text",
    "from_portable",
    "hint_of",
    "install",
    "install_feedback",
    "is_autologging",
    "is_listed",
    "is_simulated",
    "lasting",
    "make_lm",
    "mcp_tools",
    "partial_of",
    "portable",
    "price_of",
    "register_engine",
    "sentence_embedder",
    "set_model",
    "set_price",
    "with_feedback",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"dspex_lab.lms.{_HOME[name]}"), name)
    raise AttributeError(f"module 'dspex_lab.lms' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
