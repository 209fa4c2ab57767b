"""A pipeline as a DSPy program."""

from __future__ import annotations

import dspy
import pytest

import dspex_lab as dx
from dspex_lab.testing import scripted_lm

TEAMS = [("parcel lost in the post", "P7"), ("refund my money", "K2"), ("reset the password", "X9")] * 4


@pytest.fixture
def teams() -> dx.Pipeline:
    return dx.pipeline(
        "teams",
        text=dx.step(lambda text: text.strip(), replaces=True, outputs=["text"]),
        team=dspy.Predict("text -> team: Literal['P7', 'K2', 'X9']"),
        code=lambda team: team.lower(),
    )


def examples() -> list[dspy.Example]:
    return [dspy.Example(text=t, team=c).with_inputs("text") for t, c in TEAMS]


def test_its_predictors_are_those_of_the_steps(teams: dx.Pipeline, lab: dx.Lab) -> None:
    program = teams.as_module(lab)
    assert [n for n, _ in program.named_predictors()] == ["team"]
    prediction = program(text=" refund my money ")
    assert set(prediction.keys()) == {"text", "team", "code"}


def test_running_it_fills_the_trace_of_dspy(teams: dx.Pipeline, lab: dx.Lab) -> None:
    program = teams.as_module(lab)
    with dspy.context(trace=[]):
        program(text="refund my money")
        trace = dspy.settings.trace
    assert [t[0] for t in trace] == [program.team]


def test_bootstrap_few_shot_takes_it_and_the_pipeline_takes_the_result_back(teams: dx.Pipeline, lab: dx.Lab) -> None:
    optimizer = dspy.BootstrapFewShot(
        metric=lambda e, p, trace=None: e.team == p.team, max_bootstrapped_demos=1, max_labeled_demos=6
    )
    with lab.context():
        better = optimizer.compile(teams.as_module(lab), trainset=examples())
    assert better.team.demos
    assert not teams.steps["team"].target.demos, "the original must stay as it was"
    again = teams.with_modules(better)
    assert again.steps["team"].target is better.team
    assert lab.run(again, text="please refund my money")["team"] == "K2"
    assert lab.run(better, text="the parcel was lost in the post")["team"] == "P7"


def test_evaluate_scores_it(teams: dx.Pipeline, lab: dx.Lab) -> None:
    evaluate = dspy.Evaluate(devset=examples(), metric=lambda e, p: e.team == p.team, num_threads=2, display_progress=False)
    with lab.context():
        assert 0 <= evaluate(teams.as_module(lab)).score <= 100
    assert lab.sql("SELECT count(*) AS n FROM runs")["n"][0] == len(TEAMS)


def test_a_failed_step_raises_with_its_name(lab: dx.Lab) -> None:
    program = dx.pipeline("p", y=lambda x: 1 / x).as_module(lab)
    with pytest.raises(dx.PipelineError, match="step 'y' failed: ZeroDivisionError"):
        program(x=0)


def test_what_was_not_made_from_the_pipeline_is_refused(teams: dx.Pipeline) -> None:
    with pytest.raises(dx.PipelineError, match="is not made from the pipeline 'teams'"):
        teams.with_modules(dspy.Predict("a -> b"))


def test_it_runs_in_the_kernels_lab_where_none_was_given(teams: dx.Pipeline) -> None:
    with dx.lab(":memory:") as lab:
        lab.use(scripted_lm([{"team": "K2"}]))
        assert teams.as_module()(text="x").team == "K2"


def test_a_module_of_the_users_own_is_a_step(lab: dx.Lab) -> None:
    class Twice(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("question -> draft")
            self.second = dspy.Predict("draft -> answer")

        def forward(self, question: str) -> dspy.Prediction:
            return self.second(draft=self.first(question=question).draft)

    lab.use(scripted_lm([{"draft": "d"}, {"answer": "a"}]))
    result = lab.run(dx.pipeline("p", twice=Twice()), question="?")
    assert result.outputs == {"answer": "a"}
    assert list(lab.sql("SELECT step FROM lm_calls")["step"]) == ["twice", "twice"]
