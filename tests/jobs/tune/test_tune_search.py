"""The variables of a space as Optuna searches them: there and back, only what counts, and what is left alone."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tune_programs import space_of

from dspex_lab.errors import ConfigurationError, VariableError
from dspex_lab.jobs.tune import Search, search_of
from dspex_lab.variables import Space

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def spaces(draw: Any) -> Space:
    """Spaces with a variable of each kind that can be searched."""
    space = Space()
    low, width = draw(NUMBERS), draw(st.floats(0, 1e6))
    space.float("wide", low, low + width)
    tiny = draw(st.floats(1e-9, 1))
    space.float("scaled", tiny, tiny * draw(st.floats(1, 1e6)), log=True)
    space.float("stepped", 0, draw(st.integers(1, 50)) * 0.1, step=0.1)
    start = draw(st.integers(-1000, 1000))
    space.int("whole", start, start + draw(st.integers(0, 1000)), step=draw(st.integers(1, 7)))
    space.int("grown", 1, draw(st.integers(1, 10_000)), log=True)
    space.bool("on")
    space.choice("option", draw(st.lists(st.one_of(st.text(max_size=5), st.integers(), st.none()), min_size=1, unique=True)))
    space.text("words", candidates=draw(st.lists(st.text(max_size=80), min_size=1, unique=True)))
    space.demos("shown", candidates=[[], [{"q": "a"}], [{"q": "b"}, {"q": "c"}]])
    space.module("module", ["Predict", "ChainOfThought"])
    space.lm("model", ["one/a", "two/b"])
    space.adapter("adapter")
    return space


@given(spaces(), st.integers(0, 1000))
def test_every_value_that_is_suggested_is_one_that_the_variable_takes_and_leads_back(space: Space, seed: int) -> None:
    search = search_of(space)
    assert set(search.names) == set(space)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    values = search.suggest(trial, space)
    assert set(values) == set(space)
    snapshot = space.check(values)  # each one is in its domain
    for name, value in values.items():
        domain = space[name].domain
        assert domain.equal(snapshot.values[name], value)
        assert domain.equal(search.value(name, trial.params[name]), value)
    again = search.params(values)
    assert {name: search.value(name, chosen) for name, chosen in again.items()} == values
    back = search.from_json(search.as_json(values))
    assert all(space[name].domain.equal(back[name], values[name]) for name in values)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


def asked(space: Space, search: Search, **fixed: Any) -> dict[str, Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(fixed)
    return search.suggest(study.ask(), space)


def test_a_conditional_variable_is_asked_for_only_where_it_counts() -> None:
    space = space_of()
    search = search_of(space)
    assert search.names == ("x", "k", "mode", "extra")
    assert set(asked(space, search, mode="plain")) == {"x", "k", "mode"}
    assert set(asked(space, search, mode="rich")) == {"x", "k", "mode", "extra"}


def test_a_condition_is_asked_after_what_it_reads_also_through_what_is_derived() -> None:
    space = Space()
    space.float("first", 0, 1, default=0.5)
    space.int("k", 0, 4, default=0)
    space.derive("double", "k * 2")
    space.float("first", 0, 1, default=0.5, when="double > 4")
    space.float("second", 0, 1, default=0.5, when=lambda first: first >= 0)
    search = search_of(space)
    assert search.names == ("k", "first", "second")
    assert set(asked(space, search, k=1)) == {"k"}
    assert set(asked(space, search, k=3)) == {"k", "first", "second"}


def test_a_condition_that_raises_is_named() -> None:
    space = Space()
    space.int("k", 0, 4, default=1)
    space.float("x", 0, 1, when=lambda k: 1 / k > 0)
    with pytest.raises(VariableError, match="Nobody can tell whether variable 'x' counts: ZeroDivisionError"):
        asked(space, search_of(space), k=0)


def test_pinned_and_derived_variables_and_those_without_bounds_are_left_alone() -> None:
    space = space_of()
    space.float("free", default=0.5)
    space.text("words", "Hello")
    space.tensor("weights", (2,))
    space.derive("sum", "x + k")
    space.pin("x")
    search = search_of(space)
    assert search.names == ("k", "mode", "extra")
    assert search.notes == ()
    assert search_of(space, ["x", "k"]).notes == ("x is pinned and keeps its value.",)
    with pytest.raises(VariableError, match="'sum' is derived and cannot be tuned") as refused:
        search_of(space, ["sum"])
    assert refused.value.hint == "Tune x, k."
    with pytest.raises(VariableError, match=r"Variable 'words': .* it has no candidates"):
        search_of(space, "words")
    with pytest.raises(VariableError, match="'weights'"):
        search_of(space, [space["weights"]])
    with pytest.raises(ConfigurationError, match="There is no variable to tune"):
        search_of(space, "x")


def test_variables_are_named_by_name_by_pattern_or_as_such() -> None:
    space = Space()
    for name in ("a.one", "a.two", "b.one"):
        space.float(name, 0, 1)
    assert search_of(space, "a.*").names == ("a.one", "a.two")
    assert search_of(space, [space["b.one"], "a.one"]).names == ("b.one", "a.one")
    assert search_of(space, None, ["b.one"]).names == ("b.one",)
    with pytest.raises(VariableError, match=r"Did you mean 'a\.one'"):
        search_of(space, "a.onne")
    with pytest.raises(ConfigurationError, match="3 is no variable"):
        search_of(space, [3])  # type: ignore[list-item]


def test_a_present_value_that_is_no_candidate_takes_part() -> None:
    space = Space()
    space.text("words", "as it is", candidates=["one", "two"])
    search = search_of(space)
    assert search.params({"words": "as it is"}) == {"words": "now: as it is"}
    assert search.distribution("words").choices == ("0: one", "1: two", "now: as it is")
    assert search.value("words", "now: as it is") == "as it is"
    assert search.params({"words": "two"}) == {"words": "1: two"}
    assert search.params({"words": "three", "other": 1}) == {}
    assert search.size() == 3


def test_combinations_are_counted_where_they_can_be() -> None:
    space = space_of()
    assert search_of(space, ["k", "mode"]).size() == 16
    assert search_of(space, ["k", "x"]).size() is None
    space.float("grid", 0, 1, step=0.25)
    space.float("one", 2, 2)
    assert search_of(space, ["grid", "one"]).size() == 5
