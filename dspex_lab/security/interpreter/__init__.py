"""DSPy's interpreters in our sandbox, and programs that are run once.

``SandboxInterpreter`` loads DSPy when it is first used; nothing else here does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex_lab import _lazy
from dspex_lab.security.interpreter._choosing import chosen_factory
from dspex_lab.security.interpreter._limits import limits_of
from dspex_lab.security.interpreter._once import Once, OneRun
from dspex_lab.security.interpreter._opening import level_here
from dspex_lab.security.interpreter._telling import outcome_of, watch_sandbox

if TYPE_CHECKING:
    from dspex_lab.security.interpreter._interpreter import InterpreterFactory, SandboxInterpreter

_HOME = {"InterpreterFactory": "_interpreter", "SandboxInterpreter": "_interpreter"}

__all__ = [
    "InterpreterFactory",
    "Once",
    "OneRun",
    "SandboxInterpreter",
    "chosen_factory",
    "level_here",
    "limits_of",
    "outcome_of",
    "watch_sandbox",
]


__getattr__ = _lazy.names(__name__, _HOME)
