"""Every call of a language model inside a run, as one :class:`~dspex_lab.events.LMCall`.

A global DSPy callback costs 250-300 µs a call and does not see usage. The two methods through which every
``dspy.LM`` call passes cost a few: ``BaseLM.__call__``/``acall`` give latency and failure, ``update_history``
gives messages, outputs, usage and cost. They are wrapped once per process and do nothing outside a run. The
recorder travels as a key of ``dspy.context``, which reaches DSPy's own threads, unlike a context variable.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspex_lab.errors import BudgetExceeded, DspexError
from dspex_lab.events import Event, LMCall
from dspex_lab.lms._make import describe, is_simulated
from dspex_lab.lms.calls._asking import Asking, Recorder, asking, current_recorder
from dspex_lab.lms.calls._chain import Chain
from dspex_lab.lms.calls._failures import partial_of
from dspex_lab.lms.calls._feedback import install_feedback
from dspex_lab.lms.calls._gateway import install_gateway
from dspex_lab.lms.calls._streaming import live_call
from dspex_lab.lms.choice._prices import OWN, price_of
from dspex_lab.security.interpreter import watch_sandbox

_install_lock = threading.Lock()


def _is_cache_hit(entry: dict[str, Any]) -> bool:
    response = entry.get("response")
    if getattr(response, "cache_hit", False):
        return True
    # A native response from DSPy's cache keeps its historical usage, while the call's own usage is empty.
    usage = getattr(response, "usage", None)
    return not entry.get("usage") and bool(getattr(usage, "total_tokens", None) or getattr(usage, "input_tokens", None))


def _cost(model: str, usage: dict[str, Any], told: float | None) -> float | None:
    """Return the US dollars that a call cost: by the user's own price, else as DSPy says, else by the table of prices."""
    price = price_of(model)
    if price is None or (told is not None and price.source != OWN):
        return told
    sent, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return told if sent is None or answered is None else price.of(sent, answered)


def _record(call: Asking, started: float, seconds: float, error: str | None) -> None:
    recorder, lm, entry = call.recorder, call.lm, call.entry or {}
    usage = entry.get("usage") or {}
    hit = _is_cache_hit(entry)
    simulated = is_simulated(lm)
    record = LMCall(
        call_id=call.call_id,
        span_id=recorder.span_id,
        run_id=recorder.run_id,
        step=recorder.step,
        model=str(getattr(lm, "model", type(lm).__name__)),
        started=started,
        seconds=seconds,
        prompt_tokens=0 if hit else usage.get("prompt_tokens"),
        completion_tokens=0 if hit else usage.get("completion_tokens"),
        cost=0.0 if hit or simulated else _cost(describe(lm), usage, entry.get("cost")),
        cache_hit=hit,
        simulated=simulated,
        error=error,
        messages=entry.get("messages") or entry.get("prompt"),
        outputs=entry.get("outputs"),
        attempts=0 if hit else call.attempts,
        again=call.again,
        instead_of=call.instead_of,
        first_token=None if call.live is None else call.live.first_piece,
    )
    recorder.emit(record)
    about = (time.time(), recorder.run_id, recorder.span_id, recorder.step)
    recorder.emit(Event("lm.call", *about, {"model": record.model, "seconds": seconds}))
    if call.again:
        recorder.emit(Event("lm.second_call", *about, {"target": record.model, "call_id": call.call_id, "cached": hit}))
    if error is not None:
        recorder.emit(Event("error.lm", *about, {"error": error}))
    elif getattr(lm, "cache", False):
        recorder.emit(Event("cache.hit" if hit else "cache.miss", *about))


def _unanswered(args: tuple[Any, ...], kwargs: dict[str, Any], partial: Any) -> dict[str, Any]:
    """Return of a call that failed what DSPy's history has of others: what was asked, and what had come of an answer."""
    entry: dict[str, Any] = {"messages": kwargs.get("messages") or (args[1] if len(args) > 1 else None)}
    prompt = kwargs.get("prompt") or (args[0] if args else None)
    entry["prompt"] = prompt if isinstance(prompt, str) else None
    if partial is not None:
        usage = partial.usage
        entry["outputs"] = [partial.text]
        entry["usage"] = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    return entry


def _asks_again() -> bool:
    """Say whether the adapter that calls has asked for this answer before: it could not read that one, and now wants JSON."""
    from dspy.clients.call_context import _adapter_calls

    scopes = _adapter_calls.get()
    if not scopes:
        return False
    seen = vars(scopes[0])
    if "_dspex_asked" in seen:
        return True
    seen["_dspex_asked"] = True
    return False


@contextmanager
def recorded(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, instead_of: Any = None) -> Iterator[Asking | None]:
    """Record the call in the block; yields it, None outside a run.

    Args:
        instead_of: the model in whose place ``lm`` is asked.

    Raises:
        DspexError: what kept the call from being made, in the place of the error that DSPy wraps it in.
    """
    recorder = current_recorder()
    if recorder is None:
        yield None
        return
    live = live_call(recorder, lm, args, kwargs)
    if live is not None:
        live.refuse_if_abandoned()
    call = Asking(lm, recorder, live)
    call.again = instead_of is None and _asks_again()
    call.instead_of = None if instead_of is None else describe(instead_of)
    token, started, clock, error = asking.set(call), time.time(), time.perf_counter(), None
    refused = False
    try:
        yield call
    except BaseException as problem:
        own = problem if isinstance(problem, DspexError) else problem.__cause__
        refused = isinstance(own, BudgetExceeded) and not call.attempts
        error = f"{type(own if isinstance(own, DspexError) else problem).__name__}: {problem}"
        if call.entry is None:
            call.entry = _unanswered(args, kwargs, partial_of(problem))
        if own is not problem and isinstance(own, DspexError):
            raise own from own.__cause__
        raise
    finally:
        asking.reset(token)
        if not refused:
            _record(call, started, time.perf_counter() - clock, error)


def _tell_of_sandbox(what: str, data: dict[str, Any]) -> None:
    """Tell of model-written code that ran, or was refused, under the step it ran for; outside a run nobody is told."""
    recorder = current_recorder()
    if recorder is not None:
        recorder.emit(Event(what, time.time(), recorder.run_id, recorder.span_id, recorder.step, data))


def install() -> None:
    """Wrap DSPy's LM base class so that calls inside a run are recorded; later calls do nothing."""
    from dspy.clients.base_lm import BaseLM

    with _install_lock:
        if getattr(BaseLM, "_dspex_recording", False):
            return
        install_gateway()
        install_feedback()
        watch_sandbox(_tell_of_sandbox)
        call, acall, update_history = BaseLM.__call__, BaseLM.acall, BaseLM.update_history

        def one(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any], **about: Any) -> Any:
            with recorded(lm, args, kwargs, **about) as asked:
                answer = call(lm, *args, **kwargs)
                if asked is not None and asked.live is not None:
                    asked.live.finish(answer)
                return answer

        async def aone(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any], **about: Any) -> Any:
            with recorded(lm, args, kwargs, **about) as asked:
                answer = await acall(lm, *args, **kwargs)
                if asked is not None and asked.live is not None:
                    asked.live.finish(answer)
                return answer

        @functools.wraps(call)
        def recorded_call(self: Any, *args: Any, **kwargs: Any) -> Any:
            recorder = current_recorder()
            if recorder is None:
                return call(self, *args, **kwargs)
            if recorder.terms.uncached:
                kwargs["cache"] = False
            gateway = recorder.terms.gateway
            order = (self,) if gateway is None else gateway.order(self)
            return one(self, args, kwargs) if len(order) == 1 else Chain(self, order, args, kwargs, recorder, recorded).ask(one)

        @functools.wraps(acall)
        async def recorded_acall(self: Any, *args: Any, **kwargs: Any) -> Any:
            recorder = current_recorder()
            if recorder is None:
                return await acall(self, *args, **kwargs)
            if recorder.terms.uncached:
                kwargs["cache"] = False
            gateway = recorder.terms.gateway
            order = (self,) if gateway is None else gateway.order(self)
            if len(order) == 1:
                return await aone(self, args, kwargs)
            return await Chain(self, order, args, kwargs, recorder, recorded).aask(aone)

        @functools.wraps(update_history)
        def recorded_update_history(self: Any, entry: dict[str, Any]) -> Any:
            asked = asking.get()
            if asked is not None:
                asked.entry = entry
            return update_history(self, entry)

        BaseLM.__call__ = recorded_call
        BaseLM.acall = recorded_acall
        BaseLM.update_history = recorded_update_history
        BaseLM._dspex_recording = True


__all__ = ["Recorder", "current_recorder", "install", "recorded"]
