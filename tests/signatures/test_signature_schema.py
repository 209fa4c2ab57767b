"""From a JSON schema and back: nothing that a schema can say is lost, and no schema does harm."""

from __future__ import annotations

import datetime
import enum
import ipaddress
import json
import pathlib
import pickle
import string
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

import annotated_types as at
import cloudpickle
import dspy
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, Field, Signature, signature
from dspex_lab.signatures._meta import Described, Regex
from dspex_lab.signatures._nodes import check_name

STEADY = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


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


def of(node: Any, *, required: bool = True, **words: Any) -> Field:
    """Return the field ``x`` whose schema is ``node``."""
    schema = {"type": "object", "properties": {"x": node}, "required": ["x"] if required else []}
    return Signature.from_json_schema({**schema, **words}).inputs["x"]


def unordered(schema: Any) -> Any:
    """Return a schema with the members of its unions and literals sorted.

    Python keeps those made before and gives one of them for another of the same members, whatever their order.
    """
    if isinstance(schema, list):
        return [unordered(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: sorted(map(unordered, v), key=_in_order) if k in ("anyOf", "enum") else unordered(v) for k, v in schema.items()}


def _in_order(item: Any) -> str:
    return json.dumps(item, sort_keys=True, default=repr)


def refused(schema: Any, **words: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        Signature.from_json_schema(schema, **words)
    return str(caught.value)


def refused_type(node: Any, **words: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        of(node, **words)
    return str(caught.value)


# -- there and back ---------------------------------------------------------------------------------------------------
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


# -- parts ------------------------------------------------------------------------------------------------------------
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


# -- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("node", "place", "said"),
    [
        (False, "", "nothing fits 'false'"),
        (3, "", "expected a schema, found 3"),
        ({"type": "strng"}, "/type", "Did you mean 'string'?"),
        ({"type": 3}, "/type", "There are string, integer"),
        ({"type": []}, "/type", "no value fits"),
        ({"minimum": 3}, "/minimum", "stands without a 'type'"),
        ({"not": {}}, "/not", "says something no type can"),
        ({"type": "object", "if": {}}, "/if", "says something no type can"),
        ({"$ref": "https://example.org/a.json"}, "/$ref", "leads out of the document; nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "/$ref", "leads out of the document"),
        ({"$ref": "other.json#/a"}, "/$ref", "leads out of the document"),
        ({"$ref": "#anchor"}, "/$ref", "is no JSON pointer"),
        ({"$ref": "#/$defs/Nothing"}, "/$ref", "points at nothing"),
        ({"$ref": "#/$defs/list/anyOf/7"}, "/$ref", "points at nothing"),
        ({"$ref": 3}, "/$ref", "expected a text, found 3"),
        ({"$ref": "#/$defs/self"}, "/$ref", "never to a schema"),
        ({"$ref": "#/$defs/loop"}, "#/$defs/loop/items/$ref", "made of itself, without an object between"),
        ({"$ref": "#/$defs/int", "minimum": 3}, "/minimum", "stands beside '$ref'; both would have to hold"),
        ({"anyOf": [{}], "type": "string"}, "/type", "stands beside 'anyOf'"),
        ({"anyOf": []}, "/anyOf", "expected a list of schemas"),
        ({"anyOf": 3}, "/anyOf", "expected a list of schemas, found 3"),
        ({"anyOf": [{}, {"type": "x"}]}, "/anyOf/1/type", "unknown type 'x'"),
        ({"allOf": [{}, {}]}, "/allOf", "several schemas that must all hold"),
        ({"enum": []}, "/enum", "expected a list of values"),
        ({"enum": ["a", 0.5]}, "/enum/1", "expected a text, a whole number, true, false or null, found 0.5"),
        ({"const": []}, "/const", "expected a text"),
        ({"type": "string", "minLength": -1}, "/minLength", "expected a whole number from 0 on, found -1"),
        ({"type": "string", "maxLength": True}, "/maxLength", "expected a whole number"),
        ({"type": "string", "maxLength": 2**70}, "/maxLength", "expected a whole number"),
        ({"type": "number", "minimum": "3"}, "/minimum", "expected a number, found '3'"),
        ({"type": "number", "exclusiveMinimum": True}, "/exclusiveMinimum", "expected a number, found True"),
        ({"type": "number", "minimum": float("nan")}, "/minimum", "expected a number, found nan"),
        ({"type": "number", "multipleOf": 0}, "/multipleOf", "expected a number above 0"),
        ({"type": "integer", "multipleOf": 0.5}, "/multipleOf", "expected a whole number beside 'integer'"),
        ({"type": "string", "pattern": "("}, "/pattern", "not a regular expression"),
        ({"type": "string", "pattern": 3}, "/pattern", "expected a pattern"),
        ({"type": "string", "pattern": "a" * 2000}, "/pattern", "at most 1,000 characters"),
        ({"type": "string", "pattern": r"(a)\1"}, "/pattern", "pass any_pattern=True"),
        ({"type": "array", "items": 3}, "/items", "expected a schema, found 3"),
        ({"type": "array", "prefixItems": []}, "/prefixItems", "expected a list of schemas"),
        ({"type": "array", "prefixItems": [{}]}, "/prefixItems", "a tuple has a fixed length. Say minItems and maxItems 1"),
        ({"type": "array", "uniqueItems": True}, "/uniqueItems", "a set holds only scalars"),
        ({"type": "array", "uniqueItems": True, "items": {"type": "object", "properties": {}}}, "/uniqueItems", "only scalars"),
        ({"type": "object", "required": ["a"]}, "/required/0", "'a' is not among the properties"),
        ({"type": "object", "properties": {"ab": {}}, "required": ["aB"]}, "/required/0", "Did you mean 'ab'?"),
        ({"type": "object", "properties": {}, "required": "a"}, "/required", "expected a list of names"),
        ({"type": "object", "properties": []}, "/properties", "expected an object, found []"),
        ({"type": "object", "additionalProperties": False}, "/additionalProperties", "may hold nothing"),
        (
            {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
            "/additionalProperties",
            "is not read",
        ),
        ({"type": "object", "properties": {}, "minProperties": 1}, "/minProperties", "beside 'properties' is not read"),
        ({"type": "object", "patternProperties": {}}, "/patternProperties", "expected one pattern"),
        ({"type": "string", "description": 3}, "/description", "expected a text, found 3"),
        ({"type": "string", "default": 3}, "/default", "The default of 'x' does not fit: expected str, found 3"),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "default": "3"}}},
            "/properties/a/default",
            "does not fit its type",
        ),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/properties/x", "default": {"a": None}}}},
            "/properties/a/default",
            "a default that is not empty",
        ),
    ],
)
def test_what_cannot_be_held_is_refused_by_its_place(node: Any, place: str, said: str) -> None:
    defs = {
        "self": {"$ref": "#/$defs/self"},
        "loop": {"type": "array", "items": {"$ref": "#/$defs/loop"}},
        "list": {"anyOf": [True, {}]},
        "int": {"type": "integer"},
    }
    message = refused_type(node, **{"$defs": defs})
    assert (f"at {place}:" if place.startswith("#") else f"at #/properties/x{place}:") in message
    assert said in message


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{}", "Expected a JSON schema as a mapping, found str. Read a text with json.loads first."),
        (3, "found int"),
        ({"type": "array"}, "at #: expected the schema of an object"),
        ({"properties": 3}, "at #/properties: expected an object"),
        ({"properties": {"_x": {}}}, "at #/properties/_x: the field '_x' begins with an underscore"),
        ({"properties": {"a b": {}}}, "at #/properties/a b: 'a b' is not a valid name"),
        ({"properties": {"class": {}}}, "Call it 'class_', say"),
        ({"anyOf": [{}]}, "at #/anyOf: a signature's record is no 'anyOf'"),
        ({"additionalProperties": {"type": "integer"}}, "at #/additionalProperties: every field of a signature is named"),
        ({"properties": {}, "dependentSchemas": {}}, "at #/dependentSchemas"),
        ({"$ref": "#/nowhere"}, "at #/$ref: the reference '#/nowhere' points at nothing"),
        ({"properties": {"a": {1: 2}}}, "at #/properties/a: expected texts as keys, found 1"),
        ({"properties": {"a": {"default": {1, 2}}}}, "at #/properties/a/default: expected JSON, found a set"),
        ({"properties": {f"f{i}": {} for i in range(1_001)}}, "1,001 fields; 1,000 are read at most"),
        ({"properties": {"a": {"enum": list(range(100_001))}}}, "it holds more than 100,000 values"),
        ({"properties": {"a": {"enum": [list(range(60_000)), list(range(60_000))]}}}, "it holds more than 100,000 values"),
        ({"description": "x" * 5_000_001}, "it holds more than 5,000,000 characters"),
    ],
)
def test_what_is_no_schema_of_a_signature(schema: Any, said: str) -> None:
    assert said in refused(schema)


def test_an_output_may_not_have_the_name_of_an_input() -> None:
    side = {"type": "object", "properties": {"x": {"type": "string"}}}
    assert "'x' is given twice" in refused(side, outputs=side)


def test_patterns_of_ones_own_may_look_around() -> None:
    sig = signature("x: str[/^(?!a)/], y: list[Annotated[str, Field(pattern='(a)(?=b)')]] -> z: str")
    assert Signature.from_json_schema(sig.json_schema(), any_pattern=True) == sig
    assert "#/$defs/StringSignature_inputs/properties/x/pattern" in refused(sig.json_schema())


def nested(depth: int) -> Any:
    node: Any = {"type": "string"}
    for _ in range(depth):
        node = {"type": "array", "items": node}
    return node


def test_bombs_are_refused_and_not_unfolded() -> None:
    assert "more than 100 deep" in refused_type(nested(5_000))
    loop: dict[str, Any] = {"type": "array"}
    loop["items"] = loop
    assert "more than 100 deep" in refused_type(loop)
    shared: Any = {}
    for _ in range(60):
        shared = {"anyOf": [shared, shared]}
    assert "more than 100" in refused_type(shared)
    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    doubled: dict[str, Any] = {f"A{i}": {**pair, "prefixItems": [{"$ref": f"#/$defs/A{i + 1}"}] * 2} for i in range(20)}
    doubled["A20"] = {"type": "string"}
    assert "more than 10,000 parts" in refused_type({"$ref": "#/$defs/A0"}, **{"$defs": doubled})
    chain = {f"A{i}": {"$ref": f"#/$defs/A{i + 1}"} for i in range(200)}
    assert "never to a schema" in refused_type({"$ref": "#/$defs/A0"}, **{"$defs": chain})
    many = {"type": "object", "properties": {f"p{i}": {"type": "object", "properties": {}} for i in range(501)}}
    assert "more than 500 objects" in refused_type(many)


def test_a_deep_chain_of_references_between_arrays_is_bounded() -> None:
    chain: dict[str, Any] = {f"A{i}": {"type": "array", "items": {"$ref": f"#/$defs/A{i + 1}"}} for i in range(3_000)}
    chain["A3000"] = {"type": "string"}
    assert "deep inside each other" in refused_type({"$ref": "#/$defs/A0"}, **{"$defs": chain})


# -- any schema -------------------------------------------------------------------------------------------------------
names = st.text(string.ascii_letters + string.digits + "_é", min_size=1, max_size=6).filter(
    lambda name: check_name(name) is None
)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text
)


def _limited(tp: Any, *limits: Any) -> Any:
    return Annotated[(tp, *limits)]


leaves: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([str, int, float, bool, bytes, Any, datetime.date, datetime.datetime, uuid.UUID, pathlib.Path]),
    st.sampled_from([ipaddress.IPv4Address, datetime.timedelta]),
    st.integers(-9, 9).map(lambda n: _limited(int, at.Ge(n), at.Lt(n + 3))),
    st.integers(-9, 9).map(lambda n: _limited(float, at.Gt(n / 4))),
    st.integers(0, 5).map(lambda n: _limited(str, at.MinLen(n), at.MaxLen(n + 2))),
    st.sampled_from(["^a+$", r"\d{3}", "x|y"]).map(lambda p: _limited(str, Regex(p))),
    st.lists(st.one_of(texts, st.integers(-5, 5), st.none()), min_size=1, max_size=3).map(lambda v: Literal[tuple(v)]),
    texts.map(lambda t: _limited(int, Described(t))),
)
types = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda tp: list[tp]),
        st.tuples(inner, st.integers(0, 3)).map(lambda p: _limited(list[p[0]], at.MinLen(p[1]))),
        inner.map(lambda tp: dict[str, tp]),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: tuple[tuple(parts)]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1] if pair[0] is not pair[1] else pair[0]),
        inner.map(lambda tp: tp | None if tp is not Any else tp),
    ),
    max_leaves=5,
)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    fields = []
    for name in draw(st.lists(names, unique=True, max_size=5)):
        role: Any = draw(st.sampled_from(["input", "output"]))
        tp = draw(types)
        default = draw(st.sampled_from([MISSING, MISSING, None]))
        # The description of a field's whole type is the field's own.
        fields.append(Field(name, tp, role=role, description=draw(st.one_of(st.none(), texts)), default=default))
    return Signature(fields, instructions=draw(st.one_of(st.none(), texts)))


@STEADY
@given(signatures())
def test_every_signature_comes_back_from_its_schema(sig: Signature) -> None:
    schema = sig.json_schema()
    again = Signature.from_json_schema(schema)
    assert again == sig
    assert unordered(again.json_schema()) == unordered(schema)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
KEYWORDS = [
    *(
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "default",
        "title",
    ),
    *("description", "minimum", "maximum", "exclusiveMinimum", "multipleOf", "minLength", "maxLength", "pattern", "format"),
    *("minItems", "maxItems", "uniqueItems", "prefixItems", "additionalProperties", "patternProperties", "propertyNames"),
    *("minProperties", "nullable", "not"),
]
schemas = st.recursive(
    st.one_of(
        json_values,
        st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"]).map(lambda kind: {"type": kind}),
        st.sampled_from(["#", "#/properties/x", "#/$defs/a", "http://x"]).map(lambda ref: {"$ref": ref}),
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(KEYWORDS), st.one_of(inner, json_values, st.lists(inner, max_size=2)), max_size=4),
        st.dictionaries(st.sampled_from(["a", "b-c", "x", "class"]), inner, max_size=3).map(
            lambda p: {"type": "object", "properties": p}
        ),
        inner.map(lambda node: {"type": "array", "items": node}),
    ),
    max_leaves=8,
)


@STEADY
@given(schemas, schemas)
def test_any_schema_is_read_or_refused(node: Any, other: Any) -> None:
    schema = {"type": "object", "properties": {"x": node, "y": other}, "$defs": {"a": other, "b": node}}
    try:
        sig = Signature.from_json_schema(schema)
    except SignatureError as error:
        assert "#" in error.message  # noqa: PT017 (it may as well be read)
        return
    sig.json_schema()
    assert signature(str(sig), types=sig.types) == sig


@STEADY
@given(json_values)
def test_anything_else_is_refused(value: Any) -> None:
    try:
        Signature.from_json_schema(value)
    except SignatureError as error:
        str(error)
