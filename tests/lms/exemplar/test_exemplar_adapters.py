"""Prompts of BAMLAdapter and TwoStepAdapter, labels with line breaks, types of every kind, and settings of a request."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Iterator
from typing import Any, Literal

import dspy
import pydantic
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.lms import make_lm
from dspex_lab.lms.exemplar._baml import shape_of_baml
from dspex_lab.lms.exemplar._dates import iso_date
from dspex_lab.lms.exemplar._prompt import read_plain_task, read_task
from dspex_lab.lms.exemplar._shapes import Shape, shape_of, shape_of_schema
from dspex_lab.lms.exemplar._text import reply_to


@pytest.fixture(autouse=True)
def offline() -> Iterator[dspy.LM]:
    lm = make_lm("offline")
    with dspy.context(lm=lm):
        yield lm


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


class Item(pydantic.BaseModel):
    """A thing that was ordered."""

    name: str = pydantic.Field(description="what it is called")
    price: float


class Order(pydantic.BaseModel):
    customer_name: str
    order_date: datetime.date
    kind: Literal["gift", "own use"]
    urgent: bool
    items: list[Item]
    counts: dict[str, int]
    note: str | None


LETTER = (
    "Hello, I am Maria Lopez and this is a gift, ordered on 12 March 2024:\n- Green Tea $4.50\n- Black Coffee $7.00\n"
    "weight: 5\nboxes: 2"
)
ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), BAMLAdapter(), dspy.TwoStepAdapter(make_lm("offline"))]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_nested_objects_are_filled(adapter: Any) -> None:
    with dspy.context(adapter=adapter):
        found = dspy.Predict(dspy.Signature("letter -> order").with_updated_fields("order", type_=Order))(letter=LETTER).order
    assert found.customer_name == "Maria Lopez"
    assert found.order_date == datetime.date(2024, 3, 12)
    assert found.kind == "gift"
    assert found.items == [Item(name="Green Tea", price=4.5), Item(name="Black Coffee", price=7.0)]


def test_mappings_and_tuples_are_filled() -> None:
    class Many(dspy.Signature):
        """Read it."""

        text: str = dspy.InputField()
        counts: dict[str, int] = dspy.OutputField()
        pair: tuple[str, int] = dspy.OutputField()
        mood: Mood = dspy.OutputField()

    found = dspy.Predict(Many)(text="We are glad: 3 apples and 4 pears.")
    assert found.counts == {"apples": 3, "pears": 4}
    assert found.pair[1] == 3
    assert found.mood is Mood.GLAD


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("dict[str, str]", "Name: Anna\nTown: Oslo", {"Name": "Anna", "Town": "Oslo"}),
        ("dict[str, bool]", "open: yes\nfull: no\nodd: perhaps", {"open": True, "full": False}),
        ("dict[str, float]", "tea: 2.5\nnote: a long text with 3 in it", {"tea": 2.5}),
        ("dict[str, Literal['hot', 'cold']]", "tea: hot\nmilk: cold\nbread: fresh", {"tea": "hot", "milk": "cold"}),
        ("dict[str, list[str]]", "tea: hot", {}),
    ],
)
def test_lines_of_names_and_values_become_mappings(kind: str, text: str, found: Any) -> None:
    assert dspy.Predict(f"text -> pairs: {kind}")(text=text).pairs == found


def test_points_become_items() -> None:
    assert dspy.Predict("text -> action_items: list[str]")(text="Do:\n- call Bo\n- buy tea\n").action_items == [
        "call Bo",
        "buy tea",
    ]
    assert dspy.Predict("text -> ratings: list[int]")(text="3 and 4").ratings == [3, 4]
    assert dspy.Predict("text -> flags: list[bool]")(text="3 and 4").flags == []
    assert dspy.Predict("text -> rows: list[list[int]]")(text="- 1 2\n- 3").rows == [[1, 2], [3]]


NEWLINES = Literal["tea\nof leaves", "coffee\nbeans", "back\\slash", "it's"]


@pytest.mark.parametrize("adapter", [*ADAPTERS, dspy.XMLAdapter()], ids=lambda a: type(a).__name__)
def test_labels_with_line_breaks_are_whole(adapter: Any) -> None:
    program = dspy.Predict(dspy.Signature("letter -> kind").with_updated_fields("kind", type_=NEWLINES))
    with dspy.context(adapter=adapter):
        for text, kind in [
            ("coffee beans", "coffee\nbeans"),
            ("tea leaves", "tea\nof leaves"),
            ("a back slash", "back\\slash"),
        ]:
            assert program(letter=text).kind == kind


class Broken(enum.Enum):
    TEA = "tea\nleaves"
    COFFEE = "coffee"


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()], ids=lambda a: type(a).__name__)
def test_enums_with_line_breaks_are_whole(adapter: Any) -> None:
    with dspy.context(adapter=adapter):
        found = dspy.Predict(dspy.Signature("letter -> kind").with_updated_fields("kind", type_=Broken))(letter="tea leaves")
    assert found.kind is Broken.TEA


def test_two_step_prompts_with_demonstrations_are_read() -> None:
    adapter = dspy.TwoStepAdapter(make_lm("offline"))
    program = dspy.Predict("letter, place -> desk: Literal['K4', 'Z9']")
    program.demos = [
        dspy.Example(letter="renew my books", place="hall", desk="K4"),
        dspy.Example(letter="reserve a room", place="hall", desk="Z9"),
    ]
    with dspy.context(adapter=adapter):
        assert program(letter="reserve the big room", place="hall").desk == "Z9"
    assert read_plain_task("You are helpful.") is None


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("string", Shape("str")),
        ("string or null", Shape("str", nullable=True)),
        ("int[]", Shape("list", item=Shape("int"))),
        ('"a" or "b"', Shape("choice", ("a", "b"))),
        ("1 or 2.5 or true", Shape("choice", (1, 2.5, True))),
        ("dict[string, int]", Shape("object", item=Shape("int"))),
        ("{\n  # said\n  name: string,\n  x: float or null,\n}", None),
        ("[\n  {\n    a: boolean,\n  }\n]", None),
        ("%%%", Shape("str")),
        ("null", Shape("str")),
    ],
)
def test_types_of_baml_are_read(text: str, shape: Shape | None) -> None:
    found = shape_of_baml(text)
    if shape is not None:
        assert found == shape
    elif found.kind == "object":
        assert [(n, s.kind, said) for n, s, said in found.properties] == [("name", "str", "said"), ("x", "float", "")]
    else:
        assert found.item is not None
        assert found.item.properties[0][1] == Shape("bool")


@given(st.text(alphabet='{}[]",:#\n or nullint1a', max_size=80))
def test_no_type_breaks_the_reader(text: str) -> None:
    assert shape_of_baml(text).kind
    assert shape_of(text, "", "", "").kind


def test_odd_schemas_are_read_as_far_as_they_go() -> None:
    assert shape_of_schema({"type": "array", "prefixItems": [{"type": "integer"}]}).kind == "tuple"
    assert (
        shape_of_schema({"type": "object", "properties": {"a": 3}, "additionalProperties": {"type": "integer"}}).properties
        == ()
    )
    assert shape_of_schema({"type": "string", "format": "date"}).form == "date"
    assert shape_of_schema({"$ref": "#/$defs/x", "$defs": []}) == Shape("str")


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("on 2024-03-12", "2024-03-12"),
        ("12 March 2024", "2024-03-12"),
        ("March 12th, 2024", "2024-03-12"),
        ("3/12/2024", "2024-03-12"),
        ("13/3/2024", "2024-03-13"),
        ("3.12.2024", "2024-12-03"),
        ("31 February 2024", None),
        ("12 Foo 2024", None),
        ("soon", None),
    ],
)
def test_dates_are_put_as_schemas_ask(text: str, date: str | None) -> None:
    assert iso_date(text) == date
    assert iso_date("2024-03-12", True) == "2024-03-12T00:00:00"


def test_every_output_has_a_role() -> None:
    system = dspy.ChatAdapter().format(dspy.Signature("question -> answer"), [], {"question": "x"})[0]["content"]
    task = read_task(system)
    assert task is not None
    assert task.role == ""


# --- settings of a request ------------------------------------------------------------------------------------------


def test_a_stop_sequence_ends_the_answer() -> None:
    assert make_lm("offline", stop=[" much", " late"])("The delivery came much too late") == ["The delivery came"]


def test_an_answer_is_cut_at_the_limit_of_tokens(caplog: pytest.LogCaptureFixture) -> None:
    lm = make_lm("offline", max_tokens=3)
    assert lm("The delivery came much too late") == ["The delivery"]
    assert lm.history[0]["response"].finish_reason == "length"
    assert make_lm("offline", max_tokens=300)("The delivery came") == ["The delivery came"]


def test_several_candidates_are_given() -> None:
    found = dspy.Predict("letter -> summary", n=3)(letter="The delivery came much too late.")
    assert found.completions.summary == ["The delivery came much too late."] * 3


class Payment(pydantic.BaseModel):
    name: str
    amount: float


def test_a_free_prompt_is_answered_in_the_form_that_is_asked_for() -> None:
    text = "We met Anna Berg and paid $45.50"
    (said,) = make_lm("offline", response_format={"type": "json_object"})(text)
    assert json.loads(said) == {"answer": text}
    (said,) = make_lm("offline", response_format=Payment)(text)
    assert Payment.model_validate_json(said) == Payment(name="Anna Berg", amount=45.5)


def test_a_free_prompt_may_ask_for_a_length() -> None:
    (said,) = make_lm("offline")("Say in at most 4 words what happened: the delivery came much too late.")
    assert len(said.split()) <= 4
    assert reply_to("") == "(nothing was asked)"
