"""No JSON schema does harm: what cannot be held is refused by its place, and bombs are not unfolded."""

from __future__ import annotations

from typing import Any

import pytest
from schema_helpers import of

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import Signature, signature


def refused(schema: Any, **words: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        Signature.from_json_schema(schema, **words)
    return str(caught.value)


def refused_type(node: Any, **words: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        of(node, **words)
    return str(caught.value)


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
