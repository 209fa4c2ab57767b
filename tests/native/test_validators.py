"""Validators: each says nothing of what is good and one sentence of what is not."""

from __future__ import annotations

import datetime
import re
from typing import Any

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError, PipelineError
from dspex_lab.native import (
    Validator,
    between,
    contains,
    either,
    ends_with,
    every,
    is_json,
    is_url,
    length,
    matches,
    max_lines,
    max_words,
    min_words,
    not_contains,
    not_empty,
    one_of,
    satisfies,
    starts_with,
    unique,
    validate,
    validator,
    validators,
)


@pytest.mark.parametrize(
    ("check", "good", "bad", "says"),
    [
        (length(1, 3), ["a", "abc", [1], {1: 2}], "", "It has 0 characters, and needs at least 1."),
        (length(maximum=2), ["", "ab"], [1, 2, 3], "It has 3 items, and may have at most 2."),
        (length(1), ["a"], 5, "It has no length; it is int."),
        (min_words(2), ["a b", " a  b c "], "a", "It has 1 words, and needs at least 2."),
        (min_words(2), [], None, "It is no text but NoneType."),
        (max_words(2), ["", "a b"], "a b c", "It has 3 words, and may have at most 2."),
        (max_words(2), [], 5, "It is no text but int."),
        (max_lines(1), ["", "a", "a\n"], "a\nb", "It has 2 lines, and may have at most 1."),
        (max_lines(1), [], 5, "It is no text but int."),
        (matches("[A-Z]+-[0-9]+"), ["AB-1"], "xAB-1", "'xAB-1' does not match '[A-Z]+-[0-9]+'."),
        (matches("a|b"), ["a", "b"], "ab", "'ab' does not match 'a|b'."),
        (matches("a"), [], "a\n", "'a\\n' does not match 'a'."),
        (matches("a"), [], 5, "It is no text but int."),
        (one_of("a", 1), ["a", 1, 1.0], "b", "'b' is none of 'a', 1."),
        (one_of(1), [1], True, "True is none of 1."),
        (one_of("Yes", ignore_case=True), ["yes", "YES"], 5, "5 is none of 'Yes'."),
        (between(0, 1), [0, 0.5, 1], 2, "2 is not from 0 to 1."),
        (between(low=0), [0, 9], -1, "-1 is not at least 0."),
        (
            between(high=datetime.date(2024, 1, 1)),
            [datetime.date(2023, 1, 1)],
            datetime.date(2025, 1, 1),
            "datetime.date(2025, 1, 1) is not at most datetime.date(2024, 1, 1).",
        ),
        (between(0, 1), [], float("nan"), "nan is not from 0 to 1."),
        (between(0, 1), [], "x", "str cannot be compared with int."),
        (not_empty(), ["a", [0], 0, False], " \n", "It is empty."),
        (not_empty(), [], None, "It is empty."),
        (not_empty(), [], {}, "It is empty."),
        (contains("a", "b"), ["ab", ["a", "b"]], "a", "It does not contain 'b'."),
        (contains("A", ignore_case=True), ["xa", ["a", 1]], "b", "It does not contain 'A'."),
        (contains("a"), [], 5, "It is no text or collection but int."),
        (contains(1), ["a1", [1]], [2], "It does not contain 1."),
        (not_contains("as an AI", "sorry", ignore_case=True), ["fine"], "Sorry, As an ai", "It contains 'as an AI', 'sorry'."),
        (not_contains("a"), [["b"]], 5, "It is no text or collection but int."),
        (starts_with("a", "b"), ["ab", "b"], "c", "It does not begin with 'a' or 'b'."),
        (starts_with("a"), [], 5, "It is no text but int."),
        (ends_with(".", "!"), ["a."], "a", "It does not end with '.' or '!'."),
        (ends_with("."), [], 5, "It is no text but int."),
        (unique(), [[], [1, 2], "ab", [[1], [2]]], [1, 2, 1], "1 is there twice."),
        (unique(), [], [[1], [1]], "[1] is there twice."),
        (unique(), [], 5, "It is no text or collection but int."),
        (
            is_json(),
            ["{}", "5", " [1] "],
            "{'a': 1}",
            "It is no JSON: Expecting property name enclosed in double quotes in line 1, column 2.",
        ),
        (is_json(), [], "[" * 100_000, None),
        (is_json(), [], 5, "It is no text but int."),
        (
            is_json(list[int]),
            ["[1]"],
            '[1, "x"]',
            "Its JSON does not fit at /1: Input should be a valid integer, unable to parse string as an integer.",
        ),
        (is_url(), ["https://example.org/a?b=c#d", "http://127.0.0.1:8000"], "example.org", "'example.org' is no address."),
        (is_url(), [], "ftp://example.org", "'ftp://example.org' does not begin with https or http."),
        (is_url(["ftp"]), ["ftp://example.org"], "ftp://", "'ftp://' is no address."),
        (is_url(), [], "https://a.org:99999", "'https://a.org:99999' is no address."),
        (is_url(), [], "https://a.org/ b", "'https://a.org/ b' is no address."),
        (is_url(), [], 5, "It is no text but int."),
        (every(max_words(1), not_empty()), [[], ["a", "b"]], ["a", "b c"], "Item 2: It has 2 words, and may have at most 1."),
        (every(not_empty()), [], 5, "It is no text or collection but int."),
        (either(one_of("a"), max_words(0)), ["a", ""], "b", "'b' is none of 'a'. It has 1 words, and may have at most 0."),
        (satisfies(str.isupper, "It is to be in capitals."), ["A"], "a", "It is to be in capitals."),
    ],
    ids=repr,
)
def test_a_validator(check: Validator, good: list[Any], bad: Any, says: str | None) -> None:
    assert [check(value) for value in good] == [None] * len(good)
    said = check(bad)
    assert isinstance(said, str)
    assert says is None or said == says


def test_all_that_is_wrong_is_said_in_order() -> None:
    assert validate("a b c", max_words(2), not_empty(), starts_with("b")) == [
        "It has 3 words, and may have at most 2.",
        "It does not begin with 'b'.",
    ]
    assert validate("x") == []


def test_plain_functions_are_validators() -> None:
    def short(value: str) -> bool:
        return len(value) < 3

    assert validate("ab", short, lambda v: None) == []
    assert validate("abc", short, lambda v: "Not so.") == ["'abc' does not pass short().", "Not so."]
    assert every(short)(["ab", "abc"]) == "Item 2: 'abc' does not pass short()."
    with pytest.raises(PipelineError, match=r"validator short\(\) failed on 5") as caught:
        validate(5, short)
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(PipelineError, match="returned int"):
        validate(5, lambda v: 7)
    with pytest.raises(ConfigurationError, match="A validator is a function of one value, not 5"):
        validate(5, 5)  # type: ignore[arg-type]


def test_validators_have_names_and_are_found_by_them() -> None:
    assert repr(validator("max_words", 2)) == "max_words(2)"
    assert repr(one_of("a", ignore_case=True)) == "one_of('a', ignore_case=True)"
    assert validator("max_words", count=1)("a b") is not None
    assert {"length", "matches", "one_of", "between", "not_empty", "is_json", "is_url"} <= set(validators)
    with pytest.raises(ConfigurationError, match=r"no validator named 'max_word'\. Did you mean 'max_words'"):
        validator("max_word", 2)
    with pytest.raises(ConfigurationError, match=r"'max_words' cannot be made: .*argument"):
        validator("max_words")


def test_users_add_validators() -> None:
    @validators.register("polite")
    def polite(word: str = "please") -> Any:
        return lambda value: None if word in value else f"It does not say {word}."

    try:
        assert validate("do", validator("polite")) == ["It does not say please."]
    finally:
        validators.unregister("polite")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: length(), "give a minimum"),
        (lambda: between(), "give a low end"),
        (lambda: one_of(), "at least one choice"),
        (lambda: either(), "at least one validator"),
        (lambda: matches("("), "pattern '(' cannot be read"),
        (lambda: matches("(?=a)b"), "cannot be read"),
        (lambda: every(5), "A validator is a function"),  # type: ignore[arg-type]
    ],
)
def test_a_validator_that_makes_no_sense_is_refused_when_it_is_made(make: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        make()


def test_validators_travel_to_workers() -> None:
    again = cloudpickle.loads(cloudpickle.dumps(max_words(1)))
    assert (repr(again), again("a b")) == ("max_words(1)", "It has 2 words, and may have at most 1.")


def test_no_pattern_takes_for_ever() -> None:
    assert matches("(a+)+b")("a" * 100_000) is not None


EVERYTHING = [
    length(1, 2),
    max_words(1),
    max_lines(1),
    matches("a+"),
    one_of("a"),
    between(0, 1),
    not_empty(),
    contains("a"),
    not_contains("a"),
    starts_with("a"),
    ends_with("a"),
    unique(),
    is_json(list[int]),
    is_url(),
    every(not_empty()),
]


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.lists(st.text()),
        st.dictionaries(st.text(), st.integers()),
    ),
    st.sampled_from(EVERYTHING),
)
@settings(max_examples=300, deadline=None)
def test_any_value_gets_none_or_a_sentence(value: Any, check: Validator) -> None:
    said = check(value)
    assert said is None or (isinstance(said, str) and said.endswith("."))
