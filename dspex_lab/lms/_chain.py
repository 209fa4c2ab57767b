"""The models that are asked in the place of one that fails.

They are asked above DSPy's cache, as ordinary calls: each has its own cache, price, history and record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_lab.errors import BudgetExceeded, BulkheadFull, CircuitOpen, ConfigurationError
from dspex_lab.events import Event
from dspex_lab.lms._asking import Recorder
from dspex_lab.lms._make import describe

#: In a chain: an answer to the same prompt that one of its models gave before, from DSPy's cache.
CACHE = "cache"


def moves_on(error: BaseException) -> bool:
    """Say whether another model might answer where this one failed.

    It might where the provider is down, slow, refuses the key, the model or the length of the prompt, or where the call was
    kept back for the provider's sake. It would not where the request is wrong, the budget is spent, or our own code is.
    """
    import dspy
    from dspy.utils.exceptions import LMCollectionLimitError, LMConfigurationError, LMInvalidRequestError

    if isinstance(error, CircuitOpen | BulkheadFull):
        return True
    if isinstance(error, BudgetExceeded | ConfigurationError | LMCollectionLimitError):
        return False
    if isinstance(error, dspy.ContextWindowExceededError | dspy.LMUnsupportedModelError | LMConfigurationError):
        return True
    return isinstance(error, dspy.LMError) and not isinstance(error, LMInvalidRequestError)


class Alternatives:
    """The models of one call, in the order in which they are asked.

    Args:
        lm: the one that was called; ``args`` and ``kwargs`` are those of the call.

    Attributes:
        first: the one to ask first: ``lm``, unless the gateway spares it.
    """

    def __init__(self, lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any], recorder: Recorder) -> None:
        gateway = recorder.terms.gateway
        self._lm, self._args, self._kwargs, self._recorder = lm, args, kwargs, recorder
        order = (lm,) if gateway is None else gateway.order(lm)
        self.first, self._rest = order[0], order[1:]

    def ask(self, error: Exception, one: Callable[..., Any]) -> Any:
        """Return what the first of the others answers; raise ``error`` where there is none that does."""
        for other, known in self._after(error):
            if known is not None:
                return known
            args, kwargs, around = self._given(other)
            try:
                with around:
                    return one(other, args, kwargs, instead_of=self._lm, again=False)
            except Exception as worse:
                self._left(error, other, worse)
        raise error

    async def aask(self, error: Exception, one: Callable[..., Awaitable[Any]]) -> Any:
        """As :meth:`ask`, on the event loop."""
        for other, known in self._after(error):
            if known is not None:
                return known
            args, kwargs, around = self._given(other)
            try:
                with around:
                    return await one(other, args, kwargs, instead_of=self._lm, again=False)
            except Exception as worse:
                self._left(error, other, worse)
        raise error

    def _after(self, error: Exception) -> Any:
        """Yield what to ask after ``error``, or what the cache holds for it; tell of each."""
        if not self._rest or not moves_on(error):
            return
        asked = [self.first]
        for other in self._rest:
            known = None
            if other == CACHE:
                known = next((k for lm in (self._lm, *asked) if (k := self._remembered(lm)) is not None), None)
                if known is None:
                    continue
                self._degrade(f"answered from the cache, because {_said(error)}")
            asked.append(other)
            self._tell(other, error)
            yield other, known

    def _left(self, error: Exception, other: Any, worse: Exception) -> None:
        if not moves_on(worse):
            raise worse from error
        error.add_note(f"{describe(other)}, asked in its place: {_said(worse)}")

    def _given(self, other: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """Return the arguments of the call as ``other`` takes them, and what stands around it."""
        from dspy.clients import _deprecation

        args, kwargs = self._args, self._kwargs
        if args and hasattr(args[0], "messages"):
            args = (dataclasses.replace(args[0], model=other.model), *args[1:])
        if kwargs.get("request") is not None:
            kwargs = {**kwargs, "request": dataclasses.replace(kwargs["request"], model=other.model)}
        # DSPy warns of messages that are not an adapter's; these are as much so as before.
        origin = _deprecation._adapter_call.get()
        own = origin is not None and origin[0] is self._lm
        around = _deprecation.adapter_message_call(other, origin[1]) if own else contextlib.nullcontext()
        return args, kwargs, around

    def _remembered(self, lm: Any) -> Any:
        """Return what DSPy's cache holds for this prompt and ``lm``, whichever rollout it was; None where it holds nothing."""
        from dspy.clients import execution

        if not hasattr(lm, "_engine_spec"):
            return None
        kwargs = {name: value for name, value in self._kwargs.items() if name not in ("cache", "rollout_id")}
        prompt = self._args[0] if self._args else kwargs.pop("prompt", None)
        messages = self._args[1] if len(self._args) > 1 else kwargs.pop("messages", None)
        for asynchronous in (False, True):
            call = execution.prepare(lm, prompt, messages, {**kwargs, "cache": True}, asynchronous=asynchronous)
            call.legacy.pop("rollout_id", None)
            call.cache = True
            found = execution._cached(lm, call, asynchronous)
            if found is not None:
                return execution.finalize(lm, call, found)
        return None

    def _degrade(self, why: str) -> None:
        degrade = getattr(self._recorder.context, "degrade", None)
        if degrade is not None:
            degrade(self._recorder.span_id, why)

    def _tell(self, other: Any, error: Exception) -> None:
        recorder = self._recorder
        name = other if other == CACHE else describe(other)
        data = {"target": describe(self._lm), "instead": name, "why": _said(error)}
        recorder.emit(Event("fallback.use", time.time(), recorder.run_id, recorder.span_id, recorder.step, data))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
