"""What a pipeline learned as a program is saved, loaded, copied, and taken back."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from as_module_helpers import examples, program, teams

import dspex_lab as dx
from dspex_lab.pipelines import _alone
from dspex_lab.testing import scripted_lm

__all__ = ["program", "teams"]

# --- save and load -----------------------------------------------------------------------------------------------


def learned(program: Any) -> Any:
    program.team.signature = program.team.signature.with_instructions("Find the team.")
    program.team.demos = [dspy.Example(text="refund my money", team="K2")]
    program.note.then.predict.demos = [dspy.Example(text="a", reasoning="b", note="c")]
    return program


def test_state_is_saved_as_json_and_loaded_into_a_fresh_program(teams: dx.Pipeline, program: Any, lab: dx.Lab) -> None:
    learned(program).save("state.json")
    assert set(json.loads(Path("state.json").read_text())) == {"team", "note.then.predict", "metadata"}
    fresh = teams.as_module(lab)
    fresh.load("state.json")
    assert fresh.team.signature.instructions == "Find the team."
    assert [d["team"] for d in fresh.team.demos] == ["K2"]
    assert [d["note"] for d in fresh.note.then.predict.demos] == ["c"]
    assert not teams.steps["team"].target.demos, "loading changes the program, not the pipeline"
    assert not teams.as_module(lab).team.demos


def test_a_step_that_was_optimized_before_is_saved_and_loaded_too(lab: dx.Lab) -> None:
    optimizer = dspy.BootstrapFewShot(metric=lambda *given: True, max_bootstrapped_demos=2, max_labeled_demos=0)
    with lab.context():
        made = optimizer.compile(dspy.ChainOfThought("text -> team"), trainset=examples(1))
    whole = dx.pipeline("p", team=made, b=dspy.Predict("team -> b"))
    program = whole.as_module(lab)
    assert [n for n, _ in program.named_predictors()] == ["b"], "DSPy leaves it as it is when it optimizes"
    program.save("state.json")
    again = dx.pipeline("p", team=dspy.ChainOfThought("text -> team"), b=dspy.Predict("team -> b")).as_module(lab)
    again.load("state.json")
    assert len(again.team.predict.demos) == 2
    program.load("state.json")
    assert program.team._compiled, "it is frozen as before"


def test_the_state_of_another_pipeline_is_refused_and_changes_nothing(program: Any, lab: dx.Lab) -> None:
    other = dx.pipeline("q", team=dspy.Predict("text -> team"), b=dspy.Predict("team -> b")).as_module(lab)
    learned(program).save("state.json")
    with pytest.raises(dx.PipelineError, match=r"not that of the pipeline 'q': it has 'note.then.predict', 'team'"):
        other.load("state.json")
    assert not other.team.demos


def test_a_whole_program_is_saved_and_loaded_in_another_process(program: Any, lab: dx.Lab) -> None:
    learned(program).save("whole", save_program=True)
    code = """
import dspy, dspex_lab as dx
from dspex_lab.testing import scripted_lm
program = dspy.load("whole", allow_pickle=True)
with dx.lab(":memory:") as lab:
    lab.use(scripted_lm({"team": "K2", "note": "n", "reasoning": "r"}))
    made = program(text=" x ")
    print(made.team, made.text, made.code, len(program.team.demos), [n for n, _ in program.named_predictors()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "K2 x k2 1 ['team', 'note.then.predict']", done.stderr[-2000:]


def test_copies_are_apart_and_run_in_the_same_lab(program: Any, lab: dx.Lab) -> None:
    lab.use(scripted_lm({"team": "K2", "note": "n", "reasoning": "r"}))
    learned(program)
    deep, reset, pythons = program.deepcopy(), program.reset_copy(), copy.deepcopy(program)
    assert deep.team.demos
    assert pythons.team.demos
    assert not reset.team.demos
    deep.team.demos = []
    assert program.team.demos
    for made in (deep, reset, pythons):
        assert made.team is not program.team
        assert made(text="x").team == "K2"
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == 3


# --- back into the pipeline --------------------------------------------------------------------------------------


def test_a_pipeline_takes_back_what_was_learned_and_operations_stay_operations(
    teams: dx.Pipeline, program: Any, lab: dx.Lab
) -> None:
    lab.use(scripted_lm({"team": "K2", "note": "n", "reasoning": "r"}))
    again = teams.with_modules(learned(program))
    assert again.steps["team"].target.demos
    then = again.steps["note"].target.then
    assert then.kind == "operation"
    assert [d["note"] for d in then.target.demos] == ["c"]
    assert lab.run(again, text="x")["note"] == "n"
    decided = lab.sql("SELECT operation FROM decisions")["operation"]
    assert list(decided) == [teams.steps["note"].target.then.target.key], "the router still chooses, under the same name"
    messages = lab.sql("SELECT messages::VARCHAR AS m FROM lm_calls WHERE step = 'note.then'")["m"][0]
    assert '"c"' in messages or "\\nc\\n" in messages, "with the demonstrations"
    assert [n for n, _ in again.as_module(lab).named_predictors()] == ["team", "note.then.predict"]


def test_of_several_first_runs_without_a_lab_at_once_one_makes_what_all_share(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    others: list[threading.Thread] = []

    class Shared:
        def __init__(self) -> None:
            made.append(threading.current_thread().name)
            if not others:
                others.append(threading.Thread(target=_alone._shared))
                others[0].start()
                others[0].join(0.5)  # it waits for this one, or makes its own at once

    monkeypatch.setattr(_alone, "_made", functools.cache(Shared))
    _alone._shared()
    others[0].join()
    assert len(made) == 1
