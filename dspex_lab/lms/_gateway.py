"""What stands between DSPy's cache and an engine, for the calls of a Lab."""

from __future__ import annotations

import functools
from typing import Any

from dspex_lab.lms._asking import asking
from dspex_lab.lms._streaming import streamed


class Gateway:
    """What the calls of one Lab pass on their way to an engine."""

    def order(self, lm: Any) -> tuple[Any, ...]:
        """Return the models to ask for a call of ``lm``, in that order."""
        return (lm,)


def install_gateway() -> None:
    """Wrap DSPy's choice of an engine; later calls do nothing."""
    from dspy.clients import execution

    choose = execution._engine
    if getattr(choose, "_dspex_gateway", False):
        return

    @functools.wraps(choose)
    def chosen_engine(lm: Any, call: Any, asynchronous: bool) -> Any:
        asked = asking.get()
        engine, request, provider = choose(lm, call, asynchronous)
        if asked is None:
            return engine, request, provider
        asked.attempts = 1
        return streamed(engine, request, provider, call, asked.live, asynchronous), request, provider

    chosen_engine._dspex_gateway = True  # type: ignore[attr-defined]
    execution._engine = chosen_engine
