"""A step that runs the program a field holds: what it takes and gives, where it runs, and how it fails."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dspy
import pandas as pd
import pytest
from clocks import eventually

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError, PipelineError, SignatureError
from dspex_lab.pipelines import Code, code, same
from dspex_lab.pipelines.files._schema import SCHEMA, TYPES
from dspex_lab.security import CodeError, Protection, protection
from dspex_lab.security.interpreter import OneRun, limits_of
from dspex_lab.testing import scripted_lm

needs_sandbox = pytest.mark.skipif(protection().level != "full", reason=f"the kernel gives too little: {protection()}")


@pytest.fixture(scope="module")
def lab() -> Iterator[dx.Lab]:
    # One small worker is enough for the one test that has a pool.
    with dx.Lab(":memory:", dx.Config(pools={"general": {"workers": 1, "memory": "600 MB"}})) as made:
        yield made


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


def run(lab: dx.Lab, item: Any, name: str = "answer", **fields: Any) -> Any:
    return lab.run(dx.pipeline("p", **{name: item}), **fields)


def span(lab: dx.Lab, run_id: str) -> dict[str, Any]:
    lab.store.flush()
    found = lab.sql("select run_id, data from spans where kind = 'step'")
    (data,) = found[found.run_id == run_id]["data"]
    return json.loads(data) if isinstance(data, str) else dict(data)


def told(lab: dx.Lab, run_id: str, name: str = "sandbox.run") -> list[dict[str, Any]]:
    lab.store.flush()
    found = lab.sql("select run_id, name, data from events order by time")
    found = found[(found.run_id == run_id) & (found.name == name)]
    return [json.loads(data) if isinstance(data, str) else dict(data) for data in found["data"]]


# --- what it takes and gives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "inputs", "outputs"),
    [
        (code("program"), ["program"], {"answer": Any}),
        (code("program", "value: float"), ["program"], {"value": float}),
        (code("program", "value: float", variables="rows, k"), ["program", "rows", "k"], {"value": float}),
        (code("program", "a: int, b: list[str]", variables=["x"]), ["program", "x"], {"a": int, "b": list[str]}),
        (code("program", {"value": float, "note": str}), ["program"], {"value": float, "note": str}),
        (code("program", "rows: list, k: int -> value: float"), ["program", "rows", "k"], {"value": float}),
        (code("program", "-> value: Mood"), ["program"], {"value": Mood}),
        (code("program", "program: str, x -> y", variables="z"), ["program", "x", "z"], {"y": str}),
        (code("program", dspy.Signature("rows -> value: int")), ["program", "rows"], {"value": int}),
        (code("program", dx.signature("rows -> value: int[0..]")), ["program", "rows"], {"value": int}),
    ],
    ids=["nothing", "text", "variables", "several", "dict", "signature", "arrow", "with its code", "dspy", "ours"],
)
def test_its_fields(made: Code, inputs: list[str], outputs: dict[str, Any]) -> None:
    pipeline = dx.pipeline("p", answer=made)
    assert list(pipeline.inputs) == inputs
    assert {name: field.type for name, field in pipeline.outputs.items()} == outputs


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: code("the program"), PipelineError, "no name of a field"),
        (lambda: code("x = 1\nx"), PipelineError, "no name of a field"),
        (lambda: code("program", variables=["a b"]), PipelineError, "no name of a field"),
        (lambda: code("program", {}), PipelineError, "names no field"),
        (lambda: code("program", "value: flot"), SignatureError, "float"),
        (lambda: code("program", timeout=0), ConfigurationError, "seconds"),
        (lambda: code("program", memory="much"), ConfigurationError, "memory"),
        (lambda: dx.pipeline("p", a=dx.step(code("program", "v: int"), outputs=["w"])), PipelineError, "outputs"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(make: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        make()


def test_the_dry_run_and_the_graph_know_it() -> None:
    pipeline = dx.pipeline("p", program="Write a program for {{ task }}", answer=code("program", "value: float"))
    report = pipeline.check()
    assert report.steps["answer"].spend.calls.most == 0
    assert not [finding for finding in report.findings if finding.severity == "error"]
    graph = pipeline.graph()
    (node,) = [node for node in graph["nodes"] if node["name"] == "answer"]
    assert (node["kind"], node["does"]) == ("code", "code in program")
    assert "program in the sandbox" in graph.svg()


def test_it_joins_other_steps_and_its_types_are_checked() -> None:
    def program() -> int:
        return 3

    with pytest.raises(PipelineError, match="program"):
        dx.pipeline("p", program=program, answer=code("program", "value: float"))


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("value = 1.5", 1.5),
        ("x = 1\nx + 0.5", 1.5),
        ("SUBMIT(1.5)", 1.5),
        ("SUBMIT(value=1.5)\nraise ValueError", 1.5),
        ("value = 3", 3.0),
        ("import numpy\nvalue = numpy.float64(1.5)", 1.5),
        ("print('ünï')\nvalue = 2.5; 'something else'", 2.5),
    ],
)
@needs_sandbox
def test_a_value_is_set_submitted_or_the_last_expression(lab: dx.Lab, program: str, value: float) -> None:
    found = run(lab, code("program", "value: float"), program=program)
    assert (found.status, found.outputs) == ("complete", {"value": value}), found.error
    assert type(found.outputs["value"]) is float


@needs_sandbox
def test_other_fields_are_its_variables(lab: dx.Lab) -> None:
    item = code("program", "rows: list[dict], frame, k: int -> value: int, names: list[str]")
    program = "value = sum(row['n'] for row in rows) * k + int(frame.n.sum())\nnames = [row['name'] for row in rows]"
    found = run(lab, item, program=program, rows=[{"n": 2, "name": "ä"}], frame=pd.DataFrame({"n": [1, 2]}), k=10)
    assert found.outputs == {"value": 23, "names": ["ä"]}, found.error


@needs_sandbox
def test_what_json_has_no_word_for_arrives_as_declared(lab: dx.Lab) -> None:
    item = code("program", "day: datetime.date, mood: Mood, pair: tuple[int, str], rows: list[dict]")
    program = (
        "import datetime, pandas\nday = datetime.date(2026, 1, 2)\nmood = 'good'\npair = (1, 'a')\n"
        "rows = pandas.DataFrame({'n': [1, 2]})"
    )
    found = run(lab, item, program=program)
    assert found.outputs == {
        "day": datetime.date(2026, 1, 2),
        "mood": Mood.GOOD,
        "pair": (1, "a"),
        "rows": [{"n": 1}, {"n": 2}],
    }, found.error


@needs_sandbox
def test_without_declared_outputs_it_gives_one_field_of_any_kind(lab: dx.Lab) -> None:
    assert run(lab, code("program"), program="answer = {'a': [1]}").outputs == {"answer": {"a": [1]}}
    assert run(lab, code("program"), program="[1, 2]").outputs == {"answer": [1, 2]}


@needs_sandbox
def test_a_model_writes_and_the_sandbox_runs(lab: dx.Lab) -> None:
    pipeline = dx.pipeline(
        "p",
        program=dspy.Predict("question -> program"),
        answer=code("program", "value: int"),
        doubled=lambda value: value * 2,
    )
    with dspy.context(lm=scripted_lm({"program": "value = len('four')"})):
        found = lab.run(pipeline, question="How long is it?")
    assert found.outputs["doubled"] == 8, found.error


@needs_sandbox
def test_fences_around_the_program_are_taken_off(lab: dx.Lab) -> None:
    for text in ("```python\nvalue = 1\n```", "Here it is:\n```py\nvalue = 1\n```\nDone.", "```\nvalue = 1\n```"):
        assert run(lab, code("program", "value: int"), program=text).outputs == {"value": 1}


@needs_sandbox
def test_what_was_printed_is_in_the_span_and_the_run_is_told(lab: dx.Lab) -> None:
    found = run(lab, code("program", "value: int"), program="print('é' * 10_000)\nvalue = 1")
    data = span(lab, found.run_id)
    assert data["stdout"].startswith("ééé")
    assert "10,001 characters" in data["stdout"]
    assert "landlock" in data["sandbox"]
    (event,) = told(lab, found.run_id)
    assert (event["outcome"], event["printed"]) == ("complete", 10_001)
    assert found.steps["answer"].implementation == "sandbox"


@needs_sandbox
def test_each_execution_begins_anew(lab: dx.Lab) -> None:
    item = code("program", "value: int")
    assert run(lab, item, program="x = 5\nvalue = x").outputs == {"value": 5}
    found = run(lab, item, program="value = x")
    assert found.status == "failed"
    assert "NameError" in str(found.error)


# --- failing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        ("value = (", CodeError, "SyntaxError|syntax|never closed"),
        ("1 / 0", CodeError, "ZeroDivisionError"),
        ("value = 'text'", SignatureError, "value"),
        ("value = -1", SignatureError, "value"),
        ("value = object()", CodeError, "no JSON form"),
        ("print('only this')", PipelineError, "gave no 'value'.*only this"),
        ("SUBMIT(1, 2)", CodeError, "SUBMIT takes value"),
        ("import os\nos._exit(0)", dx.SandboxDied, ""),
        ("open('/etc/passwd')", dx.SandboxViolation, ""),
        ("x = bytearray(10**11)", dx.SandboxOutOfMemory, "memory"),
    ],
)
@needs_sandbox
def test_failures_have_names(lab: dx.Lab, program: str, kind: Any, words: str) -> None:
    found = run(lab, code("program", "value: float[0..]"), program=program)
    assert found.status == "failed"
    assert isinstance(found.error, kind) or isinstance(found.steps["answer"].error, kind), repr(found.error)
    assert re.search(words, str(found.steps["answer"].error), re.DOTALL)


@needs_sandbox
def test_a_program_that_never_ends_is_ended_and_told(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security.sandbox._conversation import Conversation

    # The time is over when it has begun, however slow the machine is.
    monkeypatch.setattr(Conversation, "seconds", property(lambda talk: 3_600.0 if talk.out.size else 0.0))
    found = run(lab, code("program", "value: int", timeout=60), program="print('begun', flush=True)\nwhile True: pass")
    assert isinstance(found.steps["answer"].error, dx.SandboxTimeout)
    (event,) = told(lab, found.run_id)
    assert event["outcome"] == "timeout"
    assert span(lab, found.run_id)["stdout"] == "begun\n"


@needs_sandbox
def test_a_field_that_is_no_text_is_refused(lab: dx.Lab) -> None:
    with pytest.raises(PipelineError, match="program"):
        run(lab, code("program", "value: int"), program=3)


@needs_sandbox
def test_its_failure_may_be_tried_again_or_replaced(lab: dx.Lab) -> None:
    item = dx.step(code("program", "value: int"), retries=1, on_error="fallback", fallback={"value": -1})
    assert run(lab, item, program="1 / 0").outputs == {"value": -1}


@needs_sandbox
def test_a_cancelled_run_ends_its_process(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    ready = threading.Event()
    from dspex_lab.security.interpreter import _once

    real = _once.open_session

    def watched(*args: Any) -> Any:
        opened.append(real(*args))
        ready.set()
        return opened[-1]

    monkeypatch.setattr(_once, "open_session", watched)

    async def cancelled() -> None:
        work = asyncio.create_task(lab.arun(dx.pipeline("p", answer=code("program", timeout=60)), program="while True: pass"))
        await asyncio.to_thread(ready.wait)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cancelled())
    eventually(lambda: not opened[0].alive)  # a thread ends it


def test_one_that_is_stopped_before_it_began_does_not_begin() -> None:
    if protection().level != "full":
        pytest.skip("no sandbox")
    one = OneRun("value = 1", {}, ("value",), limits_of(None))
    one.stop()
    with pytest.raises(dx.SandboxDied, match="stopped before it began"):
        one()


def test_a_run_travels_before_it_began() -> None:
    one = OneRun("value = x", {"x": 1}, ("value",), limits_of(None))
    again = cloudpickle.loads(cloudpickle.dumps(one))
    assert (again.code, again.variables, again.names, again.limits) == ("value = x", {"x": 1}, ("value",), one.limits)


def test_where_there_is_no_sandbox_it_is_refused(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspex_lab.security.interpreter import _opening

    nothing = Protection(landlock=0, seccomp=False, rlimits=True, missing=("Landlock (no files): Linux 5.13 is needed",))
    monkeypatch.setattr(_opening, "protection", lambda: nothing)
    monkeypatch.setattr(_opening, "_deno", lambda: None)
    found = run(lab, code("program", "value: int"), program="value = 1")
    assert isinstance(found.steps["answer"].error, dx.SandboxUnavailable)
    assert "Landlock" in str(found.steps["answer"].error)
    (refused,) = told(lab, found.run_id, "sandbox.refuse")
    assert refused["outcome"] == "refused"


@needs_sandbox
def test_it_runs_on_a_pool(lab: dx.Lab) -> None:
    item = dx.step(code("program", "x: int -> value: int"), pool="general")
    found = run(lab, item, program="print('there')\nvalue = x + 1", x=1)
    assert (found.status, found.outputs) == ("complete", {"value": 2}), found.error
    assert "general" in str(found.steps["answer"].worker)
    assert span(lab, found.run_id)["stdout"] == "there\n"
    assert [event["outcome"] for event in told(lab, found.run_id)] == ["complete"]
    failed = run(lab, item, program="import os; os._exit(0)", x=1)
    assert isinstance(failed.steps["answer"].error, dx.SandboxDied)
    assert [event["outcome"] for event in told(lab, failed.run_id)] == ["died"]


# --- files ------------------------------------------------------------------------------------------------------------

STEPS = {
    "plain": code("program"),
    "variables": code("program", variables="a, b"),
    "typed": code("program", "rows: list[dict], k -> value: float[0..], note: str", timeout=5, memory="256 MB"),
}


@pytest.mark.parametrize("name", STEPS)
def test_it_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    pipeline = dx.pipeline("p", answer=STEPS[name])
    text = pipeline.to_yaml()
    again = dx.load_pipeline(text)
    assert same(pipeline, again) == []
    assert again.steps["answer"].target == STEPS[name]
    assert again.to_yaml() == text


@needs_sandbox
def test_one_of_a_file_runs(lab: dx.Lab) -> None:
    pipeline = dx.load_pipeline(
        "name: p\nsteps:\n  answer:\n    type: code\n    code: program\n    signature: 'x: int -> value: int'\n"
        "    limits: {seconds: 20, memory: 300 MB}\n"
    )
    assert lab.run(pipeline, program="value = x + 1", x=1).outputs == {"value": 2}
    assert pipeline.steps["answer"].target.limits.memory == 300_000_000


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("signature: 'a -> b'", "has no 'code'"),
        ("code: the program", "no name of a field"),
        ("code: program\n    limits: {seconds: 100000}", "more seconds than a file may"),
        ("code: program\n    limits: {memory: 100 GB}", "more memory than a file may"),
        ("code: program\n    limits: {memory: much}", "limits do not fit"),
        ("code: program\n    limits: {hours: 1}", "hours"),
        ("code: program\n    tools: [a]", "has no 'tools'"),
    ],
)
def test_what_a_file_may_not_is_refused_with_its_place(lines: str, words: str) -> None:
    with pytest.raises(PipelineError, match=words) as caught:
        dx.load_pipeline(f"name: p\nsteps:\n  answer:\n    type: code\n    {lines}\n")
    assert caught.value.line


def test_the_schema_of_files_knows_it() -> None:
    assert "code" in TYPES
    assert SCHEMA["$defs"]["code"]["required"] == ["type", "code"]
