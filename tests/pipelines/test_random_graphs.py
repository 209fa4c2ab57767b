"""Random pipelines with random failures, against a plain walk (``plain_walk.py``) that says how each must end."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import stamina
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pipeline_limits import in_time
from plain_walk import Expected, Walk, last_of, raises, status_of, value_of
from random_pipelines import ERRORS, LIMIT, SHOWN, Act, Case, Plan, blanks, cases

import dspex_lab as dx
from dspex_lab.pipelines import Result, StepOutcome

# --- the same as a pipeline ------------------------------------------------------------------------------------------------


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


# --- compared --------------------------------------------------------------------------------------------------------------


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
    assert stops == Counter(flat(result.steps))
    partial = [e.value for e in events if e.kind == "partial"]
    assert partial[-1] == result.outputs
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


# --- stopped ---------------------------------------------------------------------------------------------------------------


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
