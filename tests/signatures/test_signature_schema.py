"""From a JSON schema and back: nothing that a schema can say is lost."""

from __future__ import annotations

import datetime
import enum
import pickle
from collections.abc import Callable
from typing import Annotated, Any, Literal

import annotated_types as at
import cloudpickle
import dspy
import pydantic
import pytest
from schema_helpers import of, unordered
from typing_extensions import TypedDict

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import Field, Signature, signature
from dspex_lab.signatures._meta import Described, Regex


class Color(enum.Enum):
    """A colour."""

    RED = "red"
    TWO = 2


class Node(pydantic.BaseModel):
    """A node of a tree."""

    model_config = pydantic.ConfigDict(extra="forbid")
    n: int = pydantic.Field(3, ge=1, description="how many")
    day: datetime.date = datetime.date(2024, 1, 1)
    kids: list[Node] = []
    parent: Node | None = None


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    node: Node
    text: str


class Pair(TypedDict):
    a: int


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '"""Sort it."""\ntext: str # what\n -> label: Literal["a", "b"] # which',
        "a: int[1..5] = 3, b: float[0..1], c: str[1..9], d: str[/^[A-Z]+$/] -> e: bool",
        "a: list[str][1..5], b: dict[str, int][..3], c: set[int], d: tuple[int, str], e: list[list[float[0..1]]] -> f: bytes",
        "a: int | str | None, b: str | None = None, c: list[int | None] = [1, None] -> d: Any, e: None | int",
        'a: Literal["x", 1, True, None], b: Literal["only"] -> c: list[Literal["p", "q"]]',
        "a: datetime.date, b: datetime.datetime, c: datetime.time -> d: datetime.timedelta, e: uuid.UUID, f: pathlib.Path",
        "a: Annotated[float, Field(gt=0, lt=2, multiple_of=0.5)], b: Annotated[int, Field(multiple_of=3)] -> c: str",
        "a: list[Annotated[float, Field(ge=0, description='a share')]] -> b: dict[str, Annotated[str, Field(max_length=3)]]",
        "a: NoneType, b: ipaddress.IPv4Address, c: ipaddress.IPv6Address -> d: str",
        "a: dict[Literal['x', 'y'], int] -> b: str",
        "->",
        "a: str ->",
    ],
)
def test_round_trips(text: str) -> None:
    sig = signature(text, name="Sort")
    again = Signature.from_json_schema(sig.json_schema())
    assert again == sig
    assert again.name == "Sort"
    assert [(f.name, f.role) for f in again.fields.values()] == [(f.name, f.role) for f in sig.fields.values()]
    assert unordered(again.json_schema()) == unordered(sig.json_schema())


def test_classes_come_back_as_models_and_enums_with_the_same_schema() -> None:
    sig = signature("n: Node, c: Color = Color.RED, p: list[Pair] -> l: Loose # kept\n, m: dict[str, Node | None]", name="Tree")
    schema = sig.json_schema()
    again = Signature.from_json_schema(schema)
    assert again.json_schema() == schema
    assert set(again.types) == {"Node", "Color", "Pair", "Loose"}
    made = again.types["Node"]
    assert issubclass(made, pydantic.BaseModel)
    assert made.__doc__ == "A node of a tree."
    assert again.inputs["c"].default is again.types["Color"].RED
    assert again.types["Color"].__doc__ == "A colour."
    record = {"n": {"n": 2, "kids": [{"n": 4, "day": "2025-01-01"}]}, "p": [{"a": 1}]}
    found = again.validate_inputs(record)
    assert found["n"].kids[0].day == datetime.date(2025, 1, 1)
    assert again.dump_inputs(found)["n"]["kids"][0]["n"] == 4
    with pytest.raises(SignatureError, match="greater than or equal to 1"):
        again.validate_inputs({**record, "n": {"kids": [{"n": 0}]}})
    with pytest.raises(SignatureError, match="Extra inputs"):
        again.validate_inputs({**record, "n": {"other": 1}})
    kept = again.validate_outputs({"l": {"node": {}, "text": "t", "more": 1}, "m": {"k": None}})["l"]
    assert kept.model_extra == {"more": 1}
    assert signature(str(again), types=again.types) == again


@pytest.mark.parametrize("dumps", [cloudpickle.dumps])
def test_made_classes_travel_and_dspy_holds_them(dumps: Callable[[Any], bytes]) -> None:
    sig = Signature.from_json_schema(signature("n: Node, c: Color -> a").json_schema())
    assert pickle.loads(dumps(sig)).json_schema() == sig.json_schema()  # noqa: S301 (made in the line itself)
    assert issubclass(sig.to_dspy(), dspy.Signature)


def test_the_schema_of_one_side_is_that_of_inputs_and_outputs_may_stand_beside() -> None:
    sig = signature('text: str, k: int = 3 -> label: Literal["a", "b"], node: Node', name="Sort")
    inputs, outputs = sig.json_schema("inputs"), sig.json_schema("outputs")
    alone = Signature.from_json_schema(inputs)
    assert (alone.name, list(alone.inputs), list(alone.outputs)) == ("Sort", ["text", "k"], [])
    both = Signature.from_json_schema(inputs, "Named", outputs=outputs)
    assert both.name == "Named"
    assert list(both.fields.values())[:3] == list(sig.fields.values())[:3]
    assert both.json_schema("outputs")["properties"] == outputs["properties"]


def test_a_tool_of_someone_elses() -> None:
    tool = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "get weather!",
        "description": "Say what the weather is.",
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "the city", "examples": ["Rome"]},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
            "days": {"type": ["integer", "null"], "minimum": 0.5},
            "where": {"type": "object", "properties": {"lat-long": {"type": "array", "items": {"type": "number"}}}},
        },
        "required": ["city", "where"],
    }
    sig = Signature.from_json_schema(tool)
    assert (sig.name, sig.instructions) == ("get_weather", "Say what the weather is.")
    assert str(sig).splitlines()[1:] == [
        "city: str  # the city",
        "unit: Literal['C', 'F'] = 'C'",
        "days: int[1..] | None = None",
        "where: Where",
        "->",
    ]
    found = sig.validate_inputs({"city": "Rome", "where": {"lat-long": [1.5, 2.0]}})
    assert found["where"].lat_long == [1.5, 2.0]
    assert sig.dump_inputs(found)["where"] == {"lat-long": [1.5, 2.0]}
    assert sig.validate_inputs({"city": "Rome", "where": {}})["where"].lat_long is None


def test_what_a_schema_does_not_know_comes_back_plainer() -> None:
    sig = signature("q, l: list, d: dict, f: frozenset[str], t: tuple[int, ...], m: decimal.Decimal -> a")
    again = Signature.from_json_schema(sig.json_schema())
    assert [f.type_text for f in again.inputs.values()] == [
        *("str", "list[Any]", "dict[str, Any]", "set[str]", "list[int]", "float | str")
    ]
    assert not again.inputs["q"].takes_any


# --- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({}, Any),
        (True, Any),
        ({"type": "string", "format": "email"}, str),
        ({"type": "string", "format": "date", "minLength": 3}, datetime.date),
        ({"type": "string", "format": "binary", "maxLength": 3}, Annotated[bytes, at.MaxLen(3)]),
        ({"type": "integer", "exclusiveMinimum": 0.5, "exclusiveMaximum": 3.5}, Annotated[int, at.Gt(0), at.Lt(4)]),
        ({"type": "integer", "maximum": 3.5, "multipleOf": 2.0}, Annotated[int, at.Le(3), at.MultipleOf(2)]),
        ({"type": "integer", "minLength": 3}, int),
        ({"type": "string", "minLength": 2.0}, Annotated[str, at.MinLen(2)]),
        (
            {"type": ["string", "integer"], "minLength": 1, "minimum": 2},
            Annotated[str, at.MinLen(1)] | Annotated[int, at.Ge(2)],
        ),
        ({"type": "string", "nullable": True}, str | None),
        (
            {"anyOf": [{"type": "string", "description": "a name"}, {"type": "null"}]},
            Annotated[str, Described("a name")] | None,
        ),
        ({"oneOf": [{"type": "integer"}, {"type": "boolean"}], "discriminator": {"propertyName": "x"}}, int | bool),
        ({"allOf": [{"type": "integer"}]}, int),
        ({"const": 3}, Literal[3]),
        ({"enum": ["a", None]}, Literal["a", None]),
        ({"items": {"type": "integer"}}, list[int]),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 1, "items": False}, tuple[int]),
        (
            {"type": "array", "uniqueItems": True, "items": {"enum": ["a"]}, "maxItems": 2},
            Annotated[set[Literal["a"]], at.MaxLen(2)],
        ),
        ({"type": "object"}, dict[str, Any]),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
            Annotated[dict[str, int], at.MinLen(1)],
        ),
        ({"type": "object", "patternProperties": {"^a": {"type": "integer"}}}, dict[Annotated[str, Regex("^a")], int]),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, dict[Annotated[str, at.MaxLen(3)], Any]),
        ({"$ref": "#/$defs/A~1b%20c"}, int),
        ({"$ref": "#/$defs/list/anyOf/1"}, str),
        ({"$ref": "#/$defs/titled"}, Annotated[Literal[1, True], Described("d")]),
    ],
)
def test_parts(node: Any, expected: Any) -> None:
    defs = {
        "A/b c": {"$ref": "#/$defs/int"},
        "int": {"type": "integer"},
        "list": {"anyOf": [True, {"type": "string"}]},
        "titled": {"title": "T", "enum": [1, True], "description": "d"},
    }
    found = of(node, **{"$defs": defs})
    assert found == Field("x", Annotated[expected, "d"] if "titled" in str(node) else expected)


def test_a_property_may_be_absent_and_is_none_then() -> None:
    assert of({"type": "integer"}, required=False) == Field("x", int | None, default=None)
    assert of({"type": "integer", "default": 3}, required=False) == Field("x", int, default=3)


def test_names_that_no_attribute_may_have_are_kept_in_the_record() -> None:
    keys = ["class", "copy", "_x", "a-b", "a_b", "a.b", "1", "", "model_dump", "model_x", "é"]
    node = {"type": "object", "properties": {key: {"type": "integer"} for key in keys}, "required": keys, "title": "No name"}
    sig = Signature.from_json_schema({"type": "object", "properties": {"x": node}, "required": ["x"]})
    record = {"x": dict.fromkeys(keys, 1)}
    assert sig.dump_inputs(sig.validate_inputs(record)) == record
    schema = sig.json_schema("inputs")
    assert list(schema["$defs"]["X"]["properties"]) == keys
    assert schema["$defs"]["X"]["title"] == "No name"
    assert Signature.from_json_schema(schema).json_schema("inputs") == schema


def test_classes_of_one_name_are_told_apart() -> None:
    inner = {"title": "T", "type": "object", "properties": {"a": {"type": "integer"}}}
    other = {"title": "T", "type": "object", "properties": {"b": {"type": "integer"}}}
    schema = {
        "type": "object",
        "properties": {"x": inner, "y": other, "z": {"title": "class", "type": "object", "properties": {}}},
    }
    sig = Signature.from_json_schema(schema, outputs={"type": "object", "properties": {"o": inner}})
    assert list(sig.types) == ["T", "T_2", "Z", "T_3"]


def test_a_class_takes_no_name_that_means_something_else() -> None:
    empty = {"type": "object", "properties": {}}
    nodes = {"none": empty, "x": {**empty, "title": "int"}, "any": empty, "y": {"type": "object", "properties": {"-": empty}}}
    sig = Signature.from_json_schema({"type": "object", "properties": nodes})
    assert list(sig.types) == ["None_2", "int_2", "Any_2", "Y"]
    assert signature(str(sig), types=sig.types) == sig


def test_inputs_and_outputs_may_be_fields_of_these_names() -> None:
    sig = Signature.from_json_schema({"type": "object", "properties": {"inputs": {"type": "string"}, "outputs": {}}})
    assert list(sig.inputs) == ["inputs", "outputs"]


def test_enums_get_members_named_by_their_values() -> None:
    values = ["a b", "a-b", "", "class", "mro", 1, -1, "é", "1"]
    sig = Signature.from_json_schema(
        {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/E"}},
            "$defs": {"E": {"title": "E", "enum": values}},
        }
    )
    made = sig.types["E"]
    assert [member.value for member in made] == values
    assert [member.name for member in made][:3] == ["A_B", "A_B_2", "VALUE"]
    assert all(name.isidentifier() for name in made.__members__)


@pytest.mark.parametrize("kids", [{"type": "array", "items": {"$ref": "#/$defs/A"}}, {"$ref": "#/$defs/List"}])
def test_objects_may_hold_each_other(kids: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/List"}, "y": {"$ref": "#/$defs/A"}},
        "$defs": {
            "A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}, "kids": {**kids, "default": []}}},
            "B": {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}], "default": None}}},
            "List": {"type": "array", "items": {"$ref": "#/$defs/A"}},
        },
    }
    sig = Signature.from_json_schema(schema)
    found = sig.validate_inputs({"x": [{"b": {"a": {"kids": [{}]}}}], "y": None})
    assert found["x"][0].b.a.kids[0].kids == []
    with pytest.raises(SignatureError, match="valid"):
        sig.validate_inputs({"x": [{"b": {"a": {"kids": [3]}}}], "y": None})


def test_a_schema_that_refers_to_its_own_root() -> None:
    tree = {"type": "object", "properties": {"n": {"type": "integer"}, "kid": {"$ref": "#"}}, "required": ["n"]}
    sig = Signature.from_json_schema(tree)
    assert sig.validate_inputs({"n": 1, "kid": {"n": 2, "kid": {"n": 3}}})["kid"].kid.n == 3
