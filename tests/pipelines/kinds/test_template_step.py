"""A step that is a template: its fields, what is sent, how the answer is read, and who is asked."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal

import pydantic
import pytest

import dspex_lab as dx
from dspex_lab.errors import PipelineError, SignatureError
from dspex_lab.pipelines._step import step
from dspex_lab.pipelines.kinds._check import assert_
from dspex_lab.pipelines.kinds._template import LMTemplate, template
from dspex_lab.testing import scripted_lm
from dspex_lab.testing._scripted import AsyncScriptedEngine, ScriptedEngine


def ask(lab: dx.Lab, item: Any, answer: Any, name: str = "reply", **fields: Any) -> Any:
    import dspy

    with dspy.context(lm=scripted_lm(answer)):
        return lab.run(dx.pipeline("p", **{name: item}), **fields)


class Place(enum.Enum):
    HOME = "home"
    WORK = "work"


class Card(pydantic.BaseModel):
    name: str
    points: list[int] = []


# --- fields and prompts ---------------------------------------------------------------------------------------


def test_a_text_with_fields_is_a_step(lab: dx.Lab) -> None:
    import dspy

    lm = scripted_lm("Short.")
    p = dx.pipeline("p", summary="Summarise {{ text }} in {{ n }} words.")
    assert list(p.inputs) == ["text", "n"]
    assert {n: f.type for n, f in p.outputs.items()} == {"summary": str}
    with dspy.context(lm=lm):
        found = lab.run(p, text="a long text", n=3)
    assert (found.status, found.outputs) == ("complete", {"summary": "Short."})
    assert lm.history[-1]["messages"] == [{"role": "user", "content": "Summarise a long text in 3 words."}]
    assert found.steps["summary"].implementation == "template"


def test_a_system_message_is_a_template_too(lab: dx.Lab) -> None:
    import dspy

    lm = scripted_lm("Ja.", temperature=0.9)
    item = template("{{ text }}", system="You speak {{ language }}.", temperature=0.2, max_tokens=7)
    p = dx.pipeline("p", reply=item)
    assert list(p.inputs) == ["text", "language"]
    with dspy.context(lm=lm):
        lab.run(p, text="Yes.", language="Dutch").raise_for_status()
    entry = lm.history[-1]
    assert entry["messages"] == [
        {"role": "system", "content": "You speak Dutch."},
        {"role": "user", "content": "Yes."},
    ]
    assert (entry["kwargs"]["temperature"], entry["kwargs"]["max_tokens"]) == (0.2, 7)


def test_what_is_filled_in_is_data(lab: dx.Lab) -> None:
    import dspy

    lm = scripted_lm("a")
    with dspy.context(lm=lm):
        lab.run(dx.pipeline("p", reply="Say {{ text }}"), text="{{ 7 * 7 }} {% for x in y %}").raise_for_status()
    assert lm.history[-1]["messages"][0]["content"] == "Say {{ 7 * 7 }} {% for x in y %}"


def test_the_call_is_recorded_under_the_step(lab: dx.Lab) -> None:
    ask(lab, "{{ text }}", "a", text="b")
    found = lab.sql("select s.name from lm_calls c join spans s on s.span_id = c.span_id")
    assert list(found["name"]) == ["reply"]


def test_a_text_without_fields_is_refused_with_a_hint() -> None:
    with pytest.raises(PipelineError, match=r"Step 'reply' is the text 'support', which has no field in it") as caught:
        dx.pipeline("p", reply="support")
    assert "dx.template" in (caught.value.hint or "")
    assert list(dx.pipeline("p", reply=template("Say something.")).inputs) == []


@pytest.mark.parametrize("wrong", ["{{ text", "{% for %}", "{{ x.__class__ }}"])
def test_a_text_that_is_no_template_is_refused_before_anything_runs(wrong: str) -> None:
    with pytest.raises(PipelineError):
        dx.pipeline("p", reply=wrong)
    with pytest.raises(PipelineError):
        template(wrong)


def test_a_field_that_lacks_what_the_text_asks_fails_the_step(lab: dx.Lab) -> None:
    found = ask(lab, "{{ order.total }}", "a", order={"sum": 1})
    assert found.status == "failed"
    assert "total" in str(found.error)


# --- answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returns", "answer", "value"),
    [
        (str, " as it is \n", " as it is \n"),
        (Any, "x", "x"),
        (int, "1,200.", 1200),
        (float, "0.5", 0.5),
        (bool, "Yes", True),
        (Literal["billing", "card"], "Card.", "card"),
        (Place, "home", Place.HOME),
        (list[str], 'Here: ```json\n["a", "b"]\n```', ["a", "b"]),
        (list[int], "[1, 2,", [1, 2]),
        (dict[str, int], "{'a': 1}", {"a": 1}),
        (Card, '{"name": "a", "points": [1]}', Card(name="a", points=[1])),
        (int | None, "null", None),
    ],
)
def test_an_answer_is_read_as_the_type_it_should_have(lab: dx.Lab, returns: Any, answer: str, value: Any) -> None:
    found = ask(lab, template("{{ text }}", returns=returns), answer, text="a")
    assert found.outputs == {"reply": value}
    assert type(found.outputs["reply"]) is type(value)


def test_a_dict_of_types_gives_each_as_a_field(lab: dx.Lab) -> None:
    import dspy

    item = template("{{ text }}", returns={"title": str, "tags": list[str], "card": Card | None})
    p = dx.pipeline("p", reply=item)
    assert {n: f.type for n, f in p.outputs.items()} == {"title": str, "tags": list[str], "card": Card | None}
    lm = scripted_lm('Sure!\n{"title": "T", "tags": ["a"], "card": {"name": "n"}}')
    with dspy.context(lm=lm):
        found = lab.run(p, text="a")
    assert found.outputs == {"title": "T", "tags": ["a"], "card": Card(name="n")}
    sent = lm.history[-1]["messages"][0]["content"]
    start, _, schema = sent.partition("nothing else:\n")
    assert start == "a\n\nAnswer with one JSON object of this schema and "
    assert list(json.loads(schema)["properties"]) == json.loads(schema)["required"] == ["title", "tags", "card"]


@pytest.mark.parametrize(
    ("returns", "form"),
    [
        (str, ""),
        (int, "Answer with one whole number and nothing else."),
        (float, "Answer with one number and nothing else."),
        (bool, "Answer with true or false and nothing else."),
        (Literal["a", "b"], "Answer with exactly one of these and nothing else: a, b."),
        (list[str], 'Answer with JSON of this schema and nothing else:\n{"items": {"type": "string"}, "type": "array"}'),
        (
            Card,
            "Answer with one JSON object of this schema and nothing else:\n"
            '{"properties": {"name": {"type": "string"}, "points": {"default": [], "items": {"type": "integer"}, '
            '"type": "array"}}, "required": ["name"], "type": "object"}',
        ),
    ],
)
def test_the_form_of_the_answer_is_asked_for(returns: Any, form: str) -> None:
    assert template("{{ text }}", returns=returns).form == form


def test_an_answer_that_says_no_such_value_fails_the_step(lab: dx.Lab) -> None:
    found = ask(lab, template("{{ text }}", returns=int), "about a dozen", text="a")
    assert isinstance(found.error, SignatureError)
    assert found.error.field == "reply"
    assert "about a dozen" in found.error.message
    several = ask(lab, template("{{ text }}", returns={"a": int, "b": int}), '{"a": 1}', text="a")
    assert isinstance(several.error, SignatureError)
    assert several.error.field is None


def test_such_an_answer_is_asked_for_again_by_a_check(lab: dx.Lab) -> None:
    found = ask(lab, assert_(template("{{ text }}", returns=int), "reply > 3"), ["none", "2", "4"], text="a")
    assert found.status == "failed"
    found = ask(lab, assert_(template("{{ text }}", returns=int), "reply > 3", attempts=3), ["none", "2", "4"], text="a")
    assert found.outputs == {"reply": 4}
    assert [p.status for p in found.steps["reply"].parts.values()] == ["failed", "complete", "complete"]


def test_an_empty_answer_is_an_empty_text(lab: dx.Lab) -> None:
    assert LMTemplate("{{ a }}").asker("x")._read([{"text": None, "reasoning_content": "hm"}]) == {"x": ""}
    assert LMTemplate("{{ a }}").asker("x")._read([{"text": "t"}]) == {"x": "t"}


# --- names ----------------------------------------------------------------------------------------------------


def test_the_field_may_have_a_name_of_its_own(lab: dx.Lab) -> None:
    assert ask(lab, template("{{ text }}", output="summary"), "s", text="a").outputs == {"summary": "s"}
    assert ask(lab, step("{{ text }}", outputs=["summary"]), "s", text="a").outputs == {"summary": "s"}
    both = step(template("{{ text }}", output="x"), outputs=["x"])
    assert ask(lab, both, "s", text="a").outputs == {"x": "s"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "a b"}, r"'a b' is no name of a field"),
        ({"output": 7}, r"7 is no name of a field"),
        ({"returns": {}}, r"returns= names no field"),
        ({"returns": {"a b": str}}, r"'a b' is no name of a field"),
        ({"returns": {"a": str}, "output": "b"}, r"output= names one field"),
        ({"returns": object()}, r"cannot be asked for"),
        ({"returns": {"a": object()}}, r"cannot be asked for"),
        ({"returns": type("Odd", (), {})}, r"an answer of type Odd cannot be asked for"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        template("{{ text }}", **options)


def test_outputs_that_are_not_the_templates_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"outputs=\['a', 'b'\] are not the fields of the template, 'reply'"):
        dx.pipeline("p", reply=step("{{ text }}", outputs=["a", "b"]))


# --- around it ------------------------------------------------------------------------------------------------


def test_equal_templates_are_one_for_caches_and_for_comparison() -> None:
    one, two = template("{{ a }}", returns=list[int], temperature=1), template("{{ a }}", returns=list[int], temperature=1)
    assert one == two
    assert hash(one) == hash(two)
    assert one != template("{{ a }}", returns=list[str], temperature=1)
    assert one != "{{ a }}"
    assert one.cache_token() == two.cache_token()
    assert one.asker("x") is one.asker("x")
    assert repr(template("{{ a }}  b")) == "template('{{ a }} b')"


def test_it_says_what_it_is_and_does() -> None:
    item = step("Summarise {{ text }} " + "very " * 20)
    assert item.kind == "lm"
    assert item.plain
    assert item.how.asks(item) == (1, 1)
    assert step(item, retries=2).retries == 2
    assert item.how.label(item) == "Summarise {{ text }} very very very very very very very ver…"
    assert step(template("{{ a }}")).how.label(step(template("{{ a }}"))) == "{{ a }}"


class RealEngine(ScriptedEngine):
    """Answers as one far away does: on the loop where that can be."""

    simulated = False


class AsyncRealEngine(AsyncScriptedEngine):
    simulated = False
    asked = 0

    async def complete(self, request: Any) -> Any:
        type(self).asked += 1
        return await super().complete(request)


def test_a_model_far_away_is_asked_without_blocking_the_loop(lab: dx.Lab) -> None:
    import dspy

    engine = RealEngine("a")
    lm = dspy.LM("real/test", engine=engine, async_engine=AsyncRealEngine(engine), cache=False, num_retries=0)
    p = dx.pipeline("p", one="{{ text }} 1", two="{{ text }} 2")
    with dspy.context(lm=lm):
        found = lab.run(p, text="a")
    assert found.outputs == {"one": "a", "two": "a"}
    assert AsyncRealEngine.asked == 2


def test_a_model_of_its_own_answers_a_step(lab: dx.Lab) -> None:
    own = scripted_lm("own")
    assert ask(lab, step("{{ text }}", lm=own), "other", text="a").outputs == {"reply": "own"}
