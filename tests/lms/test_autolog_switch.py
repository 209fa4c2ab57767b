"""Recording is switched on and off, beside a Lab too, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
import pytest
from autolog_helpers import ANSWER, Log, Two, only
from dspy.clients.base_lm import BaseLM
from dspy.evaluate.evaluate import Evaluate
from dspy.primitives.module import Module

import dspex_lab as dx
from dspex_lab.lms import install
from dspex_lab.lms.plain import _autolog as module
from dspex_lab.lms.plain._autolog import autolog, is_autologging
from dspex_lab.testing import scripted_lm

# --- beside the Lab -------------------------------------------------------------------------------------------------


def test_inside_a_run_of_the_lab_nothing_is_recorded_twice() -> None:
    told = Log()

    def normalise(text: str) -> dict[str, str]:
        return {"question": dspy.Predict("text -> question")(text=text).question}

    with dx.Lab(":memory:") as lab:
        lab.bus.subscribe(told.append)
        off = autolog(lab.bus.emit, owner=lab.id)
        lab.use(scripted_lm({"question": "q", **ANSWER}))
        flow = dx.pipeline("flow", normalise=dx.step(normalise), reply=dspy.Predict("question -> answer"))
        result = lab.run(flow, text="t")
        off()
    assert result.status == "complete"
    assert [run.name for run in told.runs if run.kind == "run"] == ["flow"]
    assert len(told.calls) == 2
    assert {call.run_id for call in told.calls} == {result.run_id}


def test_a_run_of_the_lab_inside_a_plain_program_is_its_own() -> None:
    told = Log()
    with dx.Lab(":memory:") as lab:

        class Outer(dspy.Module):
            def forward(self) -> Any:
                dspy.Predict("question -> answer")(question="mine")
                return dspy.Prediction(answer=lab.predict("question -> answer", question="theirs").outputs["answer"])

        lab.bus.subscribe(told.append)
        lab.use(scripted_lm(ANSWER))
        off = autolog(lab.bus.emit, owner=lab.id)
        with lab.context():
            Outer()()
        off()
    runs = {run.name: run for run in told.runs}
    assert len(told.calls) == 2
    assert len([call for call in told.calls if call.run_id == runs["Outer"].run_id]) == 1


def test_the_store_keeps_them() -> None:
    with dx.Lab(":memory:") as lab:
        off = autolog(lab.bus.emit, owner=lab.id)
        with dspy.context(lm=scripted_lm(ANSWER)):
            Two()(question="q")
            dspy.settings.lm("bare")
        off()
        lab.store.flush()
        rows = lab.sql("SELECT kind, name, status, prompt_tokens FROM runs")
        assert rows.to_dict("records")[0] | {"prompt_tokens": 0} == {
            "kind": "run",
            "name": "Two",
            "status": "complete",
            "prompt_tokens": 0,
        }
        assert lab.sql("SELECT count(*) AS n FROM lm_calls")["n"][0] == 3
        assert lab.sql("SELECT count(*) AS n FROM lm_calls WHERE run_id IS NULL")["n"][0] == 1


# --- on and off -----------------------------------------------------------------------------------------------------


def methods() -> list[Any]:
    return [Module.__call__, Module.acall, BaseLM.__call__, BaseLM.acall, Evaluate.__call__]


def test_off_leaves_nothing_behind() -> None:
    install()
    before = methods()
    told = Log()
    off = autolog(told.append, owner="a")
    assert is_autologging("a")
    assert all(now is not then for now, then in zip(methods(), before, strict=True))
    assert [m.__name__ for m in methods()] == ["__call__", "acall", "__call__", "acall", "__call__"]
    off()
    off()
    assert not is_autologging("a")
    assert methods() == before
    assert module._wrapped == {}
    with dspy.context(lm=scripted_lm(ANSWER)):
        Two()(question="q")
    assert told == []


def test_who_switched_it_on_may_switch_it_off_by_name() -> None:
    before = methods()
    told = Log()
    autolog(told.append, owner="a")
    module.autolog_off("somebody else")
    assert is_autologging("a")
    module.autolog_off("a")
    module.autolog_off("a")
    assert not is_autologging("a")
    assert methods() == before


def test_two_may_be_told_and_each_is_told_once() -> None:
    first, second, again = Log(), Log(), Log()
    before = methods()
    off_first, off_second = autolog(first.append, owner="a"), autolog(second.append, owner="b")
    off_again = autolog(again.append, owner="a")  # takes the place of the first
    with dspy.context(lm=scripted_lm(ANSWER)):
        Two()(question="q")
        off_first()
        off_again()
        Two()(question="q")
    off_second()
    assert (len(first.runs), len(again.runs), len(second.runs)) == (0, 1, 2)
    assert len(second.calls) == 4
    assert methods() == before


def test_somebody_elses_wrapping_on_top_stays_and_ours_lies_still(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Module.__call__
    told = Log()
    off = autolog(told.append, owner="a")
    ours = Module.__call__
    seen: list[str] = []

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(type(self).__name__)
        return ours(self, *args, **kwargs)

    Module.__call__ = theirs
    try:
        off()
        assert Module.__call__ is theirs
        with dspy.context(lm=scripted_lm(ANSWER)):
            dspy.Predict("question -> answer")(question="q")
            assert told == []
            off = autolog(told.append, owner="a")  # ours is there still, and is not put there again
            dspy.Predict("question -> answer")(question="q")
        assert len(told.runs) == 1
        assert seen == ["Predict", "Predict"]
    finally:
        Module.__call__ = ours
        off()
    assert Module.__call__ is before


def test_a_block_can_be_left_out(log: Log) -> None:
    with dspy.context(dspex_autolog=False):
        Two()(question="q")
        dspy.settings.lm("hello")
    assert log == []
    with dspy.context(dspex_autolog=False), dspy.context(dspex_autolog=True):
        Two()(question="q")
    assert len(log.runs) == 1


def test_settings_of_the_user_win_and_are_left_as_they_were(log: Log) -> None:
    other = scripted_lm({"answer": "other", "reasoning": "r"})
    seen: list[Any] = []

    class Chooser(dspy.Module):
        def forward(self) -> Any:
            with dspy.context(lm=other, adapter=dspy.JSONAdapter()):
                seen.append(dspy.settings.adapter)
                inner = dspy.Predict("question -> answer")(question="q")
            seen.append(dspy.settings.lm)
            return inner

    lm = dspy.settings.lm
    keys = set(dspy.settings.config)
    assert Chooser()().answer == "other"
    assert isinstance(seen[0], dspy.JSONAdapter)
    assert seen[1] is lm
    assert only(log).lm == other.model
    assert set(dspy.settings.config) == keys


def test_a_program_that_is_off_in_the_middle_of_a_run_ends_it(log: Log) -> None:
    offs: list[Callable[[], None]] = []

    class Switch(dspy.Module):
        def forward(self) -> Any:
            offs[0]()
            return dspy.Predict("question -> answer")(question="q")

    told = Log()
    offs.append(autolog(told.append, owner="other"))
    Switch()()
    assert [run.status for run in told.runs] == ["complete"]
    assert len(told.calls) == 1


def test_terms_are_those_of_who_asked() -> None:
    from dspex_lab.lms import Terms

    told = Log()
    lm = scripted_lm(ANSWER, cache=True)
    off = autolog(told.append, owner="a", terms=Terms(fresh=True))
    try:
        lm("the same")
        lm("the same")
        with dspy.context(lm=lm):
            dspy.Predict("question -> answer")(question="the same")
            dspy.Predict("question -> answer")(question="the same")
    finally:
        off()
    assert [call.cache_hit for call in told.calls] == [False] * 4
    assert lm.engine.calls == 4
