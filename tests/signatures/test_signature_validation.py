"""Records are checked strictly, and everything that does not fit is told at once."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import threading
from typing import Annotated, Any

import annotated_types as at
import dspy
import pydantic
import pytest

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import Field, Signature, signature


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Contact(pydantic.BaseModel):
    name: str
    age: int = 0


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Plain:
    """A class Pydantic knows nothing of."""


def check(type_text: str, value: Any) -> Any:
    """Return the value as a checked input."""
    return signature(f"x: {type_text} -> y").validate_inputs({"x": value})["x"]


def refused(type_text: str, value: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        check(type_text, value)
    assert caught.value.field == "x"
    return str(caught.value)


@pytest.mark.parametrize(
    ("type_text", "value", "result"),
    [
        ("str", "a", "a"),
        ("int", 3, 3),
        ("float", 3, 3.0),
        ("bool", True, True),
        ("int | None", None, None),
        ("float[0..1]", 0, 0.0),
        ("list[int]", [1, 2], [1, 2]),
        ("tuple[int, str]", [1, "a"], (1, "a")),
        ("set[int]", [1, 1], {1}),
        ("Color", Color.RED, Color.RED),
        ("Color", "red", Color.RED),
        ("datetime.date", "2024-02-29", datetime.date(2024, 2, 29)),
        ("decimal.Decimal", 3, decimal.Decimal(3)),
        ("pathlib.Path", "a/b", pathlib.Path("a/b")),
        ("Contact", {"name": "Ann"}, Contact(name="Ann")),
        ("list[Contact]", [{"name": "Ann", "age": 3}], [Contact(name="Ann", age=3)]),
        ("Point", {"x": 1, "y": 2}, Point(1, 2)),
        ("dict[str, list[Color]]", {"a": ["red"]}, {"a": [Color.RED]}),
        ("str[/b/]", "abc", "abc"),
        ("Annotated[int, Field(strict=False)]", "3", 3),
        ("list[Annotated[int, Field(strict=False)]]", ["3"], [3]),
        ("Any", object, object),
    ],
)
def test_what_fits(type_text: str, value: Any, result: Any) -> None:
    found = check(type_text, value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("type_text", "value", "said"),
    [
        ("int", "3", "the field 'x' expected int, found '3' (str)"),
        ("int", 3.0, "found 3.0 (float)"),
        ("int", True, "found True (bool)"),
        ("float", "0.5", "found '0.5' (str)"),
        ("str", 3, "expected str, found 3 (int)"),
        ("str", b"a", "found b'a' (bytes)"),
        ("str", datetime.date(2024, 1, 1), "found datetime.date(2024, 1, 1) (date)"),
        ("str", None, "found None (NoneType)"),
        ("bool", 1, "found 1 (int)"),
        ("float[0..1]", 1.7, "expected float[0..1], found 1.7"),
        ("float[0..1]", math.nan, "found nan"),
        ("int[1..]", 0, "expected int[1..], found 0"),
        ("list[str][1..2]", [], "expected list[str][1..2], found []"),
        ("list[str][1..2]", ["a", "b", "c"], "found ['a', 'b', 'c']"),
        ("str[/^[A-Z]+$/]", "abc", "expected str[/^[A-Z]+$/], found 'abc'"),
        ("Literal['a', 'b']", "c", "expected Literal['a', 'b'], found 'c'"),
        ("Color", "green", "expected Color, found 'green'"),
        ("int | None", "3", "expected int | None, found '3'"),
        ("list[int]", "abc", "expected list[int], found 'abc'"),
        ("list[int]", [1, "2"], "in the field 'x', at x[1]: expected a valid integer, found '2' (str)"),
        ("Contact", {"name": "Ann", "age": "3"}, "at x['age']: expected a valid integer, found '3' (str)"),
        ("Contact", {"age": 3}, "at x['name']: missing"),
        ("dict[str, list[Contact]]", {"a": [{"name": 1}]}, "at x['a'][0]['name']: expected a valid string, found 1"),
        ("list[int | None]", [1, "2"], "at x[1]: expected a valid integer"),
        ("Point", Contact(name="Ann"), "expected Point, found Contact("),
        ("Plain", "x", "expected Plain, found 'x'"),
        ("tuple[int, str]", [1], "expected tuple[int, str], found [1]"),
        ("list[int]", list("abcdefgh"), "in the field 'x': 3 more"),
    ],
)
def test_what_does_not_fit(type_text: str, value: Any, said: str) -> None:
    assert said in refused(type_text, value)


def test_all_problems_of_a_record_are_told_together_in_the_order_of_the_fields() -> None:
    sig = signature("a: int, b: str, urgency: float[0..1] -> c", name="Triage")
    with pytest.raises(SignatureError) as caught:
        sig.validate_inputs({"urgencey": 0.5, "b": 3, "a": "1"})
    assert str(caught.value).splitlines() == [
        "Triage: 4 problems in the inputs:",
        "  - the field 'a' expected int, found '1' (str).",
        "  - the field 'b' expected str, found 3 (int).",
        "  - the field 'urgency' is missing; expected float[0..1].",
        "  - there is no field 'urgencey'. Did you mean 'urgency'?",
    ]
    assert caught.value.field == "a"


def test_a_single_problem_is_one_line() -> None:
    with pytest.raises(SignatureError) as caught:
        signature("a -> b: int", name="T").validate_outputs({"b": "3"})
    assert str(caught.value) == "T, outputs: the field 'b' expected int, found '3' (str)."


def test_an_unknown_field_gets_a_suggestion_or_the_list() -> None:
    sig = signature("question, context -> answer")
    with pytest.raises(SignatureError, match=r"no field 'zzz'. It has 'question', 'context'"):
        sig.validate_inputs({"question": "", "context": "", "zzz": 1})
    with pytest.raises(SignatureError, match=r"no field 'Question'. Did you mean 'question'"):
        sig.validate_inputs({"question": "", "context": "", "Question": 1})
    with pytest.raises(SignatureError, match=r"no field 'x'. It has no fields"):
        signature("-> a").validate_inputs({"x": 1})
    with pytest.raises(SignatureError, match=r"Keys should be strings|no field"):
        sig.validate_inputs({"question": "", "context": "", 3: 1})  # type: ignore[dict-item]


def test_long_values_are_cut_in_messages() -> None:
    assert len(refused("int", "x" * 10_000)) < 300


def test_an_input_without_a_type_takes_any_value_and_an_output_is_text() -> None:
    sig = signature("context, question: str -> answer")
    passages = ["a", {"b": object()}]
    assert sig.validate_inputs({"context": passages, "question": ""})["context"] is passages
    assert sig.inputs["context"].type is str
    assert sig.inputs["context"].takes_any
    with pytest.raises(SignatureError, match="'question' expected str"):
        sig.validate_inputs({"context": 1, "question": 1})
    with pytest.raises(SignatureError, match="'answer' expected str"):
        sig.validate_outputs({"answer": 3})


def test_the_result_is_in_the_order_of_the_fields_with_defaults_and_shares_none() -> None:
    sig = signature("a: int = 1, b: list[int] = [1], c: str -> d")
    first = sig.validate_inputs({"c": "x"})
    assert list(first.items()) == [("a", 1), ("b", [1]), ("c", "x")]
    first["b"].append(2)
    assert sig.validate_inputs({"c": "x"})["b"] == [1]
    assert list(sig.validate_inputs({"c": "x", "a": 2})) == ["a", "b", "c"]


def test_the_record_given_is_not_changed() -> None:
    record = {"x": ["red"]}
    assert signature("x: list[Color] -> y").validate_inputs(record) == {"x": [Color.RED]}
    assert record == {"x": ["red"]}


def test_any_mapping_will_do_and_nothing_else() -> None:
    sig = signature("a: int, b: datetime.date -> c")
    example = dspy.Example(a=1, b="2024-01-01").with_inputs("a", "b")
    assert sig.validate_inputs(example)["b"] == datetime.date(2024, 1, 1)
    assert sig.validate_inputs(dspy.Example(a=1, b=datetime.date(2024, 1, 1)))["a"] == 1
    with pytest.raises(SignatureError, match="expected the inputs as a mapping of field names to values, found list"):
        sig.validate_inputs([1, 2])  # type: ignore[arg-type]


def test_dspys_own_types_take_what_they_say() -> None:
    sig = signature('code: dspy.Code["python"], images: list[dspy.Image] -> thought: dspy.Reasoning')
    found = sig.validate_inputs({"code": "```python\nprint(1)\n```", "images": [{"url": "https://example.org/a.png"}]})
    assert found["code"].code == "print(1)"
    assert isinstance(found["images"][0], dspy.Image)
    assert sig.validate_outputs({"thought": "so"})["thought"] == dspy.Reasoning(content="so")
    with pytest.raises(SignatureError, match=r"'code' expected dspy.Code"):
        sig.validate_inputs({"code": 3, "images": []})


def test_lenient_outputs_are_coerced_but_still_hold_their_constraints() -> None:
    sig = signature("q -> n: int[1..5], ok: bool, tags: list[str], c: Contact")
    record = {"n": "3", "ok": "yes", "tags": '["a"]', "c": '{"name": "Ann", "age": "4"}'}
    assert sig.validate_outputs(record, lenient=True) == {"n": 3, "ok": True, "tags": ["a"], "c": Contact(name="Ann", age=4)}
    with pytest.raises(SignatureError, match="4 problems"):
        sig.validate_outputs(record)
    with pytest.raises(SignatureError, match="'n' expected int"):
        sig.validate_outputs({**record, "n": "9"}, lenient=True)
    with pytest.raises(SignatureError, match="'n' is missing"):
        sig.validate_outputs({key: value for key, value in record.items() if key != "n"}, lenient=True)


def test_values_that_contain_themselves_are_refused_and_not_followed() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "found [[...]]" in refused("list[str]", loop) or "at x[0]" in refused("list[str]", loop)


def test_a_validator_of_the_users_own_is_heard() -> None:
    def even(value: int) -> int:
        if value % 2:
            raise ValueError("it is odd")
        return value

    sig = signature("x: Annotated[int, Even] -> y", types={"Even": pydantic.AfterValidator(even)})
    assert sig.validate_inputs({"x": 2}) == {"x": 2}
    with pytest.raises(SignatureError, match=r"found 3 \(int\) \(it is odd\)"):
        sig.validate_inputs({"x": 3})


def test_other_errors_of_a_users_validator_pass_through() -> None:
    def broken(value: int) -> int:
        raise UnicodeError("a ValueError that says nothing about the value") if value else RuntimeError("broken")

    sig = signature("x: Annotated[int, Broken] -> y", types={"Broken": pydantic.AfterValidator(broken)})
    with pytest.raises(RuntimeError, match="broken"):
        sig.validate_inputs({"x": 0})
    with pytest.raises(SignatureError, match="says nothing"):
        sig.validate_inputs({"x": 1})


def test_a_pattern_may_look_around_which_rust_cannot() -> None:
    assert check(r"str[/^(?!a)\w+$/]", "b") == "b"
    refused(r"str[/^(?!a)\w+$/]", "a")


def test_metadata_of_unknown_kinds_keeps_its_place_among_constraints() -> None:
    negate = pydantic.AfterValidator(lambda value: -value)
    for tp in (Annotated[int, at.Ge(1), negate, at.Ge(-5)], list[Annotated[int, at.Ge(1), negate, pydantic.Field(ge=-5)]]):
        sig = Signature([Field("x", tp)])
        wrap = (lambda value: [value]) if tp.__origin__ is list else (lambda value: value)
        assert sig.validate_inputs({"x": wrap(5)}) == {"x": wrap(-5)}
        for wrong in (0, 6):
            with pytest.raises(SignatureError, match=r"at x\[0\]|found"):
                sig.validate_inputs({"x": wrap(wrong)})
        assert signature(str(sig), types=sig.types) == sig


def test_a_pattern_holds_behind_a_validator() -> None:
    tp = Annotated[str, pydantic.BeforeValidator(str.upper), pydantic.Field(pattern="^(?!A)", description="no A")]
    sig = Signature([Field("x", tp)])
    assert sig.inputs["x"].description == "no A"
    assert sig.validate_inputs({"x": "b"}) == {"x": "B"}
    with pytest.raises(SignatureError, match="should match pattern"):
        sig.validate_inputs({"x": "a"})


def test_a_type_nobody_can_check_is_an_error_of_the_signature() -> None:
    class Half(pydantic.BaseModel):
        other: NotThere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(SignatureError, match="cannot be checked"):
        signature("x: Half -> y").validate_inputs({"x": {}})


def test_an_error_that_is_no_problem_of_the_record_passes_through() -> None:
    with pytest.raises(ValueError, match="something else"):
        signature("x -> y")._checker("inputs").again({}, ValueError("something else"))


def test_a_type_pydantic_refuses_to_compile() -> None:
    class Broken:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            raise pydantic.errors.PydanticSchemaGenerationError("no schema for Broken")

    with pytest.raises(SignatureError, match=r"the field 'x'.* cannot be checked: no schema for Broken"):
        signature("x: Broken -> y").validate_inputs({"x": 1})


def test_unions_and_old_aliases_with_types_that_coerce_themselves() -> None:
    text = "c: dspy.Code | None, l: List[dspy.Code], u: dict[str, int | Annotated[int, Field(strict=False)]] -> y"
    found = signature(text).validate_inputs({"c": "x", "l": ["y"], "u": {"a": "3"}})
    assert (found["c"].code, found["l"][0].code, found["u"]) == ("x", "y", {"a": 3})


def test_checking_compiles_once() -> None:
    sig = signature("x: int -> y: int")
    sig.validate_inputs({"x": 1})
    compiled = sig._checker("inputs")
    sig.validate_inputs({"x": 2})
    assert sig._checker("inputs") is compiled


def test_threads_may_check_at_once() -> None:
    sig = Signature([Field("x", list[int]), Field("c", Color)])
    barrier = threading.Barrier(8)
    found: list[Any] = []

    def work() -> None:
        barrier.wait()
        found.append(sig.validate_inputs({"x": [1], "c": "red"}))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"x": [1], "c": Color.RED}] * 8


def test_dumping_gives_plain_json() -> None:
    sig = signature("d: datetime.date, c: Color, p: Plain -> m: Contact, t: tuple[int, ...]")
    plain = Plain()
    record = {"d": datetime.date(2024, 1, 1), "c": Color.RED, "p": plain}
    assert sig.dump_inputs(record) == {"d": "2024-01-01", "c": "red", "p": str(plain)}
    assert sig.dump_outputs({"m": Contact(name="A"), "t": (1, 2)}) == {"m": {"name": "A", "age": 0}, "t": [1, 2]}


def test_json_schemas() -> None:
    sig = signature(
        '"""Sort it."""\ntext, n: int[1..5] = 3 # how many\n -> c: Contact, l: Literal["a", "b"], p: Plain', name="Sort"
    )
    inputs = sig.json_schema("inputs")
    assert inputs["properties"]["n"] == {
        "default": 3,
        "description": "how many",
        "maximum": 5,
        "minimum": 1,
        "title": "N",
        "type": "integer",
    }
    assert inputs["properties"]["text"]["type"] == "string"
    assert inputs["required"] == ["text"]
    assert inputs["additionalProperties"] is False
    whole = sig.json_schema()
    assert (whole["title"], whole["description"]) == ("Sort", "Sort it.")
    assert set(whole["properties"]) == {"inputs", "outputs"}
    assert sig.json_schema("outputs")["properties"]["p"]["description"] == "A Python object: Plain"
    assert "$defs" in sig.json_schema("outputs")
