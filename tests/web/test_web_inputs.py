"""JSON values as a pipeline's types: what fits is converted, what does not is named by its field."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import dspy
import numpy as np
import pytest
from annotated_types import Gt, MaxLen
from pydantic import BaseModel, model_validator

import dspex_lab as dx
from dspex_lab.web._ask import Ask
from dspex_lab.web._inputs import DEEPEST, Misfit, Unfit, read_inputs, schema_of, shallow
from dspex_lab.web._offers import Offer


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Order(BaseModel):
    number: int
    placed: dt.date


@dataclass
class Point:
    x: float
    y: float = 0.0


class Bare:
    """A type that says nothing of what it is made of."""


def taking(kind: Any) -> dx.Pipeline:
    def step(value):
        return value

    step.__annotations__ = {"value": kind}
    return dx.pipeline("p", out=dx.step(step))


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (str, "x", "x"),
        (int, 3, 3),
        (float, 3, 3.0),
        (dt.date, "2026-02-28", dt.date(2026, 2, 28)),
        (dt.datetime, "2026-02-28T10:00:00Z", dt.datetime(2026, 2, 28, 10, tzinfo=dt.UTC)),
        (Decimal, "1.10", Decimal("1.10")),
        (bytes, "abc", b"abc"),
        (Colour, "blue", Colour.BLUE),
        (Literal["a", "b"], "b", "b"),
        (Order, {"number": 7, "placed": "2026-01-02"}, Order(number=7, placed=dt.date(2026, 1, 2))),
        (list[Order], [{"number": 7, "placed": "2026-01-02"}], [Order(number=7, placed=dt.date(2026, 1, 2))]),
        (Point, {"x": 1}, Point(1.0)),
        (int | None, None, None),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (Annotated[int, Gt(3)], 4, 4),
        (Any, {"a": [1]}, {"a": [1]}),
    ],
)
def test_a_value_is_read_as_the_type_of_its_field(kind: Any, given: Any, read: Any) -> None:
    found = read_inputs(taking(kind), {"value": given})["value"]
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("kind", "given", "where"),
    [
        (int, "many", "inputs.value"),
        (dt.date, "2026-02-30", "inputs.value"),
        (Colour, "green", "inputs.value"),
        (Literal["a", "b"], "c", "inputs.value"),
        (Order, {"number": "x", "placed": "2026-01-02"}, "inputs.value.number"),
        (list[Order], [{"number": 1, "placed": "2026-01-02"}, {"number": 2}], "inputs.value.1.placed"),
        (Point, {"y": 1}, "inputs.value.x"),
        (str, None, "inputs.value"),
        (Annotated[int, Gt(3)], 3, "inputs.value"),
        (Annotated[list[int], MaxLen(1)], [1, 2], "inputs.value"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_place(kind: Any, given: Any, where: str) -> None:
    with pytest.raises(Unfit) as caught:
        read_inputs(taking(kind), {"value": given})
    assert [misfit.where for misfit in caught.value.misfits] == [where]
    assert str(caught.value).startswith(f"{where}: ")


def test_all_that_is_wrong_is_said_at_once() -> None:
    def step(first: int, second: str) -> str:
        return second * first

    with pytest.raises(Unfit) as caught:
        read_inputs(dx.pipeline("p", out=dx.step(step)), {"first": "x", "secnd": "a"})
    assert [misfit.where for misfit in caught.value.misfits] == ["inputs.first", "inputs.secnd", "inputs.second"]
    assert caught.value.misfits[1:] == (
        Misfit("inputs.secnd", "is not an input. Did you mean 'second'?"),
        Misfit("inputs.second", "is missing"),
    )


def test_a_field_with_a_default_may_be_left_out() -> None:
    def step(text: str, times: int = 2) -> str:
        return text * times

    pipeline = dx.pipeline("p", out=dx.step(step))
    assert read_inputs(pipeline, {"text": "a"}) == {"text": "a"}
    assert schema_of(pipeline)["required"] == ["text"]


def test_a_type_that_cannot_be_made_of_json_is_refused_and_not_called() -> None:
    with pytest.raises(Unfit, match="of a type that cannot be given over HTTP"):
        read_inputs(taking(Bare), {"value": {}})
    assert schema_of(taking(Bare))["properties"] == {"value": {}}
    assert schema_of(taking(np.ndarray))["properties"] == {"value": {}}


def test_types_that_cannot_be_hashed_are_read_too() -> None:
    kind = Annotated[int, {"not": "hashable"}]
    assert read_inputs(taking(kind), {"value": 3}) == {"value": 3}


def test_the_schema_says_what_is_taken() -> None:
    assert schema_of(taking(Literal["a", "b"])) == {
        "type": "object",
        "properties": {"value": {"enum": ["a", "b"], "type": "string"}},
        "required": ["value"],
        "additionalProperties": False,
    }
    assert "number" in schema_of(taking(Order))["properties"]["value"]["properties"]


@pytest.mark.parametrize("level", [1, DEEPEST - 1])
def test_values_of_few_levels_pass(level: int) -> None:
    value: Any = "x"
    for _ in range(level):
        value = {"a": value} if level % 2 else [value]
    assert shallow(value) is value


@pytest.mark.parametrize("level", [DEEPEST, 5_000])
def test_values_of_many_levels_are_refused(level: int) -> None:
    value: Any = "x"
    for _ in range(level):
        value = [value]
    with pytest.raises(ValueError, match=f"more than {DEEPEST} levels"):
        shallow(value)


def test_what_a_signature_limits_is_refused_before_anything_runs_and_its_schema_says_so() -> None:
    signature = dx.signature("message: str[1..5], urgency: float[0..1] -> reply")
    inner = dx.pipeline("inner", reply=dx.predict(signature))
    for pipeline in (
        dx.pipeline("p", reply=dspy.Predict(signature.to_dspy())),
        dx.pipeline("p", reply=dspy.ChainOfThought(signature.to_dspy())),
        inner,
        dx.pipeline("p", inner=inner),
    ):
        with pytest.raises(Unfit) as caught:
            read_inputs(pipeline, {"message": "too long", "urgency": 5})
        assert [misfit.where for misfit in caught.value.misfits] == ["inputs.message", "inputs.urgency"]
        assert read_inputs(pipeline, {"message": "short", "urgency": 1}) == {"message": "short", "urgency": 1.0}
        assert schema_of(pipeline)["properties"]["urgency"] == {"type": "number", "minimum": 0, "maximum": 1}


def test_limits_of_a_step_that_gets_another_value_are_not_those_of_the_input() -> None:
    def shorten(message: str) -> str:
        return message[:5]

    signature = dx.signature("message: str[1..5] -> reply")
    pipeline = dx.pipeline("p", message=dx.step(shorten, replaces=True), reply=dspy.Predict(signature.to_dspy()))
    assert read_inputs(pipeline, {"message": "much too long"}) == {"message": "much too long"}


def test_a_value_that_fits_one_step_and_not_another_is_refused() -> None:
    def one(value: int) -> int:
        return value

    def other(value: bool) -> bool:
        return value

    with pytest.raises(Unfit, match=r"inputs\.value: Input should be a valid boolean"):
        read_inputs(dx.pipeline("p", a=dx.step(one), b=dx.step(other)), {"value": 3})


def test_a_validator_that_fails_refuses_the_value_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Strange(BaseModel):
        value: int

        @model_validator(mode="before")
        @classmethod
        def look(cls, given: Any) -> Any:
            raise KeyError("/home/me/secret")

    with pytest.raises(Unfit) as caught:
        read_inputs(taking(Strange), {"value": {"value": 1}})
    assert caught.value.misfits == (Misfit("inputs.value", "cannot be read: KeyError"),)
    assert "a validator of the input 'value' failed" in caplog.text


@pytest.mark.parametrize("kind", [str | None, Annotated[str, MaxLen(5)], Annotated[str | None, MaxLen(5)]])
def test_a_text_that_has_limits_or_may_be_left_out_is_a_text(kind: Any) -> None:
    assert Ask("1", text="now").inputs_for(Offer("p", taking(kind), "")) == {"value": "now"}


def test_a_text_goes_to_the_first_required_text_and_earlier_turns_to_the_history() -> None:
    def step(number: int, text: str, history: list[dict[str, str]], note: str = "") -> str:
        return text

    offer = Offer("p", dx.pipeline("p", out=dx.step(step)), "")
    assert (offer.text_input, offer.history_input) == ("text", "history")
    turns = [{"role": "user", "content": "before"}]
    found = Ask("1", text="now", inputs={"number": 1}, history=turns).inputs_for(offer)
    assert found == {"number": 1, "text": "now", "history": turns}


def test_a_text_for_a_pipeline_that_takes_none_is_refused() -> None:
    with pytest.raises(Unfit, match="takes no text; give inputs"):
        Ask("1", text="now").inputs_for(Offer("p", taking(int), ""))


def test_dspys_history_gets_earlier_turns_by_the_names_of_the_fields() -> None:
    class Chat(dspy.Signature):
        question: str = dspy.InputField()
        history: dspy.History = dspy.InputField()
        answer: str = dspy.OutputField()

    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "Here."},
        {"role": "assistant", "content": "Or there."},
        {"role": "user", "content": "And then?"},
    ]
    offer = Offer("chat", dx.pipeline("chat", say=dspy.Predict(Chat)), "")
    found = Ask("1", text="When?", history=turns).inputs_for(offer)
    assert found["history"] == dspy.History(messages=[{"question": "Where?", "answer": "Here."}, {"question": "And then?"}])
