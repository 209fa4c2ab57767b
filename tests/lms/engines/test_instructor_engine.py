"""InstructorEngine: one attempt, a validated object or an error that says enough to ask again."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any, Literal

import dspy
import pytest
from dspy.lm15 import FunctionTool, Message, ProviderError, Request, UnsupportedFeatureError
from http_helpers import KEY, ask, failure, ways
from pydantic import BaseModel, Field

from dspex_lab.errors import ConfigurationError
from dspex_lab.lms.engines import AsyncInstructorEngine, InstructorEngine, SchemaMismatch, UnusableAnswer, instructor_lm
from dspex_lab.testing import Fault, FaultyServer, Reply, ToolUse


class Order(BaseModel):
    name: str
    price: float = Field(le=100)


class Triage(BaseModel):
    intent: Literal["billing", "card"]
    orders: list[Order]


GOOD = {"intent": "card", "orders": [{"name": "Straße", "price": 3.5}]}
BAD = {"intent": "cat", "orders": [{"name": "a", "price": 200}, {"price": 1}]}
FORM = {"type": "json_schema", "name": "Triage", "schema": Triage.model_json_schema(), "strict": True}
MODES = ["tools", "json", "json_schema"]
WAYS = ["complete", "stream", "acomplete", "astream"]


def structured(text: str = "Which?", **config: Any) -> Request:
    return ask(text, "instructor/any", **{"response_format": FORM, **config})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_good_answer_is_the_object_as_json(mode: Any, way: str) -> None:
    with FaultyServer(GOOD) as server:
        text = ways(InstructorEngine(server.url, mode=mode))[way](structured())
        assert json.loads(text) == GOOD
        assert "Straße" in text
        assert server.counts.arrived == 1
        assert server.requests[0].body["model"] == "any"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_bad_answer_says_what_is_wrong_and_is_asked_for_once(mode: Any, way: str) -> None:
    with FaultyServer(BAD) as server:
        error = failure(lambda: ways(InstructorEngine(server.url, mode=mode))[way](structured()))
        assert isinstance(error, SchemaMismatch)
        assert server.counts.arrived == 1
    assert {each["path"] for each in error.errors} == {"intent", "orders[0].price", "orders[1]"}
    assert json.loads(error.text) == BAD
    assert "'cat' is not one of" in str(error)
    assert error.partial.usage.total_tokens > 0
    assert error.reason == "schema"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["I would rather tell you.", '{"intent": "ca', ""])
def test_words_instead_of_json_are_kept(mode: Any, text: str) -> None:
    with FaultyServer(Reply(text)) as server:
        error = failure(lambda: InstructorEngine(server.url, mode=mode).complete(structured()))
    assert isinstance(error, UnusableAnswer)
    if text:
        assert (error.text, error.partial.text) == (text, text)
        assert len(str(error)) < 600, "the answer is in .text, not in the message"
    else:
        assert error.reason == "empty"


def test_many_faults_are_counted() -> None:
    rows = [{"name": 1, "price": "x"} for _ in range(9)]
    with FaultyServer({"intent": "card", "orders": rows}) as server:
        error = failure(lambda: InstructorEngine(server.url).complete(structured()))
    assert len(error.errors) == 18
    assert "and 13 more" in str(error)


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_cut_at_its_limit_says_so(mode: Any) -> None:
    cut = (
        Reply("", tools=[ToolUse("Triage", GOOD)], finish="length")
        if mode == "tools"
        else Reply('{"intent": "ca', finish="length")
    )
    with FaultyServer(cut) as server:
        error = failure(lambda: InstructorEngine(server.url, mode=mode).complete(structured()))
    assert isinstance(error, SchemaMismatch)
    assert error.reason == "cut"
    assert "max_tokens" in str(error)


@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_is_no_mismatch(mode: Any) -> None:
    with FaultyServer(faults=Fault.refusal("No, never.")) as server:
        error = failure(lambda: InstructorEngine(server.url, mode=mode).complete(structured()))
    assert error.reason == "refused"
    assert "No, never." in str(error)


@pytest.mark.parametrize("way", WAYS)
def test_what_fails_below_is_said_as_it_is(way: str) -> None:
    with FaultyServer(faults=Fault.wrong_key(echo=True)) as server:
        error = failure(lambda: ways(InstructorEngine(server.url, api_key=KEY))[way](structured()))
        assert server.counts.arrived == 1
    assert isinstance(error, ProviderError)
    assert error.status == 401
    assert KEY not in f"{error}{error.__cause__}{error.__context__}"


@pytest.mark.parametrize("way", WAYS)
def test_without_a_schema_it_is_the_http_engine(way: str) -> None:
    with FaultyServer("plain words") as server:
        engine = InstructorEngine(server.url)
        assert ways(engine)[way](ask(model="instructor/any")) == "plain words"
        assert "tools" not in server.requests[0].body


def test_a_request_with_tools_is_left_to_the_model() -> None:
    tool = FunctionTool(name="look", parameters={"type": "object", "properties": {}})
    asked = Request(model="any", messages=(Message.user("x"),), tools=(tool,), config=structured().config)
    with FaultyServer(Reply("", tools=[ToolUse("look", {})])) as server:
        assert InstructorEngine(server.url).complete(asked).tool_calls[0].name == "look"
        assert [each["function"]["name"] for each in server.requests[0].body["tools"]] == ["look"]


def test_each_mode_asks_in_its_way() -> None:
    bodies = {}
    with FaultyServer(GOOD) as server:
        for mode in MODES:
            InstructorEngine(server.url, mode=mode).complete(structured("Say {{ 7 * 7 }} {% raw %}", temperature=0.5))  # type: ignore[arg-type]
        bodies = dict(zip(MODES, (arrival.body for arrival in server.requests), strict=True))
    assert bodies["tools"]["tool_choice"]["function"]["name"] == "Triage"
    assert bodies["json"]["response_format"] == {"type": "json_object"}
    assert "orders" in bodies["json"]["messages"][0]["content"]
    assert bodies["json_schema"]["response_format"]["json_schema"]["strict"] is True
    assert bodies["json_schema"]["response_format"]["json_schema"]["schema"]["properties"].keys() == {"intent", "orders"}
    for body in bodies.values():
        assert body["temperature"] == 0.5
        assert body["messages"][-1]["content"] == "Say {{ 7 * 7 }} {% raw %}", "a prompt is no template"


def test_thoughts_stay_beside_the_object() -> None:
    with FaultyServer(Reply(GOOD, thinking="so")) as server:
        parts = InstructorEngine(server.url, mode="json").complete(structured()).message.parts
    assert [part.type for part in parts] == ["thinking", "text"]


def test_schemas_that_are_none_or_of_no_object_are_refused() -> None:
    with FaultyServer(GOOD) as server:
        engine = InstructorEngine(server.url)
        array = {**FORM, "schema": {"type": "array"}}
        assert isinstance(failure(lambda: engine.complete(structured(response_format=array))), UnsupportedFeatureError)
        broken = {**FORM, "schema": {"type": "object", "properties": 3}}
        assert isinstance(failure(lambda: engine.complete(structured(response_format=broken))), ConfigurationError)
        assert server.counts.arrived == 0


def test_a_schema_by_reference_is_followed_but_never_over_the_network() -> None:
    inner = {"$ref": "#/$defs/T", "$defs": {"T": {"type": "object", "required": ["a"]}}}
    with FaultyServer({"b": 1}) as server, FaultyServer() as elsewhere:
        engine = InstructorEngine(server.url, mode="json_schema")
        error = failure(lambda: engine.complete(structured(response_format={**FORM, "schema": inner})))
        assert "'a' is a required property" in str(error)
        outer = {"type": "object", "properties": {"b": {"$ref": f"{elsewhere.url}/models"}}}
        assert failure(lambda: engine.complete(structured(response_format={**FORM, "schema": outer}))) is not None
        assert elsewhere.counts.connections == 0


def test_it_works_under_dspys_adapters_and_tokens_of_bad_answers_are_counted() -> None:
    class Route(dspy.Signature):
        """Route it."""

        message: str = dspy.InputField()
        intent: Literal["billing", "card"] = dspy.OutputField()

    with FaultyServer([{"intent": "card"}, {"intent": "cat"}]) as server:
        lm = instructor_lm("any", api_base=server.url, cache=False, num_retries=0)
        assert lm.supports_response_schema
        assert lm.model == f"instructor/any@127.0.0.1:{server.port}"
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            assert dspy.Predict(Route)(message="x").intent == "card"
        with dspy.track_usage() as usage:
            error = failure(
                lambda: lm(request=Request(model=lm.model, messages=(Message.user("x"),), config=structured().config))
            )
        assert isinstance(error.__cause__, SchemaMismatch)
        assert error.partial.usage.total_tokens == usage.get_total_tokens()[lm.model]["total_tokens"] > 0


@pytest.mark.parametrize("kind", [InstructorEngine, AsyncInstructorEngine])
def test_it_is_saved_with_its_mode_and_without_its_key(kind: Any) -> None:
    engine = kind("http://h/v1", mode="json", api_key=KEY)
    again = pickle.loads(pickle.dumps(engine))  # noqa: S301 - our own
    assert KEY not in json.dumps(engine.dump_state())
    assert (type(again), again.mode, again.api_base) == (kind, "json", "http://h/v1")
    assert again.endpoint.key_was_an_argument


def test_a_mode_that_is_none_is_pointed_at() -> None:
    with pytest.raises(ConfigurationError, match="json_schema"):
        InstructorEngine("http://h/v1", mode="json_schem")  # type: ignore[arg-type]


def test_without_instructor_the_command_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "instructor", None)
    error = failure(lambda: instructor_lm("any", api_base="http://h/v1"))
    assert isinstance(error, ConfigurationError)
    assert "pip install" in str(error.hint)


def test_a_fault_of_its_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = InstructorEngine("http://h/v1")
    monkeypatch.setattr(engine, "_patched", lambda create: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.complete(structured())


def test_mismatches_travel() -> None:
    from tblib import pickling_support

    pickling_support.install(SchemaMismatch)  # as Dask does: causes are pickled along

    with FaultyServer(BAD) as server:
        error = failure(lambda: InstructorEngine(server.url).complete(structured()))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (again.text, again.errors, again.reason, again.partial.usage) == (
        error.text,
        error.errors,
        "schema",
        error.partial.usage,
    )


def test_it_needs_no_litellm_and_says_nothing_on_the_terminal() -> None:
    code = f"""
import sys
from dspex_lab.lms.engines import InstructorEngine, SchemaMismatch
from dspex_lab.testing import FaultyServer
from dspy.lm15 import Config, Message, Request
asked = Request(model="m", messages=(Message.user("x"),), config=Config(response_format={FORM!r}))
with FaultyServer({BAD!r}) as server:
    try:
        InstructorEngine(server.url).complete(asked)
    except SchemaMismatch:
        print("litellm" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
