"""Which interpreter DSPy's modules get that were made without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def chosen_factory() -> Callable[[], Any]:
    """Return what makes the interpreters here: what DSPy's settings name (``interpreter_factory``), else our sandbox.

    DSPy's own default is Deno's. Put this into ``dspy.context(interpreter_factory=chosen_factory())`` around a run: modules
    with a factory of their own keep it, and DSPy outside that context stays as it is.
    """
    from dspy.dsp.utils.settings import settings

    from dspex_lab.security.interpreter._interpreter import SandboxInterpreter

    configured: Callable[[], Any] | None = settings.get("interpreter_factory")
    return SandboxInterpreter if configured is None else configured
