"""Checkpoints of steps that ask a model: other models, seeds and demonstrations are other work."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from checkpoint_helpers import C, Work, again

import dspex_lab as dx
from dspex_lab.pipelines.kinds import template
from dspex_lab.testing import scripted_lm


def lm_of(*answers: Any, name: str = "scripted/here", **options: Any) -> Any:
    return scripted_lm(list(answers), model=name, **options)


def test_an_answer_is_kept_with_what_dspy_adds_to_it(lab: dx.Lab, work: Work) -> None:
    lm = lab.use(lm_of({"reasoning": "because", "a": 3}))

    def end(a: int) -> int:
        work("end")
        return a

    whole = dx.pipeline("p", a=dspy.ChainOfThought("x: str -> a: int"), end=end)
    work.broken = {"end"}
    lab.run(whole, x="1", options=C)
    result = again(lab, work, whole, x="1")
    assert lm.engine.calls == 1
    assert result.steps["a"].outputs == {"reasoning": "because", "a": 3}
    assert result.tokens is None, "nothing was asked"


@pytest.mark.parametrize(
    "made", [lambda: dspy.Predict("x -> a"), lambda: dx.predict("x -> a"), lambda: template("{{ x }}", output="a")]
)
def test_another_model_or_seed_is_other_work(lab: dx.Lab, work: Work, made: Any) -> None:
    def end(a: str) -> str:
        work("end")
        return a

    whole = dx.pipeline("p", s=made(), end=end)
    answers = [{"a": "1"}] if "template" not in str(whole.steps["s"].target) else ["1"]

    def asks(lm: Any, options: dx.RunOptions = C) -> int:
        lab.use(lm)
        work.broken = {"end"}
        lab.run(whole, x="1", options=options)
        return int(lm.engine.calls)

    assert asks(lm_of(*answers)) == 1
    assert asks(lm_of(*answers)) == 0, "the same model, made again"
    assert asks(lm_of(*answers, name="scripted/there")) == 1
    assert asks(lm_of(*answers, name="scripted/there", temperature=0.9)) == 1
    seeded = dx.RunOptions(checkpoint="c", seed=7)
    assert asks(lm_of(*answers, name="scripted/there", temperature=0.9), seeded) >= 0
    lab.use(lm_of(*answers, name="scripted/there", temperature=0.9))
    assert lab.run(whole, x="1", options=seeded).steps["s"].implementation == "checkpoint"


def test_a_program_with_other_demonstrations_is_other_work(lab: dx.Lab, work: Work) -> None:
    lm = lab.use(lm_of({"a": "1"}))

    def end(a: str) -> str:
        work("end")
        return a

    whole = dx.pipeline("p", inner=dx.pipeline("i", a=dspy.Predict("x -> a")), end=end)
    program = whole.as_module(lab)
    for expected in (1, 1):
        work.broken = {"end"}
        lab.run(program, x="1", options=C)
        assert lm.engine.calls == expected
    program.inner.a.demos = [dspy.Example(x="0", a="0")]
    lab.run(program, x="1", options=C)
    assert lm.engine.calls == 2
