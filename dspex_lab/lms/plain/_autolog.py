"""Plain DSPy calls, recorded: ``dx.autolog()``.

A call of a top-level DSPy module becomes a run, and a call of a language model outside any run an LM call without one. A
module inside another, or inside a run of the Lab, makes no run of its own; its LM calls belong to the one around it.
``dspy.Evaluate`` is a run too, and each of its examples one under it (kind ``"nested"``).

Five methods of DSPy's are wrapped while it is on (``Module.__call__`` and ``acall``, ``BaseLM.__call__`` and ``acall``,
``Evaluate.__call__``): a global DSPy callback would cost each module, adapter and LM call more, and does not see usage. What
is under way travels as the recorder does, as a key of DSPy's settings, and so into DSPy's own threads.
``dspy.context(dspex_autolog=False)`` leaves a block out.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from dspex_lab.events import Record
from dspex_lab.lms.calls._asking import CONTEXT_KEY, Recorder, Terms
from dspex_lab.lms.calls._recording import install
from dspex_lab.lms.plain._run import Logged, Run, Sink, carry, drop, given
from dspex_lab.lms.plain._values import as_json, inputs_of

#: ``dspy.context(dspex_autolog=False)``: nothing in the block is recorded.
AUTOLOG_KEY = "dspex_autolog"

_lock = threading.Lock()
_sinks: tuple[Sink, ...] = ()
#: What was put into DSPy's classes: by class and method, ours and the one below it.
_wrapped: dict[tuple[type, str], tuple[Any, Any]] = {}


def autolog(emit: Callable[[Record], None], *, owner: str = "", terms: Terms | None = None) -> Callable[[], None]:
    """Record plain DSPy calls of this process until the function returned is called.

    Args:
        emit: takes each record, in the thread in which it happened; raises nothing. Several may be told at once.
        owner: who asks; asking again takes the place of what the same owner asked before.
        terms: on which LM calls are made (see :class:`~dspex_lab.lms.Terms`); by default as DSPy makes them.

    Returns:
        What switches it off. When the last one has, DSPy's classes are as they were. Calling it again does nothing.
    """
    global _sinks
    sink = Sink(emit, owner, terms)
    install()
    with _lock:
        _sinks = (*(s for s in _sinks if s.owner != owner), sink)
        _wrap()

    return lambda: _forget(lambda s: s is sink)


def autolog_off(owner: str = "") -> None:
    """Switch off what ``owner`` switched on by :func:`autolog`; does nothing where that is not on."""
    _forget(lambda sink: sink.owner == owner)


def _forget(which: Callable[[Sink], bool]) -> None:
    global _sinks
    with _lock:
        _sinks = tuple(sink for sink in _sinks if not which(sink))
        if not _sinks:
            _unwrap()


def is_autologging(owner: str = "") -> bool:
    """Say whether ``owner`` is told of plain DSPy calls."""
    return any(sink.owner == owner for sink in _sinks)


def _around() -> tuple[tuple[Sink, ...], Recorder | None]:
    """Return who is to be told of a call made here (nobody, where the user left it out), and the recorder around it."""
    from dspy.dsp.utils.settings import thread_local_overrides

    overrides = thread_local_overrides.get()
    recorder = overrides.get(CONTEXT_KEY)
    return (() if overrides.get(AUTOLOG_KEY) is False else _sinks), recorder if isinstance(recorder, Recorder) else None


def _begin(name: str, inputs: Callable[[], dict[str, Any]], *, within: bool = False) -> Run | None:
    """Return the run that a call here begins; None where it belongs to one that is under way, or nobody is to be told."""
    sinks, recorder = _around()
    outer = recorder.run if isinstance(recorder, Logged) and recorder.within else None
    if not sinks or (recorder is not None and outer is None):
        return None
    return Run(name, inputs(), sinks, outer, within)


# --- what is wrapped ----------------------------------------------------------------------------------------------


def _wrap() -> None:
    from dspy.clients.base_lm import BaseLM
    from dspy.evaluate.evaluate import Evaluate
    from dspy.primitives.module import Module

    for owner, name, make in (
        (Module, "__call__", _module_call),
        (Module, "acall", _module_acall),
        (BaseLM, "__call__", _lm_call),
        (BaseLM, "acall", _lm_acall),
        (Evaluate, "__call__", _evaluate_call),
    ):
        if (owner, name) not in _wrapped:
            below = getattr(owner, name)
            ours = functools.wraps(below)(make(below))
            _wrapped[owner, name] = (ours, below)
            setattr(owner, name, ours)


def _unwrap() -> None:
    for (owner, name), (ours, below) in list(_wrapped.items()):
        if vars(owner).get(name) is ours:  # else somebody wrapped ours, which then does nothing more than call on
            setattr(owner, name, below)
            del _wrapped[owner, name]


def _module_call(below: Any) -> Any:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - DSPy looks at the name of forward()'s caller
        run = _begin(type(self).__name__, lambda: inputs_of(args, kwargs))
        if run is None:
            return below(self, *args, **kwargs)
        with run.around():
            answer = below(self, *args, **kwargs)
        return given(run, answer)

    return __call__


def _module_acall(below: Any) -> Any:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = _begin(type(self).__name__, lambda: inputs_of(args, kwargs))
        if run is None:
            return await below(self, *args, **kwargs)
        with run.around():
            answer = await below(self, *args, **kwargs)
        return given(run, answer)

    return acall


def _lm_call(below: Any) -> Any:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        recorder = _bare()
        if recorder is None:
            return below(self, *args, **kwargs)
        token = carry(recorder)
        try:
            return below(self, *args, **kwargs)
        finally:
            drop(token)

    return __call__


def _lm_acall(below: Any) -> Any:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = _bare()
        if recorder is None:
            return await below(self, *args, **kwargs)
        token = carry(recorder)
        try:
            return await below(self, *args, **kwargs)
        finally:
            drop(token)

    return acall


def _bare() -> Recorder | None:
    """Return the recorder of an LM call that belongs to no run; None where it belongs to one, or nobody is to be told."""
    sinks, recorder = _around()
    if recorder is not None or not sinks:
        return None

    def tell(record: Record) -> None:
        for sink in sinks:
            sink.emit(record)

    return Recorder(tell, None, terms=next((s.terms for s in sinks if s.terms is not None), None))


def _evaluate_call(below: Any) -> Any:
    def __call__(self: Any, program: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        def inputs() -> dict[str, Any]:
            devset = kwargs.get("devset") or (args[1] if len(args) > 1 else None) or self.devset
            metric = kwargs.get("metric") or (args[0] if args else None) or self.metric
            name = getattr(metric, "__name__", type(metric).__name__)
            return {"program": type(program).__name__, "metric": name, "examples": len(devset)}

        run = _begin(type(self).__name__, inputs, within=True)
        if run is None:
            return below(self, program, *args, **kwargs)
        with run.around():
            result = below(self, program, *args, **kwargs)
        run.end({"score": as_json(getattr(result, "score", None))})
        return result

    return __call__
