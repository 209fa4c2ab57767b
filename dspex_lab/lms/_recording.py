"""Every call of a language model inside a run, as one :class:`~dspex_lab.events.LMCall`.

A global DSPy callback costs 250-300 µs a call and does not see usage. The two methods through which every
``dspy.LM`` call passes cost a few: ``BaseLM.__call__``/``acall`` give latency and failure, ``update_history``
gives messages, outputs, usage and cost. They are wrapped once per process and do nothing outside a run. The
recorder travels as a key of ``dspy.context``, which reaches DSPy's own threads, unlike a context variable.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from dspex_lab.events import Event, LMCall, Record, new_id
from dspex_lab.lms._feedback import install_feedback
from dspex_lab.lms._make import is_simulated
from dspex_lab.lms._streaming import LiveCall, enter, install_streaming, leave, live_call

#: The key under which ``dspy.context`` carries the recorder of the step that is running.
CONTEXT_KEY = "dspex_recorder"

_entries: ContextVar[list[dict[str, Any]] | None] = ContextVar("dspex_lm_entries", default=None)
_install_lock = threading.Lock()


class Recorder:
    """Tells ``emit`` of every LM call made on behalf of one step.

    Args:
        emit: takes each record; called in the thread that made the call.
        run_id: the run the calls belong to; ``span_id`` and ``step`` likewise.
        guard: called before each call; what it raises keeps the call from being made.
        lm: the model the step was given; ``context`` is the run it belongs to.
    """

    __slots__ = ("context", "emit", "guard", "lm", "run_id", "span_id", "step")

    def __init__(
        self,
        emit: Callable[[Record], None],
        run_id: str | None,
        span_id: str | None = None,
        step: str | None = None,
        guard: Callable[[], None] | None = None,
        lm: Any = None,
        context: Any = None,
    ) -> None:
        self.emit = emit
        self.guard = guard
        self.lm = lm
        self.context = context
        self.run_id = run_id
        self.span_id = span_id
        self.step = step

    def __copy__(self) -> Recorder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        # DSPy copies its settings for threads; the records must still go to the one run.
        return self


def _is_cache_hit(entry: dict[str, Any]) -> bool:
    response = entry.get("response")
    if getattr(response, "cache_hit", False):
        return True
    # A native response from DSPy's cache keeps its historical usage, while the call's own usage is empty.
    usage = getattr(response, "usage", None)
    return not entry.get("usage") and bool(getattr(usage, "total_tokens", None) or getattr(usage, "input_tokens", None))


def _record(
    recorder: Recorder, lm: Any, call_id: str, started: float, seconds: float, entry: dict[str, Any], error: str | None
) -> None:
    usage = entry.get("usage") or {}
    hit = _is_cache_hit(entry)
    simulated = is_simulated(lm)
    recorder.emit(
        LMCall(
            call_id=call_id,
            span_id=recorder.span_id,
            run_id=recorder.run_id,
            step=recorder.step,
            model=str(getattr(lm, "model", type(lm).__name__)),
            started=started,
            seconds=seconds,
            prompt_tokens=0 if hit else usage.get("prompt_tokens"),
            completion_tokens=0 if hit else usage.get("completion_tokens"),
            cost=0.0 if hit or simulated else entry.get("cost"),
            cache_hit=hit,
            simulated=simulated,
            error=error,
            messages=entry.get("messages") or entry.get("prompt"),
            outputs=entry.get("outputs"),
        )
    )
    about = (time.time(), recorder.run_id, recorder.span_id, recorder.step)
    recorder.emit(Event("lm.call", *about, {"model": str(getattr(lm, "model", "")), "seconds": seconds}))
    if error is not None:
        recorder.emit(Event("error.lm", *about, {"error": error}))
    elif getattr(lm, "cache", False):
        recorder.emit(Event("cache.hit" if hit else "cache.miss", *about))


def current_recorder() -> Recorder | None:
    """Return the recorder of the step that runs here, None outside a run or while DSPy is not loaded."""
    loaded = sys.modules.get("dspy.dsp.utils.settings")
    if loaded is None:
        return None
    recorder = loaded.thread_local_overrides.get().get(CONTEXT_KEY)
    return recorder if isinstance(recorder, Recorder) else None


@contextmanager
def _recorded(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[LiveCall | None]:
    """Record the call in the block; yields what to tell of it to whoever watches the run, None where nobody does."""
    recorder = current_recorder()
    if recorder is None:
        yield None
        return
    live = live_call(recorder, lm, args, kwargs)
    if live is not None:
        live.refuse_if_abandoned()
    if recorder.guard is not None:
        recorder.guard()
    entries: list[dict[str, Any]] = []
    token, started, clock, error = _entries.set(entries), time.time(), time.perf_counter(), None
    entered = enter(live)
    try:
        yield live
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise
    finally:
        leave(entered)
        _entries.reset(token)
        call_id = live.call_id if live is not None else new_id()
        _record(recorder, lm, call_id, started, time.perf_counter() - clock, entries[-1] if entries else {}, error)


def install() -> None:
    """Wrap DSPy's LM base class so that calls inside a run are recorded; later calls do nothing."""
    from dspy.clients.base_lm import BaseLM

    with _install_lock:
        if getattr(BaseLM, "_dspex_recording", False):
            return
        install_streaming()
        install_feedback()
        call, acall, update_history = BaseLM.__call__, BaseLM.acall, BaseLM.update_history

        @functools.wraps(call)
        def recorded_call(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _recorded(self, args, kwargs) as live:
                answer = call(self, *args, **kwargs)
                if live is not None:
                    live.finish(answer)
                return answer

        @functools.wraps(acall)
        async def recorded_acall(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _recorded(self, args, kwargs) as live:
                answer = await acall(self, *args, **kwargs)
                if live is not None:
                    live.finish(answer)
                return answer

        @functools.wraps(update_history)
        def recorded_update_history(self: Any, entry: dict[str, Any]) -> Any:
            entries = _entries.get()
            if entries is not None:
                entries.append(entry)
            return update_history(self, entry)

        BaseLM.__call__ = recorded_call
        BaseLM.acall = recorded_acall
        BaseLM.update_history = recorded_update_history
        BaseLM._dspex_recording = True
