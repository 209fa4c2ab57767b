"""A program and a space, bound both ways."""

from __future__ import annotations

import copy

import dspy
import pytest
from expose_programs import Inner, Nested, examples, exposed, make, state, travelled

from dspex_lab.errors import VariableError, VersionConflict
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import MemoryJournal, Space
from dspex_lab.variables.expose._gate import Gate

# --- both ways ----------------------------------------------------------------------------------------------------


def test_a_commit_goes_into_the_program_and_replaces_what_copies_share() -> None:
    program = Nested()
    program.draft.demos = examples()
    other, demos, config = copy.copy(program.draft), program.draft.demos, program.draft.config
    space, exposure = exposed(program)
    draft = program.draft
    space.commit({"p.draft.temperature": 1.5, "p.draft.instructions": "Go.", "p.k": 9, "p.draft.demos": demos[:1]})
    assert program.draft is draft
    assert (draft.config["temperature"], draft.signature.instructions, program.k) == (1.5, "Go.", 9)
    assert draft.demos == demos[:1]
    assert (config, len(demos)) == ({"temperature": 0.5}, 4)
    assert other.signature.instructions != "Go."
    assert exposure.values["p.k"] == 9


def test_a_range_that_a_person_defines_anew_holds_for_the_program_too() -> None:
    program = Nested()
    space, exposure = exposed(program)
    most = space["p.k"].domain.high
    space.int("p.k", 0, 10 * most)
    space["p.k"].value = 2 * most
    assert program.k == 2 * most
    assert exposure.build({"p.k": 3 * most}).k == 3 * most
    program.k = 4 * most
    assert set(exposure.sync().changes) == {"p.k"}
    assert next(k for k in exposure.knobs if k.path == "k").domain == space["p.k"].domain
    assert travelled(list(exposure.knobs))[[k.path for k in exposure.knobs].index("k")].domain.high == 10 * most
    space.int("p.k", 0, most)
    assert program.k == exposure.values["p.k"] == space["p.k"].value <= most


def test_a_range_that_a_person_gave_is_there_after_a_restart() -> None:
    journal = MemoryJournal()
    space, exposure = exposed(Nested(), space=Space(journal=journal))
    most = space["p.k"].domain.high
    space.int("p.k", 0, 10 * most, default=space["p.k"].default)
    space.float("p.draft.temperature", 0.0, 0.1, default=0.0)
    space["p.k"].value = 2 * most
    again, program = Space(journal=journal), Nested()
    _, exposure = exposed(program, space=again)
    assert (program.k, again["p.k"].value, again["p.k"].domain.high) == (2 * most, 2 * most, 10 * most)
    assert exposure.build({"p.k": 3 * most}).k == 3 * most
    temperature = program.draft.config["temperature"]
    assert again["p.draft.temperature"].value == temperature == 0.5, "the program's value would not be in the range"
    assert again["p.draft.temperature"].domain.high > 0.5


def test_a_program_is_exposed_in_one_commit_and_again_in_none() -> None:
    journal = MemoryJournal()
    space, exposure = exposed(Nested(), space=Space(journal=journal))
    assert (space.version, len(space)) == (1, len(exposure.names))
    assert {space[name].version for name in exposure.names} == {1}
    again, _ = exposed(Nested(), space=Space(journal=journal))
    assert again.version == 1


def test_knobs_were_defined_by_the_program_and_by_no_person() -> None:
    space, _ = exposed(dspy.Predict("a -> b"))
    assert {(row.who, row.author, row.why) for row in space.history()} == {("program", "p", "exposed")}


def test_a_change_of_the_program_is_committed_before_a_run() -> None:
    program = Nested()
    space, exposure = exposed(program)
    program.draft.demos = examples()[:2]
    program.routes[2].config["temperature"] = 0.75
    program.share = 0.5
    version = space.version
    with dspy.context(lm=scripted_lm({"answer": "x"})):
        program(question="q")
    assert space.version == version + 1
    assert space["p.share"].value == 0.5
    assert [d["question"] for d in space["p.draft.demos"].value] == ["aa", "b"]
    record = space.history("p.share")[0]
    assert (record.who, record.author, record.why) == ("program", "p", "changed in the program")
    assert exposure.sync() is None
    del program.routes[2].config["temperature"]
    assert set(exposure.sync().changes) == {"p.routes['2'].temperature"}
    assert space["p.routes['2'].temperature"].value == 1.0


def test_what_a_person_did_stays_when_something_else_is_committed() -> None:
    program = Nested()
    space, exposure = exposed(program)
    program.draft.demos = mine = examples()
    space["p.draft.temperature"].value = 0.1
    assert program.draft.demos is mine
    assert set(exposure.sync().changes) == {"p.draft.demos"}
    assert program.draft.demos is mine


def test_what_both_changed_is_a_conflict_that_a_person_decides(caplog: pytest.LogCaptureFixture) -> None:
    program = Nested()
    space, exposure = exposed(program)
    with exposure.running():
        space["p.k"].value = 5
        program.k = 7
        with pytest.raises(VersionConflict, match="changed in the program too") as conflict:
            exposure.sync()
        assert "exposure.pull() keeps the program's" in str(conflict.value)
        assert exposure.pull().changes["p.k"].value == 7
    assert program.k == 7
    program.k = 8
    space["p.k"].value = 6
    assert program.k == 6
    assert "the space's value holds" in caplog.text
    program.k = 9
    exposure.push()
    assert program.k == 6
    assert exposure.pull() is None


def test_a_pinned_variable_is_not_changed_by_the_program_either() -> None:
    program = Nested()
    space, exposure = exposed(program)
    space.pin("p.k")
    program.k = 9
    with pytest.raises(VariableError, match="pinned"):
        exposure.sync()
    exposure.push()
    assert program.k == 3
    program.k = 9
    space.unpin("p.k")
    assert exposure.sync().changes["p.k"].value == 9


def test_knobs_that_may_break_the_program_are_pinned_from_the_start() -> None:
    space, _ = exposed(make("compiled"))
    assert space["p.routes['a b'].say.instructions"].pinned
    assert space["p.draft.answer.prefix"].pinned
    assert not space["p.draft.instructions"].pinned


def test_a_model_that_somebody_puts_in_becomes_an_option() -> None:
    program = Nested()
    space, exposure = exposed(program)
    lm = dspy.LM("openai/new")
    program.set_lm(lm)
    space["p.k"].value = 4  # a commit before anybody has looked leaves the model alone
    assert program.draft.lm is lm
    exposure.sync()
    assert space["p.draft.lm"].value == "openai/new"
    space["p.draft.lm"].value = "in use"
    assert program.draft.lm is None
    assert program.routes[2].lm is lm
    space.rollback(space.version - 1)
    assert program.draft.lm is lm


def test_a_rollback_reaches_the_program() -> None:
    program = Nested()
    space, _ = exposed(program)
    before = space.version
    space.commit({"p.draft.instructions": "Go.", "p.k": 8})
    space.rollback(before)
    assert program.k == 3
    assert program.draft.signature.instructions.startswith("Given the fields")


# --- modules --------------------------------------------------------------------------------------------------------


def test_modules_are_exchanged_live_and_nothing_wears_off() -> None:
    program = Nested()
    stage = program.stages[0]
    stage.predict.signature = stage.predict.signature.with_updated_fields("reasoning", desc="think hard")
    space, exposure = exposed(program)
    space["p.stages[0].module"].value = "Predict"
    space["p.draft.module"].value = "ChainOfThought"
    assert (type(program.stages[0]), type(program.draft)) == (dspy.Predict, dspy.ChainOfThought)
    assert program.again is program.draft
    program.draft.predict.demos = mine = examples()[:1]
    space["p.stages[0].predict.instructions"].value = "Find it."
    assert program.stages[0].signature.instructions == "Find it."
    assert program.draft.predict.demos[0] == mine[0]
    exposure.sync()
    assert len(space["p.draft.demos"].value) == 1
    built = exposure.build({"stages[0].module": "ChainOfThought"})
    assert built.stages[0].predict.signature.fields["reasoning"].json_schema_extra["desc"] == "think hard"
    assert built.stages[0].predict.signature.instructions == "Find it."
    assert len(built.draft.predict.demos) == 1
    space["p.stages[0].module"].value = "ChainOfThought"
    assert program.stages[0] is stage


def test_the_program_itself_becomes_another_module_and_comes_back() -> None:
    program = dspy.Predict("question -> answer", temperature=0.5)
    lm, before = scripted_lm({"answer": "x", "reasoning": "y"}), state(program)
    space, exposure = exposed(program)
    space.commit({"p.module": "ChainOfThought", "p.instructions": "Go.", "p.adapter": "json"})
    assert type(program) is dspy.ChainOfThought
    assert program.predict.signature.instructions == "Go."
    with dspy.context(lm=lm):
        assert program(question="q").reasoning == "y"
        assert exposure.build({"module": "Predict"})(question="q").answer == "x"
    space["p.temperature"].value = 0.25
    assert program.predict.config == {"temperature": 0.25}
    assert "JSON" in lm.engine.prompts[0].text
    exposure.restore()
    assert type(program) is dspy.Predict
    assert state(program) == before


def test_a_module_that_a_person_puts_in_is_followed_or_named() -> None:
    program = Nested()
    space, exposure = exposed(program)
    program.draft = dspy.ChainOfThought("question -> answer", temperature=1.25)
    program.again = program.draft
    changes = exposure.sync().changes
    assert (changes["p.draft.module"].value, changes["p.draft.temperature"].value) == ("ChainOfThought", 1.25)
    program.stages = [dspy.Predict("question -> fact"), *program.stages[1:]]
    changes = exposure.sync().changes
    assert changes["p.stages[0].module"].value == "Predict"
    assert "p.stages[0].predict.reasoning.desc" not in exposure.values
    assert exposure.sync() is None
    space["p.stages[0].module"].value = "ChainOfThought"
    assert list(program.stages[0].predict.signature.output_fields) == ["reasoning", "fact"]
    program.draft = Inner()
    with pytest.raises(VariableError, match=r"'draft.module' is not in the program any more.*Inner"):
        exposure.build({"k": 1})
    with pytest.raises(VariableError, match="not in the program any more"):
        exposure.sync()


# --- programs of their own --------------------------------------------------------------------------------------------


def test_build_gives_a_program_of_its_own() -> None:
    program = Nested()
    space, exposure = exposed(program)
    before = state(program)
    made = exposure.build({"p.draft.temperature": 0.125, "k": 1})
    assert (made.draft.config["temperature"], made.k, program.k) == (0.125, 1, 3)
    assert state(program) == before
    version = space.version
    space["p.k"].value = 8
    assert exposure.build(space.at(version)).k == 3
    assert exposure.build().k == 8
    assert not any(isinstance(c, Gate) for c in made.callbacks)
    with pytest.raises(VariableError, match=r"no knob 'draft.temp'.*Did you mean"):
        exposure.build({"draft.temp": 1})
    with pytest.raises(VariableError, match="cannot be 7"):
        exposure.build({"draft.temperature": 7})
    assert exposure.name("k") == "p.k"
    assert exposure.names[0] == "p.adapter"


def test_what_is_built_travels_without_the_exposure() -> None:
    program = Nested()
    _, exposure = exposed(program)
    there = travelled(exposure.build({"draft.instructions": "Go."}))
    assert there.draft.signature.instructions == "Go."
    assert travelled(program).callbacks == []
    assert copy.deepcopy(program).callbacks == []
    assert not travelled(Gate()).bound
