"""Random pipelines with random failures, against a plain walk in this file that says how each must end."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import pytest
import stamina
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import dspex_lab as dx
from dspex_lab.pipelines import Result, StepOutcome

T = TypeVar("T")
LONG = 60.0
LIMIT = 0.02

#: What a step may raise; one raised by the step itself is never a cancelled run, nor the end of the process.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("bad"),
    "KeyError": lambda: KeyError("none"),
    "TimeoutError": lambda: TimeoutError("of its own"),
    "SystemExit": lambda: SystemExit(3),
    "CancelledError": lambda: asyncio.CancelledError("of its own"),
    "StopIteration": lambda: StopIteration(1),
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), OSError("b")]),
}
#: Python has no coroutine, and asyncio no future, that raises it.
SHOWN = {"StopIteration": "RuntimeError"}
#: A step that raises these is not tried again.
LASTING = {"SystemExit", "CancelledError", "wrong"}


# --- what is drawn ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Act:
    """What a function does: the first ``fails`` calls raise ``error``, and so do those for an item in ``bad``."""

    salt: int = 0
    error: str = "ValueError"
    fails: int = 0
    bad: frozenset[int] = frozenset()
    drifts: bool = False


@dataclass(frozen=True)
class Plan:
    """One step; ``error`` may also be ``"wrong"`` (a value of another type) and ``"hangs"`` (until its timeout)."""

    name: str
    kind: str
    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    gives: str = ""
    act: Act = Act()
    is_async: bool = False
    on_error: str = "stop"
    fallback: str | int = 0
    retries: int = 0
    cached: bool = False
    replaces: bool = False
    bound: int = 0
    count: int = 1
    as_text: bool = True
    parts: tuple[Plan, ...] = ()


INPUTS = ("x", "y", "xs")


@st.composite
def acts(draw: Any, *, items: bool = False) -> Act:
    failing = draw(st.sampled_from([0, 0, 0, 1, 2, 99]))
    error = draw(st.sampled_from([*ERRORS, "wrong"]))
    bad = draw(st.frozensets(st.integers(0, 3), max_size=2)) if items else frozenset()
    return Act(draw(st.integers(0, 9)), error, 0 if items else failing, bad, not items and draw(st.booleans()))


@st.composite
def natives(draw: Any, name: str, fields: tuple[str, ...], *, gives: str = "", items: bool = False, own: bool = True) -> Plan:
    act = draw(acts(items=items))
    is_async = draw(st.booleans())
    if own and is_async and draw(st.integers(0, 11)) == 0:
        act = replace(act, error="hangs", fails=99)
    return Plan(
        name,
        "native",
        tuple(draw(st.lists(st.sampled_from(fields), max_size=3, unique=True))) if fields else (),
        ("o",) if draw(st.integers(0, 5)) == 0 else (),
        gives or name,
        act,
        is_async,
        draw(st.sampled_from(["stop", "stop", "continue", "fallback"])),
        draw(st.sampled_from([7, 7, "works", "fails"])),
        draw(st.integers(0, 2)),
        not items and draw(st.integers(0, 5)) == 0,
    )


@st.composite
def plans(draw: Any, name: str, fields: tuple[str, ...], depth: int) -> Plan:
    simple = ["native", "native", "native", "when", "each", "loop", "assert", "suggest"]
    kind = draw(st.sampled_from([*simple, "parallel", "pipeline"] if depth else simple))
    if kind == "native":
        gives = draw(st.sampled_from(fields)) if draw(st.integers(0, 7)) == 0 else name
        return untyped(replace(draw(natives(name, fields, gives=gives)), replaces=gives != name), gives != name)
    made = Plan(
        name,
        kind,
        gives=name,
        on_error=draw(st.sampled_from(["stop", "stop", "continue", "fallback"])),
        fallback=draw(st.sampled_from(["works", "fails"])),
        bound=draw(st.integers(0, 40)),
        count=draw(st.integers(1, 3)),
        as_text=draw(st.booleans()),
        cached=draw(st.integers(0, 7)) == 0,
    )
    one = (draw(st.sampled_from(fields)),)
    if kind == "when":
        branches = [draw(natives(n, fields, gives=name)) for n in ("then", "otherwise")[: draw(st.integers(1, 2))]]
        return replace(made, reads=one, parts=tuple(branches))
    if kind == "each":
        inner = draw(natives("item", ("y",), gives=name, items=True, own=False))
        inner = replace(inner, reads=("item", *inner.reads))
        return replace(made, reads=draw(st.sampled_from([("xs",), ("xs",), one])), parts=(inner,))
    if kind == "loop":
        field_ = draw(st.sampled_from([name, *fields]))
        inner = draw(natives("round", fields, gives=field_))
        carried = tuple(dict.fromkeys((*inner.reads, field_))) if field_ != name else inner.reads
        return replace(
            made, gives=field_, replaces=field_ != name, parts=(untyped(replace(inner, reads=carried), field_ != name),)
        )
    if kind in ("assert", "suggest"):
        return replace(made, parts=(draw(natives("try", fields, gives=name)),))
    names = [f"{name}_{i}" for i in range(draw(st.integers(1, 3)))]
    if kind == "parallel":
        return replace(made, parts=tuple(draw(natives(n, fields)) for n in names))
    made = replace(made, parts=draw(graphs(names, fields, depth - 1)))
    return replace(made, replaces=bool(set(gives_of(made)) & set(fields)))


@st.composite
def graphs(draw: Any, names: list[str], fields: tuple[str, ...], depth: int) -> tuple[Plan, ...]:
    steps: list[Plan] = []
    known = fields
    for name in names:
        made = draw(plans(name, known, depth))
        steps.append(made)
        known = tuple(dict.fromkeys((*known, *gives_of(made))))
    if draw(st.booleans()) and not any(s.replaces for s in steps):
        steps = draw(st.permutations(steps))
    return tuple(steps)


@dataclass(frozen=True)
class Case:
    steps: tuple[Plan, ...]
    inputs: dict[str, Any] = field(default_factory=dict)
    default: int | None = None


@st.composite
def cases(draw: Any) -> Case:
    names = [f"s{i}" for i in range(draw(st.integers(1, 12)))]
    inputs = {
        "x": draw(st.integers(-5, 20)),
        "y": draw(st.sampled_from([None, 3, 17])),
        "xs": draw(st.lists(st.integers(0, 9), max_size=5)),
    }
    if draw(st.booleans()):
        inputs["o"] = draw(st.integers(0, 9))
    default = draw(st.none() | st.integers(0, 9)) if inputs["y"] is not None else None
    return Case(draw(graphs(names, INPUTS, 2)), inputs, default)


def untyped(plan: Plan, named: bool) -> Plan:
    """Return a step with no value of a wrong type where the name of its field is given, and with it no type."""
    return replace(plan, act=replace(plan.act, error="ValueError")) if named and plan.act.error == "wrong" else plan


def blanks(plan: Plan) -> dict[str, Any]:
    """Return what a fallback gives."""
    if plan.kind in ("parallel", "pipeline"):
        return {f: v for part in plan.parts for f, v in blanks(part).items()}
    return {plan.gives: [7] if plan.kind == "each" else 7}


def gives_of(plan: Plan) -> tuple[str, ...]:
    """Return the fields a step gives."""
    if plan.kind not in ("parallel", "pipeline"):
        return (plan.gives,)
    return tuple(dict.fromkeys(f for part in plan.parts for f in gives_of(part)))


def takes_of(plan: Plan) -> dict[str, bool]:
    """Return the fields a step takes, and whether it must have them."""
    out: dict[str, bool] = {}

    def add(found: Mapping[str, bool]) -> None:
        for name, needed in found.items():
            out[name] = out.get(name, False) or needed

    add(dict.fromkeys(plan.reads, True))
    add(dict.fromkeys(plan.optional, False))
    if plan.kind == "pipeline":
        for i, part in enumerate(plan.parts):
            add({f: n for f, n in takes_of(part).items() if source(plan.parts, i, f) is None})
    else:
        for part in plan.parts:
            add({f: n for f, n in takes_of(part).items() if not (plan.kind == "each" and f == "item")})
    return out


def source(steps: tuple[Plan, ...], reader: int, name: str) -> int | None:
    """Return the step whose version of a field ``reader`` reads, None for the pipeline's input."""
    givers = [i for i, s in enumerate(steps) if name in gives_of(s)]
    before = [i for i in givers if i < reader]
    after = [i for i in givers if i > reader]
    if before:
        return before[-1]
    return after[0] if after and not steps[after[0]].replaces else None


# --- how it must end --------------------------------------------------------------------------------------------------


@dataclass
class Expected:
    """How a step must end."""

    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    parts: dict[str, Expected] = field(default_factory=dict)


class Fails(Exception):
    """A step fails: by an error of this name; ``kept`` are the fields that came all the same."""

    def __init__(self, error: str, again: bool, kept: dict[str, Any] | None = None) -> None:
        super().__init__(error)
        self.error, self.again, self.kept = error, again, kept or {}


def value_of(act: Act, fields: Mapping[str, Any], calls: int) -> int:
    """Return what a function that works gives."""
    total = act.salt + (7 * calls if act.drifts else 0)
    for name, value in sorted(fields.items()):
        total += len(name) + (sum(v or 0 for v in value) if isinstance(value, list) else 11 if value is None else value)
    return total % 50


def raises(act: Act, fields: Mapping[str, Any], calls: int) -> bool:
    """Say whether a call fails; ``calls`` were made before it."""
    return calls < act.fails or ("item" in fields and fields["item"] in act.bad)


class Walk:
    """Does a pipeline's steps one by one, without doing anything."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.attempt = 0  # what was wrong with the answer before is part of what a model or a cache is asked
        self.answers: dict[Any, dict[str, Any]] = {}

    def pipeline(self, steps: tuple[Plan, ...], inputs: Mapping[str, Any]) -> dict[str, Expected]:
        ended: dict[int, Expected] = {}

        def end(index: int) -> Expected:
            if index not in ended:
                ended[index] = self.reached(steps, index, inputs, end)
            return ended[index]

        return {s.name: end(i) for i, s in enumerate(steps)}

    def reached(
        self, steps: tuple[Plan, ...], index: int, inputs: Mapping[str, Any], end: Callable[[int], Expected]
    ) -> Expected:
        fields: dict[str, Any] = {}
        for name in takes_of(steps[index]):
            giver = source(steps, index, name)
            if giver is None:
                if name in inputs:
                    fields[name] = inputs[name]
                continue
            found = end(giver)
            if name in found.outputs:
                fields[name] = found.outputs[name]
            elif found.status == "failed" and steps[giver].on_error == "continue":
                fields[name] = None
            else:
                return Expected("skipped")
        return self.step(steps[index], fields)

    def step(self, plan: Plan, given: Mapping[str, Any]) -> Expected:
        fields = {f: given[f] for f in takes_of(plan) if f in given}
        parts: dict[str, Expected] = {}
        key = (id(plan), self.attempt, repr(sorted(fields.items())))
        if plan.cached and key in self.answers:
            return Expected("complete", self.answers[key])
        for attempt in range(plan.retries + 1):
            try:
                outputs, short = self.work(plan, fields, parts)
            except Fails as failure:
                if failure.again and attempt < plan.retries:
                    continue
                return self.failed(plan, failure, parts)
            if plan.cached and not short:
                self.answers[key] = outputs
            return Expected("partial" if short else "complete", outputs, None, parts)
        raise AssertionError

    def failed(self, plan: Plan, failure: Fails, parts: dict[str, Expected]) -> Expected:
        if plan.on_error != "fallback":
            return Expected("failed", failure.kept, failure.error, parts)
        if plan.fallback == "fails":
            return Expected("failed", failure.kept, "LookupError", parts)
        return Expected("fallback", blanks(plan), failure.error, parts)

    def work(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        done: tuple[dict[str, Any], bool] = getattr(self, f"do_{plan.kind}")(plan, fields, parts)
        return done

    def do_native(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        act, calls = plan.act, self.calls[id(plan)]
        self.calls[id(plan)] += 1
        if raises(act, fields, calls):
            if act.error in ("wrong", "hangs"):
                raise Fails("PipelineError", act.error == "hangs")
            raise Fails(SHOWN.get(act.error, act.error), act.error not in LASTING)
        return {plan.gives: value_of(act, fields, calls)}, False

    def holds(self, plan: Plan, value: Any) -> bool:
        if type(value) is not int:
            raise Fails("PipelineError" if plan.as_text else "TypeError", False)
        return value >= plan.bound

    def taken(self, plan: Plan, ended: Expected) -> tuple[dict[str, Any], bool]:
        if ended.status == "failed" and plan.on_error != "continue":
            raise Fails("PipelineError", False)
        return {f: ended.outputs.get(f) for f in gives_of(plan)}, ended.status != "complete"

    def do_when(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        chosen = 0 if self.holds(plan, fields[plan.reads[0]]) else 1
        if chosen >= len(plan.parts):
            return {plan.gives: None}, False
        part = plan.parts[chosen]
        parts[part.name] = self.step(part, fields)
        return self.taken(part, parts[part.name])

    def do_each(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        items, part = fields[plan.reads[0]], plan.parts[0]
        if not isinstance(items, list):
            raise Fails("PipelineError", False)
        ended = [self.step(part, {**fields, "item": item}) for item in items]
        parts.update({f"item[{i}]": e for i, e in enumerate(ended)})
        if part.on_error != "continue" and any(e.status == "failed" for e in ended):
            raise Fails("PipelineError", False)
        return {plan.gives: [e.outputs.get(plan.gives) for e in ended]}, any(e.status != "complete" for e in ended)

    def do_loop(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        part, known, short = plan.parts[0], dict(fields), False
        found: dict[str, Any] = {}
        for index in range(plan.count):
            ended = parts[f"round[{index}]"] = self.step(part, known)
            found, less = self.taken(part, ended)
            short = short or less
            known.update(found)
            if self.holds(plan, found[plan.gives]):
                return found, short
        return found, True

    def checked(
        self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected], strict: bool
    ) -> tuple[dict[str, Any], bool]:
        part = plan.parts[0]
        found: dict[str, Any] = {}
        for attempt in range(1, plan.count + 1):
            self.attempt = attempt - 1
            ended = parts[f"try[{attempt}]"] = self.step(part, fields)
            self.attempt = 0
            if ended.status == "failed" and found and not strict:
                return found, True
            found, short = self.taken(part, ended)
            if ended.status == "failed" or self.holds(plan, found[plan.gives]):
                return found, short
        if strict:
            raise Fails("PipelineError", False)
        return found, True

    def do_assert(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        return self.checked(plan, fields, parts, True)

    def do_suggest(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        return self.checked(plan, fields, parts, False)

    def do_pipeline(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        parts.update(self.pipeline(plan.parts, fields))
        outputs = last_of(plan.parts, parts, lost=True)
        if outputs.keys() != set(gives_of(plan)):
            raise Fails("PipelineError", False, outputs)
        return outputs, any(e.status != "complete" for e in parts.values())

    do_parallel = do_pipeline


def last_of(steps: tuple[Plan, ...], ended: Mapping[str, Expected], *, lost: bool = False) -> dict[str, Any]:
    """Return each field as the last step that gives it gave it."""
    givers = {f: s for s in steps for f in gives_of(s)}
    out: dict[str, Any] = {}
    for name, giver in givers.items():
        found = ended[giver.name]
        if name in found.outputs:
            out[name] = found.outputs[name]
        elif lost and found.status == "failed" and giver.on_error == "continue":
            out[name] = None
    return out


def status_of(ended: Mapping[str, Expected]) -> str:
    if all(e.status == "complete" for e in ended.values()):
        return "complete"
    gave = any(e.status in ("complete", "partial", "fallback") or e.outputs for e in ended.values())
    return "partial" if gave else "failed"


# --- the same as a pipeline -------------------------------------------------------------------------------------------


class Built:
    """Makes the real steps of plans, each function with a count of its calls.

    Args:
        gate: the name of the step that waits for ever, and says that it does.
    """

    def __init__(self, gate: str | None = None) -> None:
        self.gate, self.reached = gate, asyncio.Event()

    def pipeline(self, case: Case) -> dx.Pipeline:
        made = dx.pipeline("p", **{s.name: self.step(s) for s in case.steps})
        return made.with_defaults(y=case.default) if case.default is not None and "y" in made.inputs else made

    def step(self, plan: Plan) -> Any:
        options: dict[str, Any] = {"on_error": plan.on_error, "replaces": plan.replaces}
        if plan.on_error == "fallback":
            options["fallback"] = self.fallback(plan)
        if plan.cached:
            options["cache"] = True
        if plan.retries:
            options.update(retries=plan.retries, idempotent=True)
        if plan.kind == "native" and plan.act.error == "hangs":
            options["timeout"] = LIMIT
        return dx.step(self.target(plan), **{k: v for k, v in options.items() if v not in (False, "stop")})

    def fallback(self, plan: Plan) -> Any:
        def fails(**fields: Any) -> Any:
            raise LookupError("no fallback")

        async def works(**fields: Any) -> Any:
            return found[plan.gives] if plan.kind == "native" else found

        found = blanks(plan)
        return {"fails": fails, "works": works}.get(str(plan.fallback), found)

    def target(self, plan: Plan) -> Any:
        parts = [self.step(part) for part in plan.parts]
        if plan.kind == "native":
            return self.function(plan)
        if plan.kind == "when":
            return dx.when(self.test(plan, plan.reads[0]), *parts)
        if plan.kind == "each":
            return dx.each(plan.reads[0], *parts, item="item", concurrency=plan.count)
        if plan.kind == "loop":
            return dx.loop(*parts, until=self.test(plan, plan.gives), limit=plan.count)
        if plan.kind in ("assert", "suggest"):
            make = dx.assert_ if plan.kind == "assert" else dx.suggest
            return make(*parts, self.test(plan, plan.gives), "too small", attempts=plan.count)
        named = {part.name: made for part, made in zip(plan.parts, parts, strict=True)}
        return dx.parallel(**named) if plan.kind == "parallel" else dx.pipeline(f"{plan.name}_in", **named)

    def test(self, plan: Plan, name: str) -> Any:
        if plan.as_text:
            return f"{name} >= {plan.bound}"
        return with_parameters(lambda **fields: fields[name] >= plan.bound, (name,), ())

    def function(self, plan: Plan) -> Any:
        act, lock, calls = plan.act, threading.Lock(), 0

        def begin(fields: dict[str, Any]) -> int:
            nonlocal calls
            with lock:
                before, calls = calls, calls + 1
            if raises(act, fields, before) and act.error not in ("wrong", "hangs"):
                raise ERRORS[act.error]()
            return before

        def work(**fields: Any) -> Any:
            before = begin(fields)
            return "text" if raises(act, fields, before) else value_of(act, fields, before)

        async def awork(**fields: Any) -> Any:
            before = begin(fields)
            await asyncio.sleep(0)
            if plan.name == self.gate:
                self.reached.set()
            if plan.name == self.gate or (raises(act, fields, before) and act.error == "hangs"):
                await asyncio.Event().wait()
            return "text" if raises(act, fields, before) else value_of(act, fields, before)

        made = with_parameters(awork if plan.is_async else work, plan.reads, plan.optional, {"return": int})
        named = plan.replaces or plan.gives in plan.reads
        return dx.step(made, outputs=[plan.gives]) if named else made


def with_parameters(
    function: Any, reads: tuple[str, ...], optional: tuple[str, ...], types: Mapping[str, Any] | None = None
) -> Any:
    """Return a function of ``**fields`` that shows named parameters."""
    kind = inspect.Parameter.KEYWORD_ONLY
    required = [inspect.Parameter(n, kind) for n in reads]
    function.__signature__ = inspect.Signature([*required, *(inspect.Parameter(n, kind, default=5) for n in optional)])
    function.__annotations__ = dict(types or {})
    return function


# --- compared ---------------------------------------------------------------------------------------------------------


def compare(result: Result, case: Case, inputs: Mapping[str, Any]) -> None:
    """Hold a result against what the plain walk says."""
    wanted = Walk().pipeline(case.steps, inputs)
    assert shown(result.steps) == {n: _plain(e) for n, e in wanted.items()}
    assert result.outputs == last_of(case.steps, wanted)
    assert result.status == status_of(wanted)
    assert list(result.steps) == [s.name for s in case.steps]
    assert (result.error is None) == all(e.error is None for e in wanted.values())
    if result.status != "complete":
        with pytest.raises(dx.PipelineError) as caught:
            result.raise_for_status()
        assert "None" not in str(caught.value).partition(":")[0]


def _plain(expected: Expected) -> tuple[Any, ...]:
    return expected.status, expected.outputs, expected.error, {n: _plain(p) for n, p in expected.parts.items()}


def shown(steps: Mapping[str, StepOutcome]) -> dict[str, Any]:
    return {n: (o.status, o.outputs, o.error and type(o.error).__name__, shown(o.parts)) for n, o in steps.items()}


def flat(steps: Mapping[str, StepOutcome], outer: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the status of every step that ran or was skipped."""
    for key, outcome in steps.items():
        name = outer + key.partition("[")[0]
        yield name, outcome.status
        yield from flat(outcome.parts, f"{name}.")


def compare_rows(lab: dx.Lab, result: Result, status: str) -> None:
    """Hold what is stored of a run against its result."""
    [run] = lab.sql("SELECT * FROM runs WHERE run_id = ?", [result.run_id]).to_dict("records")
    assert run["status"] == status
    assert json.loads(run["outputs"]) == result.outputs
    by_gravity = sorted(result.steps.values(), key=lambda s: s.status != "failed")
    failed = next((s.name for s in by_gravity if s.error is not None), None)
    assert (run["error_step"] or None) == failed
    rows = lab.sql("SELECT span_id, parent_id, kind, name, status FROM spans WHERE run_id = ?", [result.run_id])
    spans = {r["span_id"]: r for r in rows.to_dict("records")}
    steps = [r for r in spans.values() if r["kind"] == "step"]
    assert Counter((r["name"], r["status"]) for r in steps) == Counter(flat(result.steps))
    for row in steps:
        outer = row["name"].rpartition(".")[0]
        assert (spans[row["parent_id"]]["name"] == outer) if outer else (spans[row["parent_id"]]["kind"] == "run")


def in_time(work: Callable[[], T]) -> T:
    """Return what ``work`` gives; a run that hangs is a failure and not the end of the tests."""
    found: list[Any] = []

    def carry_out() -> None:
        try:
            found.append((work(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=carry_out, daemon=True)
    thread.start()
    thread.join(LONG)
    if not found:
        faulthandler.dump_traceback(all_threads=True)
        raise AssertionError("the run hangs")
    value, error = found[0]
    if error is not None:
        raise error
    done: T = value
    return done


@pytest.fixture(scope="module")
def lab() -> Iterator[dx.Lab]:
    with dx.Lab(":memory:") as made:
        yield made


@pytest.fixture(autouse=True, scope="module")
def no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


fuzzed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def prepared(case: Case, gate: str | None = None) -> tuple[Built, dx.Pipeline, dict[str, Any], dict[str, Any]]:
    """Return the pipeline of a case, its inputs, and with them those that it brings itself."""
    built = Built(gate)
    made = built.pipeline(case)
    given = {n: v for n, v in case.inputs.items() if n in made.inputs and not (n == "y" and case.default is not None)}
    return built, made, given, {**case.inputs, **({} if case.default is None else {"y": case.default})}


class Way(NamedTuple):
    """How a run is begun."""

    door: str
    watched: bool = False
    deadline: float | None = None
    checkpoint: bool = False


ways = st.builds(
    Way, st.sampled_from(["run", "arun", "stream", "map"]), st.booleans(), st.sampled_from([None, None, 3600.0]), st.booleans()
)
numbers = iter(range(10**9))


def carried_out(lab: dx.Lab, way: Way, made: dx.Pipeline, given: dict[str, Any]) -> Result:
    """Run a pipeline in one of the ways in which it can be."""
    name = f"c{next(numbers)}" if way.checkpoint and way.door != "map" else None
    options = dx.RunOptions(deadline=way.deadline, checkpoint=name)
    if way.door == "run":
        return lab.run(made, given, options=options)
    if way.door == "arun":
        return asyncio.run(lab.arun(made, given, options=options))
    events = list(lab.stream(made, given, options=options))
    result = events[-1].result
    assert result is not None
    stops = Counter((e.step, (e.data or {})["status"]) for e in events if e.kind == "step.stop")
    assert stops == Counter((n, s) for n, s in flat(result.steps) if s != "skipped")
    return result


@given(cases(), ways)
@settings(fuzzed, max_examples=150)
def test_every_run_ends_as_the_plain_walk_says(lab: dx.Lab, case: Case, way: Way) -> None:
    _, made, given_, inputs = prepared(case)
    if way.door == "map":
        compare_row(lab, case, made, given_, inputs)
        return
    unsubscribe = lab.bus.subscribe(lambda record: None) if way.watched else lambda: None
    try:
        result = in_time(lambda: carried_out(lab, way, made, given_))
    finally:
        unsubscribe()
    compare(result, case, inputs)
    compare_rows(lab, result, result.status)


def compare_row(lab: dx.Lab, case: Case, made: dx.Pipeline, given_: dict[str, Any], inputs: dict[str, Any]) -> None:
    assume(given_)
    wanted = Walk().pipeline(case.steps, inputs)
    frame = in_time(lambda: lab.map(made, [given_], progress=False))
    [row] = frame.to_dict("records")
    assert row["status"] == status_of(wanted)
    outputs = last_of(case.steps, wanted)
    assert {n: row[n] for n in outputs} == outputs
    [stored] = lab.sql("SELECT outputs, status FROM runs WHERE run_id = ?", [row["run_id"]]).to_dict("records")
    assert (json.loads(stored["outputs"]), stored["status"]) == (outputs, row["status"])


# --- stopped ----------------------------------------------------------------------------------------------------------


def names_of(steps: tuple[Plan, ...]) -> list[str]:
    return [n for s in steps for n in ([s.name] if s.kind == "native" else names_of(s.parts))]


def gated(plan: Plan, name: str) -> Plan:
    """Return a step that comes to the gate where it is called ``name``."""
    if plan.kind == "native" and plan.name == name:
        return replace(plan, is_async=True, act=Act(), retries=0, cached=False)
    return replace(plan, parts=tuple(gated(part, name) for part in plan.parts))


@given(cases(), st.data())
@settings(fuzzed, max_examples=80)
def test_a_run_stopped_anywhere_keeps_what_had_ended(lab: dx.Lab, case: Case, data: st.DataObject) -> None:
    gate = data.draw(st.sampled_from(sorted(set(names_of(case.steps)))))
    case = replace(case, steps=tuple(gated(s, gate) for s in case.steps))
    complaints: list[Any] = []

    async def stopped() -> Result | None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: complaints.append(about))
        built, made, given_, inputs = prepared(case, gate)
        task = asyncio.create_task(lab.arun(made, given_))
        reached = asyncio.create_task(built.reached.wait())
        await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if task.done():
            compare(await task, case, inputs)
            return None
        task.cancel()
        await asyncio.wait({task, reached})
        assert task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing of it is left running"
        return lab.last_result

    result = in_time(lambda: asyncio.run(stopped()))
    assert not complaints
    if result is None:
        return
    wanted = Walk().pipeline(case.steps, {**case.inputs, **({} if case.default is None else {"y": case.default})})
    assert result.cancelled
    assert result.status != "complete"
    over = {n: o for n, o in result.steps.items() if o.status != "cancelled"}
    assert shown(over) == {n: _plain(wanted[n]) for n in over}
    assert over.keys() != {s.name for s in case.steps}
    assert {n: v for o in over.values() for n, v in o.outputs.items()}.keys() >= result.outputs.keys() - {
        n for o in result.steps.values() if o.status == "cancelled" for n in o.outputs
    }
    compare_rows(lab, result, "cancelled")
    assert lab.run(lambda x: x, x=1).status == "complete"


def test_all_that_can_be_drawn_was_met() -> None:
    """The cases are worth something only if they hold every kind, every way to end and every error."""
    kinds, ends = Counter[str](), Counter[str | None]()

    def note(steps: tuple[Plan, ...], ended: Mapping[str, Expected]) -> None:
        for plan in steps:
            kinds[plan.kind] += 1
            note(plan.parts, {})
        for expected in ended.values():
            ends.update([expected.status, expected.error])
            note((), expected.parts)

    @given(cases())
    @settings(fuzzed, max_examples=150, derandomize=True, database=None)
    def draw(case: Case) -> None:
        ended = Walk().pipeline(case.steps, {"x": 1, "y": 2, "xs": [1], **case.inputs})
        ends["run " + status_of(ended)] += 1
        note(case.steps, ended)

    draw()
    assert set(kinds) == {"native", "when", "each", "parallel", "loop", "pipeline", "assert", "suggest"}
    ways_to_end = {"complete", "partial", "failed", "fallback", "skipped", "run complete", "run partial", "run failed"}
    errors = {SHOWN.get(e, e) for e in ERRORS} | {"PipelineError", "LookupError", "TypeError"}
    assert set(ends) >= ways_to_end | errors
