"""Modules, models and adapters by name."""

from __future__ import annotations

import pickle
from random import Random
from typing import Any

import dspy
import optuna
import pytest

from dspex_lab.errors import VariableError
from dspex_lab.variables import AdapterChoice, LMChoice, ModuleChoice, domain_from


class Own(dspy.Module):
    pass


def make_three(signature: Any) -> Any:
    return dspy.MultiChainComparison(signature, M=3)


def test_modules_are_chosen_by_name_however_it_is_written() -> None:
    domain = ModuleChoice(["Predict", "ChainOfThought", "ReAct"])
    assert domain.cast("chain_of_thought", "x") == "ChainOfThought"
    assert domain.cast(dspy.ReAct, "x") == "ReAct"
    assert domain.cast(dspy.Predict("a -> b"), "x") == "Predict"
    with pytest.raises(VariableError, match="Did you mean 'ReAct'"):
        domain.cast("react2", "x")
    with pytest.raises(VariableError, match="it is one of"):
        domain.cast(5, "x")


def test_a_module_is_made_by_what_was_given_or_by_dspy() -> None:
    domain = ModuleChoice({"three": make_three, "plain": dspy.Predict})
    assert domain.factory("three") is make_three
    assert domain.cast(make_three, "x") == "three"
    assert ModuleChoice(["chain_of_thought"]).factory("chain_of_thought") is dspy.ChainOfThought
    own = ModuleChoice([Own, "Predict"])
    assert (own.names, own.factory("Own"), own.factory("Predict")) == (("Own", "Predict"), Own, dspy.Predict)
    with pytest.raises(VariableError, match="DSPy has no module 'Own'"):
        domain_from(own.describe()).factory("Own")  # type: ignore[attr-defined]
    with pytest.raises(VariableError, match="DSPy has no module 'Example'"):
        ModuleChoice(["Example"]).factory("Example")  # there is one, and it is no module


def test_models_are_chosen_by_name_and_kept_without_their_keys() -> None:
    fast = dspy.LM("openai/fast", api_key="sk-secret-1234567890")
    domain = LMChoice({"fast": fast, "openai/slow": None})
    assert domain.cast(fast, "x") == "fast"
    assert domain.given("fast") is fast
    assert domain.given("openai/slow") is None
    assert "secret" not in repr(domain) + repr(domain.describe())
    assert LMChoice([fast, "other"]).names == ("openai/fast", "other")
    assert LMChoice([fast, "other"]).cast(dspy.LM("openai/fast"), "x") == "openai/fast"
    with pytest.raises(VariableError, match="it is one of 'fast', 'openai/slow'"):
        domain.cast(dspy.LM("openai/unknown"), "x")


def test_adapters_are_chosen_by_name() -> None:
    domain = AdapterChoice(["chat", "json", "two_step", "baml"])
    assert domain.cast(dspy.JSONAdapter(), "x") == "json"
    assert domain.cast(dspy.ChatAdapter, "x") == "chat"
    assert domain.cast(dspy.TwoStepAdapter, "x") == "two_step"
    assert type(domain.adapter("json")) is dspy.JSONAdapter
    assert type(AdapterChoice().adapter("xml")) is dspy.XMLAdapter
    mine = dspy.ChatAdapter()
    assert AdapterChoice({"mine": mine}).adapter("mine") is mine
    assert type(AdapterChoice([dspy.ChatAdapter]).adapter("chat")) is dspy.ChatAdapter
    with pytest.raises(VariableError, match="DSPy has no adapter 'mine'"):
        AdapterChoice(["mine"]).adapter("mine")


@pytest.mark.parametrize("options", [[], "abc", 5, ["a", "a"], [" "], {"": 1}])
@pytest.mark.parametrize("kind", [ModuleChoice, LMChoice, AdapterChoice])
def test_options_without_names_are_refused(kind: Any, options: Any) -> None:
    with pytest.raises(VariableError):
        kind(options)


def test_an_object_without_a_model_is_no_option_of_models() -> None:
    with pytest.raises(VariableError, match="an option has a name"):
        LMChoice([object()])


def test_named_options_are_searched_counted_and_drawn() -> None:
    domain = AdapterChoice()
    assert domain.distribution() == optuna.distributions.CategoricalDistribution(("chat", "json", "xml"))
    assert (domain.first(), domain.size(), list(domain.every())) == ("chat", 3, ["chat", "json", "xml"])
    assert {domain.draw(Random(seed)) for seed in range(30)} == {"chat", "json", "xml"}
    assert domain.from_distribution("json") == domain.to_distribution("json") == "json"


def test_what_a_name_stands_for_does_not_count_in_a_comparison() -> None:
    assert ModuleChoice({"Predict": dspy.Predict}) == ModuleChoice(["Predict"])
    again = pickle.loads(pickle.dumps(ModuleChoice({"three": make_three})))  # noqa: S301
    assert again.factory("three") is make_three
