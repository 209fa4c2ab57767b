"""Every signature comes back from its JSON schema, and any schema is read or refused."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import string
import uuid
from typing import Annotated, Any, Literal

import annotated_types as at
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_helpers import unordered
from steady import STEADY

from dspex_lab.errors import SignatureError
from dspex_lab.signatures import MISSING, Field, Signature, signature
from dspex_lab.signatures._meta import Described, Regex
from dspex_lab.signatures._nodes import check_name

MANY = settings(STEADY, max_examples=150)


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


@MANY
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


@MANY
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


@MANY
@given(json_values)
def test_anything_else_is_refused(value: Any) -> None:
    try:
        Signature.from_json_schema(value)
    except SignatureError as error:
        str(error)
