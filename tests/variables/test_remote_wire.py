"""What crosses between the two ends of a space: what comes out is what went in, and what is none is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConstraintError, LeaseError, PipelineError, VariableError, VersionConflict
from dspex_lab.events import VariableRecord
from dspex_lab.variables import Author, Change, Commit
from dspex_lab.variables._remote_wire import (
    Malformed,
    author_from_json,
    commit_from_json,
    commit_to_json,
    error_from_json,
    error_to_json,
    field,
    names_of,
    record_from_json,
    record_to_json,
)

WHO = st.sampled_from(["person", "optimizer", "job", "adaptation", "program"])
TEXT = st.none() | st.text(max_size=20)
SCORES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
AUTHORS = st.builds(Author, WHO, TEXT, TEXT, SCORES)
VALUES = st.none() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.booleans(), max_size=3)
CHANGES = st.dictionaries(st.text(max_size=8), st.tuples(VALUES, VALUES, st.integers(0, 9), WHO), max_size=3).map(
    lambda found: {name: Change(name, *rest) for name, rest in found.items()}
)
NUMBERS = st.none() | st.integers(0, 2**53)
COMMITS = st.builds(Commit, st.integers(1, 9), st.floats(0, 1e10), CHANGES, AUTHORS, NUMBERS, NUMBERS)


@given(COMMITS)
def test_a_commit_comes_out_as_it_went_in(commit: Commit) -> None:
    found = json.loads(json.dumps(commit_to_json(commit, lambda name, value: [value])))
    assert commit_from_json(found, lambda name, value: value[0]) == commit


@pytest.mark.parametrize(
    "error",
    [
        VersionConflict("old", name="k", expected=1, actual=2, hint="Again."),
        ConstraintError("broken", constraint="small"),
        LeaseError("leased", name="k", holder="gepa"),
        VariableError("none", hint="Try k."),
    ],
)
def test_an_error_comes_out_as_it_went_in(error: VariableError) -> None:
    found = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_another_error_is_named_and_a_long_one_shortened() -> None:
    found = error_from_json(error_to_json(PipelineError("the step failed", hint="See it.")))
    assert type(found) is VariableError
    assert found.message.startswith("PipelineError: the step failed")
    assert found.hint == "See it."
    assert "KeyError: 'x'" in str(error_from_json(error_to_json(KeyError("x"))))
    assert len(error_to_json(VariableError("x" * 5_000))["message"]) == 2_000

    class Odd(LeaseError):
        pass

    assert type(error_from_json(error_to_json(Odd("m", holder="h")))) is LeaseError


def test_a_record_comes_out_as_it_went_in_and_a_score_that_is_no_number_is_none() -> None:
    record = VariableRecord("default", "k", 2, 1, 5.0, 7, "optimizer", "optuna", None, float("nan"), 9)
    assert record_from_json(json.loads(json.dumps(record_to_json(record)))) == record._replace(score=None)
    for bad in (5, [], [1, 2], {}):
        with pytest.raises(Malformed):
            record_from_json(bad)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "1", None])
def test_a_number_is_a_number(value: Any) -> None:
    with pytest.raises(Malformed):
        field({"x": value}, "x", (int, float))


def test_fields_and_names() -> None:
    assert field({"x": 1}, "x", (int, float)) == 1
    assert field({}, "x", int, optional=True) is None
    assert field({"x": True}, "x", bool) is True
    assert names_of({}, "x", optional=True) is None
    with pytest.raises(Malformed, match="not a list of names"):
        names_of({"x": [1]}, "x")
    with pytest.raises(Malformed, match="nobody is"):
        author_from_json({"who": "derived by hand"})
