from __future__ import annotations

import json

import pytest

from dspex_lab.lms.exemplar._shapes import Shape, shape_of

SCHEMA = "must adhere to the JSON schema: "


def of_schema(schema: dict[str, object]) -> Shape:
    return shape_of("Thing", SCHEMA + json.dumps(schema), "", "")


def test_an_object_has_the_shapes_of_its_properties() -> None:
    shape = of_schema(
        {
            "type": "object",
            "$defs": {"Tone": {"enum": ["calm", "angry"], "type": "string"}},
            "properties": {
                "tone": {"$ref": "#/$defs/Tone"},
                "age": {"type": "integer", "minimum": 0, "maximum": 120},
                "name": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "full name"},
                "sure": {"type": "boolean"},
                "kind": {"const": "person"},
            },
        }
    )
    inner = {name: (s, description) for name, s, description in shape.properties}
    assert inner["tone"][0].options == ("calm", "angry")
    assert (inner["age"][0].kind, inner["age"][0].high) == ("int", 120)
    assert inner["name"][0].nullable
    assert inner["name"][1] == "full name"
    assert inner["sure"][0].kind == "bool"
    assert inner["kind"][0].options == ("person",)


def test_a_schema_that_refers_to_itself_ends() -> None:
    shape = of_schema({"$ref": "#/$defs/Node", "$defs": {"Node": {"$ref": "#/$defs/Node"}}})
    assert shape.kind == "str"


def test_lengths_of_lists_are_read() -> None:
    shape = of_schema({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3})
    assert (shape.least, shape.high, shape.item.kind) == (1, 3, "float")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("str", "str"),
        ("Union[int, NoneType]", "int"),
        ("Union[NoneType]", "str"),
        ("list", "list"),
        ("dict[str, int]", "object"),
        ("typing.List[str]", "list"),
        ("not a ( type", "str"),
        ("1", "str"),
        ("Literal[Colour.RED, -1]", "choice"),
    ],
)
def test_annotations(annotation: str, kind: str) -> None:
    assert shape_of(annotation, "", "", "").kind == kind


@pytest.mark.parametrize(
    ("constraints", "description", "bounds"),
    [
        ("greater than or equal to: 0, less than or equal to: 1", "", (0.0, 1.0)),
        ("greater than: 2", "", (2.0, None)),
        ("", "between 0 and 10", (0.0, 10.0)),
        ("", "0..1", (0.0, 1.0)),
        ("", "on a scale of 1-5", (1.0, 5.0)),
        ("", "how heavy it is", (None, None)),
        ("", "10 to 2", (None, None)),
    ],
)
def test_bounds(constraints: str, description: str, bounds: tuple[float | None, float | None]) -> None:
    shape = shape_of("float", "must be a single float value", constraints, description)
    assert (shape.low, shape.high) == bounds


def test_an_unreadable_schema_falls_back_to_the_annotation() -> None:
    assert shape_of("list[str]", SCHEMA + "{not json", "", "").kind == "list"
