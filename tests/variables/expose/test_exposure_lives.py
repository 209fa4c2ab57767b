"""Programs put back as they were, exposures that end, and values that outlive them."""

from __future__ import annotations

import gc
import weakref

import dspy
import pytest
from expose_programs import MAKERS, Inner, Nested, another, examples, exposed, make, state

from dspex_lab.errors import LeaseError, VariableError
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import Author, MemoryJournal, Space
from dspex_lab.variables.expose._gate import Gate

# --- restoring ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_whatever_was_turned_the_program_comes_back_exactly(name: str) -> None:
    program = make(name)
    hooks = getattr(program, "callbacks", None)
    before = state(program)
    space, exposure = exposed(program)
    values = {f"p.{k.path}": another(k, program) for k in exposure.knobs if not k.path.endswith("module_src")}
    values = {n: v for n, v in values.items() if v is not None}
    space.unpin(*values)
    space.commit(values)
    turned = {n: v for n, v in exposure.values.items() if n in values}
    other = ("M", ".prefix", ".desc", "react.instructions")  # fields that are not there now, and a list without the tools
    assert all(space[n].domain.equal(turned[n], space[n].value) for n in turned if not n.endswith(other))
    exposure.restore()
    assert state(program) == before
    assert exposure.sync() is None
    exposure.close()
    assert getattr(program, "callbacks", None) == hooks


def test_what_was_done_in_place_is_undone_too() -> None:
    program = Nested()
    program.draft.demos = examples()
    program.draft._compiled = True
    before = state(program)
    space, exposure = exposed(program)
    program.draft.demos.pop()
    program.draft.config["temperature"] = 0.1
    program.draft.signature.instructions = "Spoilt."
    program.draft.signature.fields["answer"].json_schema_extra["desc"] = "spoilt"
    program.draft._compiled = False
    program.stages.append(dspy.Predict("a -> b"))
    program.routes["new"] = Inner()
    program.calls = 17
    exposure.restore()
    assert state(program) == before
    assert program.calls == 17  # what it lived through stays
    record = space.history("p.draft.temperature")[0]
    assert record.parent == 0 or record.value == 0.5


def test_a_program_is_not_put_back_under_a_run_or_a_lease() -> None:
    program = Nested()
    space, exposure = exposed(program)
    space["p.k"].value = 4
    with exposure.running(), pytest.raises(VariableError, match="while a call of it is under way"):
        exposure.restore()
    with space.lease("p.k", owner="gepa"), pytest.raises(LeaseError, match="gepa"):
        exposure.restore()
    assert program.k == 4
    exposure.restore()
    assert program.k == 3
    assert space.history("p.k")[0].why == "put back as it was when it was exposed"


# --- lives ----------------------------------------------------------------------------------------------------------------


def test_a_pipeline_as_a_module_is_a_program_like_any_other() -> None:
    import dspex_lab as dx

    with dx.Lab(":memory:") as lab:
        program = dx.pipeline("p", a=dx.predict("question -> answer"), b=dspy.Predict("answer -> more")).as_module(lab)
        before = state(program)
        space, exposure = exposed(program)
        space.commit({"p.a.module": "ChainOfThought", "p.b.instructions": "More."})
        with dspy.context(lm=scripted_lm({"answer": "x", "more": "y", "reasoning": "z"})):
            assert program(question="q").more == "y"
            assert exposure.build({"b.module": "ChainOfThought"})(question="q").more == "y"
        exposure.restore()
        assert state(program) == before


def test_an_exposed_program_can_be_garbage() -> None:
    program = Nested()
    space, exposure = exposed(program)
    gone = weakref.ref(program)
    del program
    gc.collect()
    assert gone() is None
    space["p.k"].value = 4  # nobody is hurt
    assert "gone" in repr(exposure)
    with pytest.raises(VariableError, match="The Nested that was exposed is gone"):
        exposure.build()
    exposure.close()
    known = weakref.ref(exposure)
    del exposure
    gc.collect()
    assert known() is None
    assert len(space._observers) == 0
    program = Nested()
    exposed(program, space=space)  # the names are free again
    assert program.k == 4


def test_the_exposure_lives_as_long_as_its_program() -> None:
    program = Nested()
    space, _ = exposed(program)
    gc.collect()
    space["p.k"].value = 4
    assert program.k == 4


def test_a_program_can_be_exposed_twice_under_two_names() -> None:
    program = Nested()
    space, one = exposed(program, "a")
    _, two = exposed(program, "b", space)
    space["a.k"].value = 5
    assert program.k == 5
    two.sync()
    assert space["b.k"].value == 5
    with pytest.raises(VariableError, match=r"'a\.adapter' belongs to a program that is exposed already"):
        exposed(Nested(), "a", space)
    one.close()
    one.close()
    assert sum(isinstance(c, Gate) for c in program.callbacks) == 1
    space["a.k"].value = 6
    assert program.k == 5
    with pytest.raises(VariableError, match="closed"):
        one.pull()
    with pytest.raises(VariableError, match="closed"):
        one.push()
    assert one.sync() is None
    with two:
        assert "variables" in repr(two)
    assert "closed" in repr(two)
    assert program.callbacks == []


def test_values_come_back_after_a_restart_unless_the_code_has_changed() -> None:
    journal = MemoryJournal()
    program = Nested()
    space, _ = exposed(program, space=Space(journal=journal))
    space.commit({"p.k": 9, "p.draft.instructions": "Learned."}, author=Author("optimizer", score=0.9))
    space.unpin("p.draft.answer.prefix")
    again, later = Space(journal=journal), Nested()
    _, exposure = exposed(later, space=again)
    assert (later.k, later.draft.signature.instructions) == (9, "Learned.")
    assert not again["p.draft.answer.prefix"].pinned
    assert exposure.sync() is None
    third, changed = Space(journal=journal), Nested(k=5)
    exposed(changed, space=third)
    assert (changed.k, third["p.k"].value) == (5, 5)
    assert changed.draft.signature.instructions == "Learned."
    assert "has changed since" in third.history("p.k")[0].why
    exposure.restore()
    assert later.k == 3


def test_without_a_prefix_names_are_paths() -> None:
    program = dspy.Predict("q -> a")
    space, exposure = exposed(program, "")
    space["temperature"].value = 0.5
    assert program.config == {"temperature": 0.5}
    assert exposure.name("temperature") == "temperature"


def test_other_hooks_of_a_program_stay() -> None:
    hook = dspy.utils.callback.BaseCallback() if hasattr(dspy, "utils") else object()
    hooks = [hook]
    program = dspy.Predict("q -> a", callbacks=hooks)
    _, exposure = exposed(program)
    assert hooks == [hook]
    late = object()
    program.callbacks.append(late)
    exposure.close()
    assert program.callbacks == [hook, late]
