"""Metrics as DSPy calls them, and as steps of a pipeline."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_type_hints

import cloudpickle
import dspy
import pydantic
import pytest
from dspy.evaluate.metrics import answer_exact_match

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.lms import LMJudge, embed_text, make_lm
from dspex_lab.native.metrics import Judged, Metric, SemanticSimilarity, Verdict, all_of, any_of, combine, metric
from dspex_lab.testing import scripted_lm

PAIRS = [("Capital of France?", "Paris"), ("Capital of Italy?", "Rome"), ("How many legs has a spider?", "8")]
GOLD = [dspy.Example(question=q, answer=a).with_inputs("question") for q, a in PAIRS]


class Always:
    """A judge that gives full marks."""

    def __call__(self, **asked: Any) -> Verdict:
        return Verdict(1.0, "fine")


ALL: list[Metric] = [
    metric("exact_match"),
    metric("normalised_match"),
    metric("f1"),
    metric("contains"),
    metric("numeric"),
    metric("rouge_l"),
    metric("rouge_1"),
    metric("rouge_2"),
    metric("json_match"),
    metric("field_match"),
    SemanticSimilarity(embed=embed_text),
    Judged(judge=Always()),
    metric(lambda prediction, reference: prediction == reference, label="function"),
    combine({"f1": 0.7, "contains": 0.3}),
    all_of("f1", "contains"),
    any_of("f1", "contains"),
]
each = pytest.mark.parametrize("made", ALL, ids=lambda m: m.name)


def knows(prompt: Any) -> dict[str, Any]:
    return {"reasoning": "I know.", "answer": dict(PAIRS)[prompt.question["question"]]}


# --- Evaluate, BootstrapFewShot, GEPA -----------------------------------------------------------------------------


@each
def test_evaluate_takes_it(made: Metric) -> None:
    evaluate = dspy.Evaluate(devset=GOLD, metric=made, num_threads=2)
    with dspy.context(lm=scripted_lm(knows)):
        assert evaluate(dspy.ChainOfThought("question -> answer")).score == 100
    with dspy.context(lm=scripted_lm({"answer": "wrong, blue"})):
        wrong = evaluate(dspy.Predict("question -> answer"))
    assert made.name == "judge" or wrong.score < 40


def test_evaluate_on_the_offline_engine() -> None:
    with dspy.context(lm=make_lm("offline")):
        result = dspy.Evaluate(devset=GOLD, metric=metric("f1"))(dspy.Predict("question -> answer"))
    assert 0 <= result.score <= 100
    assert len(result.results) == 3


def test_the_judge_in_evaluate_asks_a_model() -> None:
    judge = scripted_lm({"reason": "half right", "grade": 3})
    with dspy.context(lm=scripted_lm(knows)):
        result = dspy.Evaluate(devset=GOLD, metric=Judged(judge=LMJudge(judge)))(dspy.Predict("question -> answer"))
    assert result.score == 50
    assert judge.engine.calls == 3


@each
def test_bootstrap_few_shot_keeps_what_passes(made: Metric) -> None:
    def script(prompt: Any) -> dict[str, Any]:
        answer = dict(PAIRS)[prompt.question["question"]]
        return {"answer": answer if answer != "Rome" else "blue cheese"}

    with dspy.context(lm=scripted_lm(script)):
        optimizer = dspy.BootstrapFewShot(metric=made, max_labeled_demos=0, max_bootstrapped_demos=3)
        program = optimizer.compile(dspy.Predict("question -> answer"), trainset=GOLD)
    kept = [demo.answer for demo in program.demos]
    assert kept == (["Paris", "blue cheese", "8"] if made.name == "judge" else ["Paris", "8"])


@each
def test_gepa_accepts_it_and_gets_feedback(made: Metric) -> None:
    dspy.GEPA(metric=made, max_metric_calls=1, reflection_lm=scripted_lm("x"))  # refuses what takes no five arguments
    wrong = made(GOLD[0], dspy.Prediction(answer="blue"), [], "predict", [("predictor", {}, {})])
    assert isinstance(wrong, dspy.Prediction)
    assert wrong.score == made(GOLD[0], dspy.Prediction(answer="blue"))
    assert wrong.feedback.startswith(f"{made.name} {wrong.score:.2f}: ")
    # GEPA also calls it with Nones by name where a program holds dspy.Flex.
    assert made(GOLD[0], dspy.Prediction(answer="Paris"), trace=None, pred_name=None, pred_trace=None).score == 1


def test_gepa_reflects_on_the_feedback_and_climbs() -> None:
    shown: list[str] = []

    def script(prompt: Any) -> dict[str, Any]:
        if [field.name for field in prompt.task.outputs] == ["new_instruction"]:
            shown.append(prompt.text)
            return {"new_instruction": "Answer in one word."}
        return {"answer": "Paris" if "one word" in prompt.task.instructions else "blue"}

    with dspy.context(lm=scripted_lm(script)):
        gepa = dspy.GEPA(metric=metric("f1"), max_metric_calls=8, reflection_lm=scripted_lm(script), num_threads=1)
        program = gepa.compile(dspy.Predict("question -> answer"), trainset=GOLD[:1], valset=GOLD[:1])
    assert program.signature.instructions == "Answer in one word."
    assert "f1 0.00: 0 of the reference's 1 words are there, in an answer of 1. Missing: 'paris'." in shown[0]


@each
def test_a_trace_makes_it_say_whether_it_passes(made: Metric) -> None:
    assert made(GOLD[0], dspy.Prediction(answer="Paris"), []) is True
    assert made(GOLD[0], dspy.Prediction(answer="blue"), []) is (made.name == "judge")
    assert type(made(GOLD[0], dspy.Prediction(answer="Paris"), None)) is float


@each
def test_a_program_that_failed_scores_0(made: Metric) -> None:
    assert made(GOLD[0], None) == 0
    assert "program failed" in made(GOLD[0], None, None, "predict", None).feedback


def test_a_match_agrees_with_dspys_own() -> None:
    for said in ("Paris", "paris!", "the Paris", "Rome", ""):
        made = dspy.Prediction(answer=said)
        assert bool(metric("normalised_match")(GOLD[0], made)) == answer_exact_match(GOLD[0], made)
        assert (metric("f1")(GOLD[0], made) >= 0.5) == answer_exact_match(GOLD[0], made, frac=0.5)


# --- which field --------------------------------------------------------------------------------------------------


def test_the_only_field_that_both_have_is_found() -> None:
    made = dspy.Prediction(reasoning="…", answer="Paris")
    assert metric("f1")(GOLD[0], made) == 1
    assert metric("f1")(dspy.Example(question="?", answer="Paris", reasoning="…").with_inputs("question"), made) == 1
    assert metric("f1")({"question": "?", "answer": "Paris"}, {"answer": "Paris"}) == 1
    assert metric("f1")(dspy.Example(question="?", answer="Paris"), made) == 1  # inputs not named
    assert metric("f1")({"answer": ["London", "Paris"]}, made) == 1


def test_several_common_fields_are_an_error_that_names_them() -> None:
    gold = dspy.Example(q="?", name="Ann", age=3).with_inputs("q")
    with pytest.raises(ConfigurationError, match=r"share 'name', 'age'\. Say which: field='name'\."):
        metric("f1")(gold, dspy.Prediction(name="Ann", age=3))
    assert metric("f1", field="name")(gold, dspy.Prediction(name="Ann", age=4)) == 1


def test_no_common_field_is_an_error_that_names_all() -> None:
    gold = dspy.Example(q="?", gold="Paris").with_inputs("q")
    with pytest.raises(ConfigurationError, match=r"has 'answer' and the example 'gold'\. Say which: field='answer', ref"):
        metric("f1")(gold, dspy.Prediction(answer="Paris"))
    assert metric("f1", field="answer", reference="gold")(gold, dspy.Prediction(answer="Paris")) == 1
    assert metric("f1", reference="gold")(gold, dspy.Prediction(reasoning="…", answer="Paris")) == 1
    with pytest.raises(ConfigurationError, match="has no fields and the example 'gold'"):
        metric("f1")(gold, dspy.Prediction())


def test_a_slip_of_the_pen_is_told() -> None:
    made = dspy.Prediction(answer="Paris")
    with pytest.raises(ConfigurationError, match=r"prediction has no field 'anwser'; it has 'answer'. Did you mean 'answer'\?"):
        metric("f1", field="anwser")(GOLD[0], made)
    with pytest.raises(ConfigurationError, match=r"example has no field 'gold'; it has 'question', 'answer'"):
        metric("f1", field="answer", reference="gold")(GOLD[0], made)


def test_an_input_may_be_named_as_the_reference() -> None:
    gold = dspy.Example(text="Paris").with_inputs("text")
    assert metric("f1", field="copy", reference="text")(gold, dspy.Prediction(copy="Paris")) == 1


def test_a_program_may_return_a_bare_value() -> None:
    assert metric("f1")(GOLD[0], "Paris") == 1
    assert metric("numeric", reference="answer")(GOLD[2], 8) == 1
    with pytest.raises(ConfigurationError, match="which field of the example is the reference: it has 'a', 'b'"):
        metric("f1")({"a": 1, "b": 2}, "Paris")


def test_models_and_dataclasses_have_fields_too() -> None:
    class Said(pydantic.BaseModel):
        answer: str

    @dataclasses.dataclass
    class Known:
        question: str
        answer: str

    assert metric("f1")(Known("?", "Paris"), Said(answer="Paris")) == 1


@pytest.mark.parametrize("example", [None, "Paris", 3, Always])
def test_an_example_without_fields_is_an_error(example: Any) -> None:
    with pytest.raises(ConfigurationError, match="this example is"):
        metric("f1")(example, dspy.Prediction(answer="Paris"))


# --- as a step ----------------------------------------------------------------------------------------------------


@each
def test_as_a_function_it_has_exactly_the_named_parameters(made: Metric) -> None:
    function = made.as_function(prediction="answer", reference="gold", name="grade")
    assert str(inspect.signature(function)) == "(answer: Any, gold: Any) -> float"
    assert get_type_hints(function) == {"answer": Any, "gold": Any, "return": float}
    assert function.__name__ == "grade"
    assert inspect.isfunction(function)
    assert function(answer="Paris", gold="Paris") == function("Paris", "Paris") == 1.0
    for wrong in ({"answer": "x"}, {"answer": "x", "gold": "y", "more": 1}):
        with pytest.raises(TypeError):
            function(**wrong)


@each
def test_as_a_function_it_travels(made: Metric) -> None:
    function = cloudpickle.loads(cloudpickle.dumps(made.as_function("answer", "gold")))
    assert str(inspect.signature(function)) == "(answer: Any, gold: Any) -> float"
    assert function(answer="Paris", gold="Paris") == 1
    assert cloudpickle.loads(cloudpickle.dumps(made)).score("Paris", "Paris") == 1


def test_names_of_fields_are_checked() -> None:
    for wrong in (("a b", "gold"), ("a", "a"), ("class", "gold"), ("", "gold"), (None, "gold"), ("a", 3)):
        with pytest.raises(ConfigurationError, match="cannot name a field"):
            metric("f1").as_function(*wrong)
    with pytest.raises(ConfigurationError, match="'f1' needs a reference"):
        metric("f1").as_function("answer", None)
    assert combine({"f1": 1}).as_function().__name__ == "combine"
    assert metric(lambda p, r: 1.0, label="my own!").as_function().__name__ == "my_own"
    assert metric(lambda p, r: 1.0, label="!").as_function().__name__ == "score"


def test_a_pipeline_takes_it_as_a_step() -> None:
    def answer(question: str) -> str:
        return "in Paris, France"

    pipeline = dx.pipeline("graded", answer=answer, f1=metric("f1").as_function("answer", "gold", name="f1"))
    assert set(pipeline.inputs) == {"question", "gold"}
    with dx.Lab(":memory:") as lab:
        result = lab.run(pipeline, question="?", gold="Paris")
    assert result.status == "complete"
    assert result.outputs["f1"] == 0.5
