"""One automatic run: a call of a DSPy program that nobody asked the Lab for."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

from dspex_lab.events import Event, LMCall, Record, RunRecord, Span, new_id
from dspex_lab.lms.calls._asking import CONTEXT_KEY, Recorder, Terms
from dspex_lab.lms.plain._values import as_json, outputs_of

#: What the runs are tagged with, to tell them from the Lab's own.
TAG = "autolog"


class Sink:
    """Who is told."""

    __slots__ = ("emit", "owner", "terms")

    def __init__(self, emit: Callable[[Record], None], owner: str, terms: Terms | None) -> None:
        self.emit, self.owner, self.terms = emit, owner, terms


class Logged(Recorder):
    """The recorder of an automatic run; ``within`` says that the modules called there are runs of their own under it."""

    __slots__ = ("run", "within")

    def __init__(self, run: Run, terms: Terms | None, within: bool) -> None:
        super().__init__(run.tell, run.run_id, run.run_id, None, terms)
        self.run = run
        self.within = within


class Run:
    """One automatic run: what it is given, what it spends, what it gives. Thread-safe where threads meet."""

    def __init__(self, name: str, inputs: dict[str, Any], sinks: tuple[Sink, ...], outer: Run | None, within: bool) -> None:
        self.run_id = new_id()
        self.recorder = Logged(self, next((s.terms for s in sinks if s.terms is not None), None), within)
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
        token = carry(self.recorder)
        try:
            yield
        except BaseException as problem:
            self.end(None, problem)
            raise
        finally:
            drop(token)


def carry(recorder: Recorder) -> Any:
    """Have DSPy's settings carry ``recorder`` from here on; nothing else of them is touched."""
    from dspy.dsp.utils.settings import dotdict, thread_local_overrides

    return thread_local_overrides.set(dotdict({**thread_local_overrides.get(), CONTEXT_KEY: recorder}))


def drop(token: Any) -> None:
    from dspy.dsp.utils.settings import thread_local_overrides

    thread_local_overrides.reset(token)


# --- programs that give their answer in pieces --------------------------------------------------------------------


def given(run: Run, answer: Any) -> Any:
    """Return what the program gave. The run is over, unless that is a generator: then it is when the last piece came."""
    if inspect.isgenerator(answer):
        return _pieces(run, answer)
    if inspect.isasyncgen(answer):
        return _apieces(run, answer)
    run.end(outputs_of(answer))
    return answer


def _pieces(run: Run, answer: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    seen = _Seen()
    sent: Any = None
    try:
        while True:
            token = carry(run.recorder)  # its code runs only between two pieces
            try:
                piece = answer.send(sent)
            finally:
                drop(token)
            seen.add(piece)
            sent = yield piece
    except StopIteration as over:
        run.end(seen.outputs())
        return over.value
    except BaseException as problem:
        answer.close()
        run.end(seen.outputs(), problem)
        raise


async def _apieces(run: Run, answer: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    seen = _Seen()
    sent: Any = None
    try:
        while True:
            token = carry(run.recorder)
            try:
                piece = await answer.asend(sent)
            finally:
                drop(token)
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
