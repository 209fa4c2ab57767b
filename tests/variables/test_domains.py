"""What variables may be: options, texts and plain values, and what domains are described by."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from domain_helpers import refusal

from dspex_lab.errors import VariableError
from dspex_lab.variables import Bool, Choice, Float, Int, Plain, Text, domain_from

# ---- choices ---------------------------------------------------------------------------------------------------------


def test_a_bool_takes_bools_and_their_names_and_no_numbers() -> None:
    domain = Bool()
    assert domain.cast(np.True_, "x") is True
    assert domain.cast("False", "x") is False
    for value in (1, 0.0, "yes", None):
        assert "it is True or False" in refusal(domain, value)
    assert (domain.first(), domain.size(), list(domain.every())) == (False, 2, [False, True])
    assert {domain.draw(Random(seed)) for seed in range(9)} == {True, False}
    assert domain.distribution() == optuna.distributions.CategoricalDistribution((False, True))


def test_a_choice_takes_its_options_and_what_is_written_like_one() -> None:
    domain = Choice([1, 2.5, "chat", True, None])
    assert [domain.cast(value, "x") for value in (1, "2.5", "chat", True, None, np.float64(2.5), 1.0)] == [
        *(1, 2.5, "chat", True, None, 2.5, 1)
    ]
    assert type(domain.cast(True, "x")) is bool
    assert type(domain.cast(1, "x")) is int


def test_an_unknown_option_says_which_may_be_meant() -> None:
    assert "it is one of 'chat', 'json', 'xml'. Did you mean 'json'?" in refusal(Choice(["chat", "json", "xml"]), "jsno")
    many = refusal(Choice(range(100)), 1000)
    assert "and 88 more" in many


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no options"),
        ("abc", "a list of values"),
        (7, "a list of values"),
        (["a", "a"], "'a' twice"),
        ([float("nan")], "no such number"),
        ([object()], "a text, a number, a bool or None"),
    ],
)
def test_options_that_are_none_are_refused(options: Any, said: str) -> None:
    with pytest.raises(VariableError, match=said):
        Choice(options)


def test_options_that_python_takes_for_equal_are_searched_by_labels() -> None:
    domain = Choice([1, True, "1"])
    labels = domain.distribution().choices
    assert len(set(labels)) == 3
    for option in domain.every():
        assert domain.equal(domain.from_distribution(domain.to_distribution(option)), option)
    with pytest.raises(VariableError, match="it is one of"):
        domain.from_distribution("3: x")
    assert Choice(["a", "b"]).distribution() == optuna.distributions.CategoricalDistribution(("a", "b"))
    assert Choice(["a", "b"]).to_distribution("b") == Choice(["a", "b"]).from_distribution("b") == "b"


def test_domains_compare_by_what_they_describe() -> None:
    assert Choice([1]) == Choice([1])
    assert Choice([1]) != Choice([True])
    assert hash(Float(0, 1)) == hash(Float(0.0, 1.0))
    assert Float(0, 1) != Int(0, 1)
    assert Float(0, 1) != "float"


# ---- texts -----------------------------------------------------------------------------------------------------------


def test_a_text_takes_texts_alone_up_to_its_length() -> None:
    domain = Text(longest=10)
    assert domain.cast("Classify.", "x") == "Classify."
    assert "11 characters are more than 10" in refusal(domain, "Classify it")
    assert "of type int" in refusal(domain, 5)
    assert "of type bytes" in refusal(domain, b"x")
    assert "character 1 is half of a pair" in refusal(domain, "a\ud800")


def test_a_text_is_searched_among_candidates_by_labels_that_begin_like_them() -> None:
    domain = Text(["Classify the message.", "Say which team it is for."])
    assert domain.distribution().choices == ("0: Classify the message.", "1: Say which team it is for.")
    assert domain.from_distribution("1: Say which team it is for.") == "Say which team it is for."
    assert domain.to_distribution("Classify the message.") == "0: Classify the message."
    assert domain.first() == "Classify the message."
    assert {domain.draw(Random(seed)) for seed in range(9)} == set(domain.candidates)
    assert domain.corners() == domain.candidates
    with pytest.raises(VariableError, match="none of the candidates"):
        domain.to_distribution("Something else.")
    for act in (Text().distribution, lambda: Text().draw(Random(0))):
        with pytest.raises(VariableError, match="no candidates"):
            act()
    assert Text().first() == ""


@pytest.mark.parametrize("given", [{"longest": -1}, {"longest": True}, {"candidates": "abc"}, {"candidates": [1]}])
def test_a_text_domain_that_is_none_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(VariableError):
        Text(**given)


# ---- plain -----------------------------------------------------------------------------------------------------------


def test_plain_values_are_compared_with_their_types_and_cannot_be_searched() -> None:
    domain = Plain()
    assert domain.equal({"a": [1]}, {"a": [1]})
    assert not domain.equal({"a": [1]}, {"a": [True]})
    assert not domain.equal({"a": 1}, {"b": 1})
    assert domain.first() is None
    for act in (domain.distribution, lambda: domain.draw(Random(0))):
        with pytest.raises(VariableError, match="cannot be searched as it stands"):
            act()
    assert domain.to_distribution(1) == 1
    assert domain.corners() == ()


# ---- descriptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ([1], "described by a dict"),
        ({}, "no domain of the kind None"),
        ({"kind": "flaot"}, "Did you mean 'float'"),
        ({"kind": ["float"]}, "no domain of the kind"),
        ({"kind": "float", "lo": 1}, "cannot be read: TypeError"),
        ({"kind": "float", "low": 2, "high": 1}, "above high"),
        ({"kind": "choice"}, "cannot be read"),
        ({"kind": "tensor", "shape": [1], "dtype": "object"}, "dtype="),
    ],
)
def test_a_description_of_none_says_what_was_found(description: Any, said: str) -> None:
    with pytest.raises(VariableError, match=said):
        domain_from(description)


def test_a_value_whose_repr_fails_is_refused_all_the_same() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "cannot be <Odd instance at" in refusal(Float(), Odd())
