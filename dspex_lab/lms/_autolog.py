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

import contextlib
import functools
import inspect
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

from dspex_lab.events import Event, LMCall, Record, RunRecord, Span, new_id
from dspex_lab.lms._asking import CONTEXT_KEY, Recorder, Terms
from dspex_lab.lms._autolog_values import as_json, inputs_of, outputs_of
from dspex_lab.lms._recording import install

#: ``dspy.context(dspex_autolog=False)``: nothing in the block is recorded.
AUTOLOG_KEY = "dspex_autolog"
#: What the runs are tagged with, to tell them from the Lab's own.
TAG = "autolog"

_lock = threading.Lock()
_sinks: tuple[_Sink, ...] = ()
#: What was put into DSPy's classes: by class and method, ours and the one below it.
_wrapped: dict[tuple[type, str], tuple[Any, Any]] = {}


class _Sink:
    """Who is told."""

    __slots__ = ("emit", "owner", "terms")

    def __init__(self, emit: Callable[[Record], None], owner: str, terms: Terms | None) -> None:
        self.emit, self.owner, self.terms = emit, owner, terms


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
    sink = _Sink(emit, owner, terms)
    install()
    with _lock:
        _sinks = (*(s for s in _sinks if s.owner != owner), sink)
        _wrap()

    return lambda: _forget(lambda s: s is sink)


def autolog_off(owner: str = "") -> None:
    """Switch off what ``owner`` switched on by :func:`autolog`; does nothing where that is not on."""
    _forget(lambda sink: sink.owner == owner)


def _forget(which: Callable[[_Sink], bool]) -> None:
    global _sinks
    with _lock:
        _sinks = tuple(sink for sink in _sinks if not which(sink))
        if not _sinks:
            _unwrap()


def is_autologging(owner: str = "") -> bool:
    """Say whether ``owner`` is told of plain DSPy calls."""
    return any(sink.owner == owner for sink in _sinks)


# --- what is under way --------------------------------------------------------------------------------------------


class _Logged(Recorder):
    """The recorder of an automatic run; ``within`` says that the modules called there are runs of their own under it."""

    __slots__ = ("run", "within")

    def __init__(self, run: _Run, terms: Terms | None, within: bool) -> None:
        super().__init__(run.tell, run.run_id, run.run_id, None, terms)
        self.run = run
        self.within = within


class _Run:
    """One automatic run: what it is given, what it spends, what it gives. Thread-safe where threads meet."""

    def __init__(self, name: str, inputs: dict[str, Any], sinks: tuple[_Sink, ...], outer: _Run | None, within: bool) -> None:
        self.run_id = new_id()
        self.recorder = _Logged(self, next((s.terms for s in sinks if s.terms is not None), None), within)
        self._name = name
        self._inputs = inputs
        self._sinks = sinks
        self._outer = outer
        self._started, self._clock = time.time(), time.perf_counter()
        self._prompt_tokens: int | None = None
        self._completion_tokens: int | None = None
        self._cost: float | None = None
        self._unpriced = self._simulated = False
        self._models: list[str] = []
        self._spent = threading.Lock()
        if outer is None:
            self._event("run.start", kind="run", name=name)

    def tell(self, record: Record) -> None:
        """Pass on what a call of this run tells, and add up what it spent."""
        if isinstance(record, LMCall):
            self._add(record)
        self._emit(record)

    def _emit(self, record: Record) -> None:
        for sink in self._sinks:
            sink.emit(record)

    def _event(self, event: str, **data: Any) -> None:
        self._emit(Event(event, time.time(), self.run_id, self.run_id, None, data))

    def _add(self, call: LMCall) -> None:
        with self._spent:
            if call.prompt_tokens is not None:
                self._prompt_tokens = (self._prompt_tokens or 0) + call.prompt_tokens
            if call.completion_tokens is not None:
                self._completion_tokens = (self._completion_tokens or 0) + call.completion_tokens
            if call.cost is not None:
                self._cost = (self._cost or 0.0) + call.cost
            elif call.error is None:
                self._unpriced = True
            self._simulated = self._simulated or call.simulated
            if call.model not in self._models:
                self._models.append(call.model)
        if self._outer is not None:
            self._outer._add(call)

    def end(self, outputs: dict[str, Any] | None, problem: BaseException | None = None) -> None:
        """Record the outcome."""
        seconds = time.perf_counter() - self._clock
        status = "complete" if problem is None else "failed" if isinstance(problem, Exception) else "cancelled"
        error = None if problem is None else f"{type(problem).__name__}: {problem}".rstrip(": ")
        parent = None if self._outer is None else self._outer.run_id
        self._emit(Span(self.run_id, parent, self.run_id, "run", self._name, self._started, seconds, status, None, None, error))
        if parent is None:
            self._event("run.stop" if problem is None else "run.error", status=status, seconds=seconds)
        self._emit(
            RunRecord(
                run_id=self.run_id,
                parent_id=parent,
                kind="run" if parent is None else "nested",
                name=self._name,
                status=status,
                started=self._started,
                seconds=seconds,
                inputs=self._inputs,
                outputs=outputs,
                error=error,
                lm=", ".join(self._models) or None,
                simulated=self._simulated,
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._completion_tokens,
                cost=None if self._unpriced else self._cost,
                tags=(TAG,),
            )
        )

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """Record what fails in the block; the run is not over where it does not."""
        token = _carry(self.recorder)
        try:
            yield
        except BaseException as problem:
            self.end(None, problem)
            raise
        finally:
            _drop(token)


def _carry(recorder: Recorder) -> Any:
    """Have DSPy's settings carry ``recorder`` from here on; nothing else of them is touched."""
    from dspy.dsp.utils.settings import dotdict, thread_local_overrides

    return thread_local_overrides.set(dotdict({**thread_local_overrides.get(), CONTEXT_KEY: recorder}))


def _drop(token: Any) -> None:
    from dspy.dsp.utils.settings import thread_local_overrides

    thread_local_overrides.reset(token)


def _around() -> tuple[tuple[_Sink, ...], Recorder | None]:
    """Return who is to be told of a call made here (nobody, where the user left it out), and the recorder around it."""
    from dspy.dsp.utils.settings import thread_local_overrides

    overrides = thread_local_overrides.get()
    recorder = overrides.get(CONTEXT_KEY)
    return (() if overrides.get(AUTOLOG_KEY) is False else _sinks), recorder if isinstance(recorder, Recorder) else None


def _begin(name: str, inputs: Callable[[], dict[str, Any]], *, within: bool = False) -> _Run | None:
    """Return the run that a call here begins; None where it belongs to one that is under way, or nobody is to be told."""
    sinks, recorder = _around()
    outer = recorder.run if isinstance(recorder, _Logged) and recorder.within else None
    if not sinks or (recorder is not None and outer is None):
        return None
    return _Run(name, inputs(), sinks, outer, within)


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
        return _given(run, answer)

    return __call__


def _module_acall(below: Any) -> Any:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = _begin(type(self).__name__, lambda: inputs_of(args, kwargs))
        if run is None:
            return await below(self, *args, **kwargs)
        with run.around():
            answer = await below(self, *args, **kwargs)
        return _given(run, answer)

    return acall


def _lm_call(below: Any) -> Any:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        recorder = _bare()
        if recorder is None:
            return below(self, *args, **kwargs)
        token = _carry(recorder)
        try:
            return below(self, *args, **kwargs)
        finally:
            _drop(token)

    return __call__


def _lm_acall(below: Any) -> Any:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = _bare()
        if recorder is None:
            return await below(self, *args, **kwargs)
        token = _carry(recorder)
        try:
            return await below(self, *args, **kwargs)
        finally:
            _drop(token)

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


# --- programs that give their answer in pieces --------------------------------------------------------------------


def _given(run: _Run, answer: Any) -> Any:
    """Return what the program gave. The run is over, unless that is a generator: then it is when the last piece came."""
    if inspect.isgenerator(answer):
        return _pieces(run, answer)
    if inspect.isasyncgen(answer):
        return _apieces(run, answer)
    run.end(outputs_of(answer))
    return answer


def _pieces(run: _Run, answer: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    seen = _Seen()
    sent: Any = None
    try:
        while True:
            token = _carry(run.recorder)  # its code runs only between two pieces
            try:
                piece = answer.send(sent)
            finally:
                _drop(token)
            seen.add(piece)
            sent = yield piece
    except StopIteration as over:
        run.end(seen.outputs())
        return over.value
    except BaseException as problem:
        answer.close()
        run.end(seen.outputs(), problem)
        raise


async def _apieces(run: _Run, answer: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    seen = _Seen()
    sent: Any = None
    try:
        while True:
            token = _carry(run.recorder)
            try:
                piece = await answer.asend(sent)
            finally:
                _drop(token)
            seen.add(piece)
            sent = yield piece
    except StopAsyncIteration:
        run.end(seen.outputs())
    except BaseException as problem:
        await answer.aclose()
        run.end(seen.outputs(), problem)
        raise


class _Seen:
    """What came of a program that gives pieces: how many, and the last one, which is often the whole."""

    def __init__(self) -> None:
        self._count = 0
        self._last: Any = None

    def add(self, piece: Any) -> None:
        self._count += 1
        self._last = piece

    def outputs(self) -> dict[str, Any]:
        return {"pieces": self._count, "last": as_json(self._last)}
