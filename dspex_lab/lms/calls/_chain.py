"""The models that are asked in the place of one that fails.

They are asked above DSPy's cache, as ordinary calls: each has its own cache, price, history and record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dspex_lab.errors import LMError
from dspex_lab.events import Event
from dspex_lab.lms._make import describe
from dspex_lab.lms.calls._asking import Recorder
from dspex_lab.resilience import Answer, Change, Fallback, first_of, first_of_sync, mendable

#: In a chain: an answer to the same prompt that one of its models gave before, from DSPy's cache.
CACHE = "cache"


def moves_on(error: BaseException) -> bool:
    """Say whether another model might answer where this one failed: `mendable`, and a prompt too long for this one."""
    import dspy

    return isinstance(error, dspy.ContextWindowExceededError) or mendable(error)


class Chain:
    """One call, and the models that may answer it.

    Args:
        lm: the model that was called; ``args`` and ``kwargs`` are those of the call.
        order: the models in the order in which they are asked; ``"cache"`` among them.
        recorded: records the call in its block (:func:`~dspex_lab.lms.calls._recording.recorded`).
    """

    def __init__(
        self,
        lm: Any,
        order: tuple[Any, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        recorder: Recorder,
        recorded: Callable[..., Any],
    ) -> None:
        self._lm, self._order, self._args, self._kwargs, self._recorder = lm, order, args, kwargs, recorder
        self._recorded = recorded

    def ask(self, one: Callable[..., Any]) -> Any:
        """Return what the first of the models that can answers by ``one(lm, args, kwargs, instead_of=…)``."""
        attempts = [Fallback(*self._named(other), partial(self._one, one, other)) for other in self._order]
        terms = self._recorder.terms
        return self._taken(first_of_sync(attempts, mends=moves_on, deadline=terms.deadline, told=self._told))

    async def aask(self, one: Callable[..., Awaitable[Any]]) -> Any:
        """As :meth:`ask`, on the event loop."""
        attempts: list[Fallback[Awaitable[Any]]] = [
            Fallback(*self._named(other), partial(self._aone, one, other)) for other in self._order
        ]
        terms = self._recorder.terms
        return self._taken(await first_of(attempts, mends=moves_on, deadline=terms.deadline, told=self._told))

    def _named(self, other: Any) -> tuple[str, Any]:
        return (CACHE, "cache") if other == CACHE else (describe(other), "lm")

    def _one(self, one: Callable[..., Any], other: Any) -> Any:
        if other == CACHE:
            return self._remembered()
        args, kwargs, around, about = self._given(other)
        with around:
            return one(other, args, kwargs, **about)

    async def _aone(self, one: Callable[..., Awaitable[Any]], other: Any) -> Any:
        if other == CACHE:
            return self._remembered()
        args, kwargs, around, about = self._given(other)
        with around:
            return await one(other, args, kwargs, **about)

    def _given(self, other: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any, dict[str, Any]]:
        """Return the call's arguments as ``other`` takes them, what stands around it, and what its record says of it."""
        args, kwargs = self._args, self._kwargs
        if other is self._lm:
            return args, kwargs, contextlib.nullcontext(), {}
        from dspy.clients import _deprecation

        if args and hasattr(args[0], "messages"):
            args = (dataclasses.replace(args[0], model=other.model), *args[1:])
        if kwargs.get("request") is not None:
            kwargs = {**kwargs, "request": dataclasses.replace(kwargs["request"], model=other.model)}
        # DSPy warns of messages that are not an adapter's; these are as much so as before.
        origin = _deprecation._adapter_call.get()
        own = origin is not None and origin[0] is self._lm
        around = _deprecation.adapter_message_call(other, origin[1]) if own else contextlib.nullcontext()
        return args, kwargs, around, {"instead_of": self._lm}

    def _remembered(self) -> Any:
        """Return what DSPy's cache holds for this prompt and one of the models, whichever rollout it was.

        Raises:
            LMError: it holds nothing.
        """
        from dspy.clients import execution

        kwargs = {name: value for name, value in self._kwargs.items() if name not in ("cache", "rollout_id")}
        prompt = self._args[0] if self._args else kwargs.pop("prompt", None)
        messages = self._args[1] if len(self._args) > 1 else kwargs.pop("messages", None)
        for lm in (m for m in self._order if hasattr(m, "_engine_spec")):
            for asynchronous in (False, True):
                call = execution.prepare(lm, prompt, messages, {**kwargs, "cache": True}, asynchronous=asynchronous)
                call.legacy.pop("rollout_id", None)
                found = execution._cached(lm, call, asynchronous)
                if found is None:
                    continue
                with self._recorded(lm, self._args, self._kwargs, instead_of=self._lm) as asked:
                    answer = execution.finalize(lm, call, found)
                    if asked is not None and asked.live is not None:
                        asked.live.finish(answer)
                    return answer
        raise LMError("No model gave an answer to this prompt before that is still in DSPy's cache.", engine=CACHE)

    def _taken(self, answer: Answer[Any]) -> Any:
        degrade = getattr(self._recorder.context, "degrade", None)
        if answer.degraded and degrade is not None:
            degrade(self._recorder.span_id, f"answered from the cache, because {answer.left[-1].reason}")
        return answer.value

    def _told(self, change: Change) -> None:
        recorder = self._recorder
        recorder.emit(Event(change.event, time.time(), recorder.run_id, recorder.span_id, recorder.step, change.as_data()))
