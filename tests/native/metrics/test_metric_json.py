"""Structures, whole and field by field."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import pathlib
import uuid
from typing import Any

import dspy
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics import FieldMatch, JsonMatch
from dspex_lab.native.metrics._json import at, leaves, parse_path, write_path

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


class Size(enum.IntEnum):
    SMALL = 1


class Address(pydantic.BaseModel):
    city: str
    size: Size = Size.SMALL


@dataclasses.dataclass
class Person:
    name: str
    address: Address


# --- whole --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ('{"a": 1, "b": [1, 2]}', {"b": [1.0, 2], "a": 1}, 1),
        ('{"a": 1}', {"a": 2}, 0),
        ('{"a": 1, "b": 2}', {"a": 1}, 0),
        ("[1, 2]", "[2, 1]", 0),
        ("true", 1, 0),
        ("1", 1, 1),
        ("null", None, 1),
        ('```json\n{"a": 1}\n```', {"a": 1}, 1),
        ("```\n[1]\n```\n", [1], 1),
        ("{'a': 1}", {"a": 1}, 0),
        ("plain text", "plain text", 1),
        ("NaN", "NaN", 1),
        ("NaN", float("nan"), 0),
        (float("nan"), float("nan"), 1),
        ("", "", 1),
        (Person("Ann", Address(city="Bern")), '{"name": "Ann", "address": {"city": "Bern", "size": 1}}', 1),
        (np.array([[1, 2]]), [[1, 2]], 1),
        ({1, 2}, [1, 2], 1),
        ({"d": datetime.date(2020, 1, 2)}, {"d": "2020-01-02"}, 1),
        ([pathlib.PurePosixPath("a/b"), uuid.UUID(int=0)], ["a/b", str(uuid.UUID(int=0))], 1),
        ("[" * 100_000, [], 0),
        ("[" * 500 + "]" * 500, [], 0),
        ("9" * 5_000, 9, 0),
    ],
)
def test_json_match(prediction: Any, reference: Any, score: float) -> None:
    assert JsonMatch().score(prediction, reference) == score


def test_the_order_of_lists_may_be_overlooked_at_every_level() -> None:
    made, hoped = {"a": [{"x": [1, 2]}, 3]}, {"a": [3.0, {"x": [2, 1]}]}
    assert JsonMatch().score(made, hoped) == 0
    assert JsonMatch(ordered=False).score(made, hoped) == 1
    assert JsonMatch(ordered=False).score([1, 1, 2], [1, 2, 2]) == 0
    assert JsonMatch(ordered=False).score([True], [1]) == 0


@given(VALUES, VALUES)
def test_equal_means_equal_once_written_and_read(a: Any, b: Any) -> None:
    written = json.dumps(a)
    assert JsonMatch(ordered=False).score({"v": a}, {"v": a}) == JsonMatch().score({"v": a}, f'{{"v": {written}}}') == 1
    assert JsonMatch().score({"v": a}, {"v": b}) == JsonMatch().score({"v": b}, {"v": a})


def test_the_explanation_names_paths() -> None:
    told = JsonMatch().explain('{"a": {"b": 1}, "x": 0}', {"a": {"b": 2}, "c": [3]})
    assert "a.b: expected 2, found 1." in told
    assert "c[0]: missing, expected 3." in told
    assert "x: not in the reference, found 0." in told
    assert "no JSON" in JsonMatch().explain("{broken", {"a": 1})
    assert "And 12 more." in JsonMatch().explain({}, {str(i): i for i in range(19)})
    assert JsonMatch().explain([], []) == "json_match 1.00: equal."


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ConfigurationError, match="holds itself"):
        JsonMatch().score(loop, [1])


# --- field by field -----------------------------------------------------------------------------------------------

REFERENCE = {"name": "Ann Lee", "address": {"city": "Bern", "zip": "3000"}, "items": [{"price": 5}, {"price": 7.5}]}


def test_the_share_of_leaves_that_are_right() -> None:
    made = {"name": "Ann Lee", "address": {"city": "Basel"}, "items": [{"price": 5.0}, {"price": 7}], "age": 3}
    assert FieldMatch().score(made, REFERENCE) == pytest.approx(2 / 5)
    assert FieldMatch(extra="count").score(made, REFERENCE) == pytest.approx(2 / 6)
    told = FieldMatch(extra="count").explain(json.dumps(made), json.dumps(REFERENCE))
    assert told.startswith("field_match 0.33: 2 of 6 fields are right.")
    assert "address.city: expected 'Bern', found 'Basel'." in told
    assert "address.zip: missing, expected '3000'." in told
    assert "items[1].price: expected 7.5, found 7." in told
    assert "age: not in the reference." in told


def test_chosen_paths_only() -> None:
    match = FieldMatch(fields=["name", "items[1].price", "address"])
    assert match.score({"name": "Ann Lee", "items": [0, {"price": 7.5}]}, REFERENCE) == pytest.approx(2 / 3)
    assert FieldMatch(fields=["email"]).score({}, REFERENCE) == 1
    assert "found 'x', expected none" in FieldMatch(fields=["email"]).explain({"email": "x"}, REFERENCE)
    assert FieldMatch(fields=["email"]).explain({}, {}) == "field_match 1.00: 1 of 1 fields are right."


def test_a_metric_for_each_field() -> None:
    match = FieldMatch(fields={"name": "f1", "address.city": None, "items[0].price": "numeric"})
    made = {"name": "ann", "address": {"city": "Bern"}, "items": [{"price": "$5.00"}]}
    assert match.score(made, REFERENCE) == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert "name: 1 of the reference's 2 words" in match.explain(made, REFERENCE)
    assert match.using(threshold=0.5).score(made, REFERENCE) == match.score(made, REFERENCE)


def test_nothing_wanted_is_right_only_where_nothing_was_made() -> None:
    assert FieldMatch().score({}, {}) == 1
    assert FieldMatch().score({"a": 1}, {}) == 0
    assert FieldMatch().score("no json", {"a": 1}) == 0
    assert FieldMatch().score([1, 2], [1, 3]) == 0.5
    assert FieldMatch().score(5, 5) == 1
    assert "value: expected 5, found 6." in FieldMatch().explain(6, 5)


def test_a_long_list_of_faults_is_cut() -> None:
    assert FieldMatch().explain({}, {str(i): i for i in range(20)}).endswith("and 12 more")


@given(RECORDS)
def test_every_leaf_is_found_by_its_path(record: dict[str, Any]) -> None:
    assert all(at(record, path) is value for path, value in leaves(record))
    assert FieldMatch(extra="count").score(record, record) == 1


def test_paths_are_read_and_written() -> None:
    for text in ("a", "a.b", "a[0]", "a[0].b[12].c", "[3].x", "a b.ü"):
        assert write_path(parse_path(text)) == text
    for wrong in ("", ".a", "a..b", "a[", "a[x]", "a.", 3, None):
        with pytest.raises(ConfigurationError, match="no path"):
            parse_path(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"fields": "name"}, {"fields": []}, {"extra": "x"}, {"fields": ["a..b"]}, {"fields": 3}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        FieldMatch(**options)


# --- a whole example against a whole prediction -------------------------------------------------------------------


def test_without_a_field_all_outputs_are_compared() -> None:
    gold = dspy.Example(text="…", name="Ann", age=3).with_inputs("text")
    made = dspy.Prediction(reasoning="because", name="Ann", age=4)
    assert FieldMatch()(gold, made) == 0.5
    assert FieldMatch(extra="count")(gold, made) == 0.5
    assert JsonMatch()(gold, dspy.Prediction(reasoning="because", name="Ann", age=3)) == 1
    assert FieldMatch(field="name")(gold, made) == 1


def test_an_example_that_names_no_inputs_is_compared_in_what_both_have() -> None:
    assert FieldMatch()({"text": "…", "name": "Ann"}, {"name": "Ann"}) == 1


def test_records_that_share_nothing_are_an_error_as_everywhere() -> None:
    with pytest.raises(ConfigurationError, match="cannot be told which field"):
        JsonMatch()({"text": "…"}, {"name": "Ann", "age": 3})
