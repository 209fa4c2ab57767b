"""Like requests put together: a step's function written for lists, called once for many runs."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import weakref
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import Shape, StepField, _record_fields, type_name

#: Calls a function with one list per input field and returns what it gave.
Call = Callable[[dict[str, list[Any]]], Awaitable[Any]]

#: Turns of the loop that an unhurried request leaves to others which are ready at the same moment.
_TURNS = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """How like requests to a step are put together; the ``batch=`` of a step.

    The step's function takes a list per input field and returns as many answers: a list (of values, or of dicts with the
    output fields), or a dict of lists. An answer that is an exception fails only the run it belongs to.

    Args:
        size: the most requests in one call.
        window: seconds a request waits for others, at most. A run that is alone does not wait.

    Raises:
        PipelineError: a number is out of range.
    """

    size: int = 16
    window: float = 0.01

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise PipelineError(f"Batch(size={self.size!r}) is not 1 or more.", hint="Give a whole number of requests.")
        number = isinstance(self.window, int | float) and not isinstance(self.window, bool)
        if not number or not 0 <= self.window < math.inf:
            raise PipelineError(f"Batch(window={self.window!r}) is not 0 or more.", hint="Give seconds, such as 0.01.")

    def shape(self, shape: Shape) -> Shape:
        """Return the fields of one request to a function that takes and gives the lists of ``shape``.

        Raises:
            PipelineError: it declares an input or output that is no list.
        """
        inputs = {n: StepField(n, _element(n, f.type, "takes"), f.required) for n, f in shape.inputs.items()}
        if shape.whole is None:
            return Shape(inputs, {n: StepField(n, _element(n, f.type, "gives")) for n, f in shape.outputs.items()})
        kind = _element(shape.whole, shape.outputs[shape.whole].type, "gives")
        record = _record_fields(kind)
        if record is not None:
            return Shape(inputs, record)
        return Shape(inputs, {shape.whole: StepField(shape.whole, kind)}, shape.whole)


def _element(name: str, kind: Any, verb: str) -> Any:
    """Return ``T`` of ``list[T]``, ``Sequence[T]`` …; ``Any`` where nothing, or no element, is declared."""
    origin = get_origin(kind) or kind
    if kind is Any or isinstance(kind, TypeVar):
        return Any
    listed = isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, str | bytes | Mapping)
    if not listed:
        raise PipelineError(
            f"With batch= a function {verb} lists; {name!r} is declared {type_name(kind)}.",
            hint=f"Declare it list[{type_name(kind)}], and let the function do many requests at once.",
        )
    args = get_args(kind)
    return args[0] if len(args) == 1 or (len(args) == 2 and args[1] is Ellipsis) else Any


@dataclass(slots=True)
class _Pending:
    """Requests to one function that wait for others."""

    inputs: list[Mapping[str, Any]] = field(default_factory=list)
    answers: list[asyncio.Future[Any]] = field(default_factory=list)
    calls: list[tuple[Call, contextvars.Context]] = field(default_factory=list)
    timer: asyncio.Handle | None = None


class Batchers:
    """Puts like requests together, on each event loop those of its own. Thread-safe."""

    def __init__(self) -> None:
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Collector] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    async def submit(
        self,
        key: Hashable,
        name: str,
        batch: Batch,
        inputs: Mapping[str, Any],
        call: Call,
        *,
        gives: Sequence[str] = (),
        alone: bool = False,
    ) -> Any:
        """Return the answer to one request: what the function gave for it.

        The function is called in the surroundings of the first request of a batch, so the LM calls in it are recorded there.
        A request that is cancelled leaves the others alone; when all of a batch are, its call is cancelled too.

        Args:
            key: what requests must have in common to be put together: the function, usually.
            name: the step's name, for messages.
            inputs: the fields of the request; only requests with the same fields are put together.
            call: calls the function; that of the first request is used.
            gives: the step's output fields; two or more may come as a dict of lists.
            alone: no other run is under way, so only those of the same moment (the items of a fan-out) are waited for.

        Raises:
            PipelineError: the function did not return one answer per request.
            Exception: what the function raised, or gave as the answer to this request.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            collector = self._loops.get(loop)
            if collector is None:
                collector = self._loops[loop] = _Collector()
        return await collector.submit((key, batch, tuple(inputs)), name, batch, inputs, call, gives, alone)


class _Collector:
    """What waits and what runs on one event loop; used from its thread only."""

    def __init__(self) -> None:
        self.pending: dict[Hashable, _Pending] = {}
        self.running: set[asyncio.Task[None]] = set()

    async def submit(
        self, key: Hashable, name: str, batch: Batch, inputs: Mapping[str, Any], call: Call, gives: Sequence[str], alone: bool
    ) -> Any:
        loop = asyncio.get_running_loop()
        group = self.pending.setdefault(key, _Pending())
        answer: asyncio.Future[Any] = loop.create_future()
        group.inputs.append(inputs)
        group.answers.append(answer)
        group.calls.append((call, contextvars.copy_context()))
        if len(group.answers) >= batch.size:
            self._flush(key, name, gives)
        elif group.timer is None:
            if alone or batch.window == 0:
                self._soon(key, group, name, gives, _TURNS)
            else:
                group.timer = loop.call_later(batch.window, self._flush, key, name, gives)
        return await answer

    def _soon(self, key: Hashable, group: _Pending, name: str, gives: Sequence[str], turns: int) -> None:
        if turns == 0:
            self._flush(key, name, gives)
        else:
            loop = asyncio.get_running_loop()
            group.timer = loop.call_soon(self._soon, key, group, name, gives, turns - 1)

    def _flush(self, key: Hashable, name: str, gives: Sequence[str]) -> None:
        group = self.pending.pop(key)
        if group.timer is not None:
            group.timer.cancel()
        alive = [i for i, answer in enumerate(group.answers) if not answer.done()]
        if not alive:
            return
        inputs, answers = [group.inputs[i] for i in alive], [group.answers[i] for i in alive]
        call, surroundings = group.calls[alive[0]]
        task = asyncio.get_running_loop().create_task(_run(name, call, inputs, answers, gives), context=surroundings)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

        def left(_: asyncio.Future[Any]) -> None:
            if all(answer.cancelled() for answer in answers):
                task.cancel()

        for answer in answers:
            answer.add_done_callback(left)


async def _run(
    name: str, call: Call, inputs: list[Mapping[str, Any]], answers: list[asyncio.Future[Any]], gives: Sequence[str]
) -> None:
    """Call the function for all, and hand each its answer; nothing is raised here."""
    try:
        value = await call({field: [given[field] for given in inputs] for field in inputs[0]})
        values: Sequence[Any] = _split(name, value, len(inputs), gives)
    except asyncio.CancelledError:
        for answer in answers:
            answer.cancel()
        return
    except BaseException as error:
        values = [error] * len(inputs)
    for answer, value in zip(answers, values, strict=True):
        if answer.done():
            continue
        if isinstance(value, StopIteration):
            # No future can carry it: where it is raised in a coroutine it would end that.
            answer.set_exception(RuntimeError(f"the function raised StopIteration: {value}"))
        elif isinstance(value, BaseException):
            answer.set_exception(value)
        else:
            answer.set_result(value)


def _split(name: str, value: Any, count: int, gives: Sequence[str]) -> list[Any]:
    """Return what a function gave for a list of requests as one answer each."""
    if isinstance(value, Mapping):
        return _of_columns(name, value, count, gives)
    if isinstance(value, str | bytes) or not (hasattr(value, "__len__") and hasattr(value, "__iter__")):
        raise PipelineError(
            f"Step {name!r}: with batch= a function returns a list; it returned {type(value).__name__}.",
            step=name,
            hint="Return one answer per request, in the same order.",
        )
    answers = value.tolist() if hasattr(value, "tolist") else list(value)
    if len(answers) != count:
        raise PipelineError(
            f"Step {name!r}: the function was given {count} request{'s' * (count != 1)} and returned {len(answers)} "
            f"answer{'s' * (len(answers) != 1)}.",
            step=name,
            hint="Return one answer per request, in the same order; an exception for one that failed.",
        )
    return answers


def _of_columns(name: str, columns: Mapping[str, Any], count: int, gives: Sequence[str]) -> list[Any]:
    wanted = [n for n in gives if n in columns] or list(columns)
    missing = [n for n in gives if n not in columns]
    if missing:
        raise PipelineError(
            f"Step {name!r} returned no {', '.join(map(repr, missing))}; "
            f"it returned {', '.join(map(repr, columns)) or 'nothing'}.",
            step=name,
            hint="Return a list per output field.",
        )
    split = {n: _split(f"{name}.{n}", columns[n], count, ()) for n in wanted}
    rows: list[Any] = [{n: split[n][i] for n in wanted} for i in range(count)]
    for i, row in enumerate(rows):
        failed = next((v for v in row.values() if isinstance(v, BaseException)), None)
        rows[i] = row if failed is None else failed
    return rows
