"""What was wrong with an answer, told to the model that is asked again.

A step's work may be a DSPy program of many predictors, a native one, a template or a function; what all have in common is
that a ``dspy.LM`` is called. So the feedback is put into the messages there: at the end of the last user message, above
DSPy's cache. Signatures, demonstrations, traces and optimizers see nothing of it, and a prompt with feedback is another
prompt for every cache. (``dspy.Refine`` wraps the adapter and adds a field ``hint_``, which only DSPy's predictors read.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

#: The key under which ``dspy.context`` carries the feedback into DSPy's own threads.
FEEDBACK_KEY = "dspex_feedback"

_current: ContextVar[str | None] = ContextVar("dspex_feedback", default=None)
_install_lock = threading.Lock()


@contextlib.contextmanager
def asking_again(feedback: str) -> Iterator[None]:
    """Put ``feedback`` into the prompt of every LM call made in the block, after that of the blocks around it.

    It reaches the tasks and threads started in the block as context variables do, and DSPy's own threads where the settings
    made in the block carry it under :data:`FEEDBACK_KEY`, which are cleared of it when the block ends.
    """
    if "dspy" in sys.modules:
        install_feedback()
    outer = current_feedback()
    token = _current.set(feedback if outer is None else f"{outer}\n\n{feedback}")
    try:
        yield
    finally:
        _current.reset(token)
        _clear(outer)


def _clear(outer: str | None) -> None:
    """Leave nothing of a block's feedback in DSPy's settings, which outlast the steps that made them."""
    loaded = sys.modules.get("dspy.dsp.utils.settings")
    held = loaded.thread_local_overrides.get() if loaded is not None else {}
    if loaded is not None and FEEDBACK_KEY in held:
        rest = {name: value for name, value in held.items() if name != FEEDBACK_KEY}
        loaded.thread_local_overrides.set(loaded.dotdict(rest if outer is None else {**rest, FEEDBACK_KEY: outer}))


def current_feedback() -> str | None:
    """Return what LM calls made here are to be told, None for nothing."""
    feedback = _current.get()
    if feedback is None and (loaded := sys.modules.get("dspy.dsp.utils.settings")) is not None:
        # One of DSPy's own threads, which takes DSPy's settings along and nothing else.
        feedback = loaded.thread_local_overrides.get().get(FEEDBACK_KEY)
    return feedback


def with_feedback(messages: list[dict[str, Any]], feedback: str) -> list[dict[str, Any]]:
    """Return ``messages`` with ``feedback`` at the end of the last one of the user's."""
    last = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].get("role") == "user"), None)
    if last is None:
        return [*messages, {"role": "user", "content": feedback}]
    content = messages[last].get("content")
    told = [*content, {"type": "text", "text": feedback}] if isinstance(content, list) else f"{content}\n\n{feedback}"
    return [*messages[:last], {**messages[last], "content": told}, *messages[last + 1 :]]


def _with_feedback(request: Any, feedback: str) -> Any:
    """Return a ``dspy.lm15.Request`` with ``feedback``; as :func:`with_feedback`."""
    from dspy.lm15 import Message, TextPart

    messages, part = list(request.messages), TextPart(text=feedback)
    if messages and messages[-1].role == "user":
        messages[-1] = dataclasses.replace(messages[-1], parts=(*messages[-1].parts, part))
    else:
        messages.append(Message(role="user", parts=(part,)))
    return dataclasses.replace(request, messages=tuple(messages))


def install_feedback() -> None:
    """Wrap DSPy's LM base class so that calls are told the feedback in force; later calls do nothing."""
    from dspy.clients.base_lm import BaseLM

    with _install_lock:
        if getattr(BaseLM, "_dspex_feedback", False):
            return
        call, acall = BaseLM.__call__, BaseLM.acall

        @functools.wraps(call)
        def told_call(self: Any, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            feedback = current_feedback()
            if feedback is None:
                return call(self, prompt, messages=messages, **kwargs)
            with _told(self, feedback, prompt, messages, kwargs) as (prompt, messages):
                return call(self, prompt, messages=messages, **kwargs)

        @functools.wraps(acall)
        async def told_acall(self: Any, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            feedback = current_feedback()
            if feedback is None:
                return await acall(self, prompt, messages=messages, **kwargs)
            with _told(self, feedback, prompt, messages, kwargs) as (prompt, messages):
                return await acall(self, prompt, messages=messages, **kwargs)

        BaseLM.__call__ = told_call
        BaseLM.acall = told_acall
        BaseLM._dspex_feedback = True


@contextlib.contextmanager
def _told(lm: Any, feedback: str, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Give prompt and messages with the feedback; a request among the keywords is replaced there."""
    from dspy.clients import _deprecation

    if kwargs.get("request") is not None:
        kwargs["request"] = _with_feedback(kwargs["request"], feedback)
        yield prompt, messages
    elif messages:
        told = with_feedback(list(messages), feedback)
        # DSPy warns of messages that are not its own adapter's; these are as much so as those they were made from.
        origin = _deprecation._adapter_call.get()
        own = origin is not None and origin[0] is lm and origin[1] is messages
        with _deprecation.adapter_message_call(lm, told) if own else contextlib.nullcontext():
            yield prompt, told
    elif prompt is None or isinstance(prompt, str):
        yield f"{prompt}\n\n{feedback}" if prompt else feedback, messages
    else:
        yield _with_feedback(prompt, feedback), messages
