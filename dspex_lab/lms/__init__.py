"""Language models: every one is a ``dspy.LM`` over an engine, so it works wherever DSPy does.

Importing this room does not import DSPy; the names below load what they need when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex_lab import _lazy

if TYPE_CHECKING:
    from dspex_lab.lms._embed import embed_text, sentence_embedder
    from dspex_lab.lms._judge import LMJudge
    from dspex_lab.lms._make import OFFLINE_MODEL, describe, is_simulated, make_lm
    from dspex_lab.lms._models import Models
    from dspex_lab.lms._portable import from_portable, portable, register_engine
    from dspex_lab.lms._submit import Workers, stay, submit_to, use_pools
    from dspex_lab.lms.budget import Budget, Ledger, Notice, Spent
    from dspex_lab.lms.calls._asking import CONTEXT_KEY, Recorder, Terms, current_recorder
    from dspex_lab.lms.calls._chain import CACHE
    from dspex_lab.lms.calls._direct import DirectCalls
    from dspex_lab.lms.calls._failures import hint_of, lasting, partial_of
    from dspex_lab.lms.calls._feedback import FEEDBACK_KEY, asking_again, current_feedback, install_feedback, with_feedback
    from dspex_lab.lms.calls._gateway import Gateway
    from dspex_lab.lms.calls._recording import install
    from dspex_lab.lms.calls._streaming import Token
    from dspex_lab.lms.choice._capabilities import set_model
    from dspex_lab.lms.choice._prices import Price, price_of, set_price
    from dspex_lab.lms.choice._providers import is_listed
    from dspex_lab.lms.choice._requirements import Requirements
    from dspex_lab.lms.choice._shelf import LMs
    from dspex_lab.lms.engines._local_model import loaded_models
    from dspex_lab.lms.exemplar._engine import AsyncExemplarEngine, ExemplarEngine
    from dspex_lab.lms.mcp._mcp import MCPTools, mcp_tools
    from dspex_lab.lms.plain._autolog import autolog, autolog_off, is_autologging
    from dspex_lab.lms.tape._tape import Tape, TapeError, TapeMiss

_HOME = {
    "Workers": "_submit",
    "stay": "_submit",
    "submit_to": "_submit",
    "use_pools": "_submit",
    "loaded_models": "engines._local_model",
    "AsyncExemplarEngine": "exemplar",
    "MCPTools": "mcp._mcp",
    "autolog": "plain._autolog",
    "autolog_off": "plain._autolog",
    "is_autologging": "plain._autolog",
    "mcp_tools": "mcp._mcp",
    "Budget": "budget",
    "CACHE": "calls._chain",
    "CONTEXT_KEY": "calls._asking",
    "DirectCalls": "calls._direct",
    "ExemplarEngine": "exemplar",
    "FEEDBACK_KEY": "calls._feedback",
    "Gateway": "calls._gateway",
    "LMJudge": "_judge",
    "LMs": "choice._shelf",
    "Ledger": "budget",
    "Models": "_models",
    "Notice": "budget",
    "OFFLINE_MODEL": "_make",
    "Price": "choice._prices",
    "Recorder": "calls._asking",
    "Requirements": "choice._requirements",
    "Spent": "budget",
    "Tape": "tape._tape",
    "TapeError": "tape._tape",
    "TapeMiss": "tape._tape",
    "Terms": "calls._asking",
    "Token": "calls._streaming",
    "asking_again": "calls._feedback",
    "current_feedback": "calls._feedback",
    "current_recorder": "calls._asking",
    "describe": "_make",
    "embed_text": "_embed",
    "from_portable": "_portable",
    "hint_of": "calls._failures",
    "install": "calls._recording",
    "install_feedback": "calls._feedback",
    "is_listed": "choice._providers",
    "is_simulated": "_make",
    "lasting": "calls._failures",
    "make_lm": "_make",
    "partial_of": "calls._failures",
    "portable": "_portable",
    "price_of": "choice._prices",
    "register_engine": "_portable",
    "sentence_embedder": "_embed",
    "set_model": "choice._capabilities",
    "set_price": "choice._prices",
    "with_feedback": "calls._feedback",
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
    "Workers",
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
    "loaded_models",
    "make_lm",
    "mcp_tools",
    "partial_of",
    "portable",
    "price_of",
    "register_engine",
    "sentence_embedder",
    "set_model",
    "set_price",
    "stay",
    "submit_to",
    "use_pools",
    "with_feedback",
]


__getattr__ = _lazy.names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
