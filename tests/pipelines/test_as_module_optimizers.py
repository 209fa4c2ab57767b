"""Every optimizer of DSPy takes a pipeline, and learns from its steps."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import dspy
import numpy as np
import pytest
from as_module_helpers import MORE, TEAMS, examples, program, right, teams
from dspy import teleprompt
from dspy.utils.exceptions import AdapterParseError

import dspex_lab as dx
from dspex_lab.pipelines import each, when
from dspex_lab.testing import scripted_lm

__all__ = ["program", "teams"]


def with_feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> dspy.Prediction:
    return dspy.Prediction(score=float(gold.team == pred.team), feedback=f"The right team is {gold.team}.")


def score(program: Any) -> float:
    evaluate = dspy.Evaluate(devset=examples(1), metric=right, num_threads=2, display_progress=False)
    return float(evaluate(program).score)


# --- every optimizer ---------------------------------------------------------------------------------------------

Optimize = Callable[[Any, Any], Any]


def knn(program: Any, lm: Any) -> Any:
    def embed(texts: list[str]) -> Any:
        words = sorted({w for t, _ in TEAMS + MORE for w in t.split()})
        return np.array([[float(w in t.split()) for w in words] for t in texts], dtype=np.float32)

    trained = [e.with_inputs("text") for e in examples(1)]
    return teleprompt.KNNFewShot(k=2, trainset=trained, vectorizer=dspy.Embedder(embed), metric=right).compile(program)


def better_together(program: Any, lm: Any) -> Any:
    program.set_lm(lm)
    steps = {"p": teleprompt.LabeledFewShot(k=4), "q": teleprompt.BootstrapFewShot(metric=right)}
    optimizer = teleprompt.BetterTogether(metric=right, **steps)
    return optimizer.compile(program, trainset=examples(1), valset=examples(1)[:2], strategy="p -> q")


OPTIMIZERS: dict[str, Optimize] = {
    "LabeledFewShot": lambda p, lm: teleprompt.LabeledFewShot(k=6).compile(p, trainset=examples()),
    "BootstrapFewShot": lambda p, lm: teleprompt.BootstrapFewShot(
        metric=right, max_bootstrapped_demos=2, max_labeled_demos=6
    ).compile(p, trainset=examples()),
    "BootstrapFewShotWithRandomSearch": lambda p, lm: teleprompt.BootstrapFewShotWithRandomSearch(
        metric=right, num_candidate_programs=1, max_bootstrapped_demos=1, max_labeled_demos=6, num_threads=2
    ).compile(p, trainset=examples(), valset=examples(1)),
    "BootstrapFewShotWithOptuna": lambda p, lm: teleprompt.BootstrapFewShotWithOptuna(
        metric=right, num_candidate_programs=2, max_bootstrapped_demos=2, num_threads=2
    ).compile(p, max_demos=4, trainset=examples(1), valset=examples(1)),
    "KNNFewShot": knn,
    "COPRO": lambda p, lm: teleprompt.COPRO(metric=right, breadth=2, depth=1, prompt_model=lm).compile(
        p, trainset=examples(1), eval_kwargs={"num_threads": 1, "display_progress": False}
    ),
    "MIPROv2": lambda p, lm: teleprompt.MIPROv2(
        metric=right, auto=None, num_candidates=2, prompt_model=lm, task_model=lm, seed=9
    ).compile(
        p,
        trainset=examples(1),
        valset=examples(1),
        num_trials=3,
        max_bootstrapped_demos=1,
        max_labeled_demos=4,
        minibatch=False,
    ),
    "SIMBA": lambda p, lm: teleprompt.SIMBA(
        metric=right, bsize=4, num_candidates=2, max_steps=1, max_demos=2, prompt_model=lm, num_threads=2
    ).compile(p, trainset=examples()),
    "GEPA": lambda p, lm: teleprompt.GEPA(
        metric=with_feedback, max_metric_calls=30, reflection_lm=lm, num_threads=1, track_stats=True
    ).compile(p, trainset=examples(1), valset=examples(1)),
    "InferRules": lambda p, lm: teleprompt.InferRules(
        metric=right, num_candidates=1, num_rules=2, num_threads=2, max_bootstrapped_demos=1
    ).compile(p, trainset=examples(1), valset=examples(1)),
    "BetterTogether": better_together,
    "Ensemble": lambda p, lm: teleprompt.Ensemble(reduce_fn=dspy.majority).compile([p, p.deepcopy(), p.reset_copy()]),
}

#: Those that cannot work here, with any program at all.
OTHERS = {
    "AvatarOptimizer": "needs dspy.TypedPredictor, which DSPy 3.4 no longer has",
    "BootstrapFinetune": "ends in a provider's fine-tuning; tried below up to that call",
    "Teleprompter": "the base class",
}


def test_every_optimizer_of_dspy_is_tried_or_named() -> None:
    classes = {n for n, c in inspect.getmembers(teleprompt, inspect.isclass)}
    assert classes == OPTIMIZERS.keys() | OTHERS.keys()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_it_whole(name: str, teams: dx.Pipeline, program: Any, lab: dx.Lab) -> None:
    with lab.context() as lm:
        before = score(program)
        better = OPTIMIZERS[name](program, lm)
        after = score(better)
        prediction = better(text=" refund my money ")
    assert {"text", "team", "note", "code"} <= set(prediction.keys())
    assert prediction.text == "refund my money", "the native step ran"
    if name != "BootstrapFewShotWithOptuna":  # which tries two at random
        assert after >= before, f"{name}: {before} became {after}"
    assert not teams.steps["team"].target.demos, "the pipeline itself stays as it was"
    calls = lab.sql("SELECT DISTINCT step FROM lm_calls WHERE step IS NOT NULL")["step"]
    assert "team" in set(calls), "the calls are recorded with their step"


@pytest.mark.parametrize("name", ["LabeledFewShot", "BootstrapFewShot", "BootstrapFewShotWithRandomSearch", "MIPROv2"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_demonstrations_reach_the_predictors_and_raise_the_score(name: str, program: Any, lab: dx.Lab) -> None:
    with lab.context() as lm:
        before, better = score(program), OPTIMIZERS[name](program, lm)
        assert better.team.demos or better.team.signature.instructions != program.team.signature.instructions
        assert score(better) > before


def test_gepa_learns_from_the_traces_of_the_steps(teams: dx.Pipeline, program: Any, lab: dx.Lab) -> None:
    """The model knows the teams only from the instructions, and these only GEPA can give it."""
    rule = "Send parcels to P7, money to K2 and passwords to X9."
    reflected: list[str] = []

    def answer(prompt: Any) -> dict[str, Any]:
        text = prompt.question.get("text", "")
        known = next((c for word, c in (("parcel", "P7"), ("money", "K2"), ("password", "X9")) if word in text), "K2")
        return {"team": known if rule in prompt.task.instructions else "K2", "note": "n", "reasoning": "r"}

    def reflect(prompt: Any) -> dict[str, Any]:
        reflected.append(str(prompt.question))
        return {"new_instruction": rule}

    seen: set[str | None] = set()

    def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> dspy.Prediction:
        seen.add(pred_name)
        return with_feedback(gold, pred)

    lab.use(scripted_lm(answer))
    optimizer = dspy.GEPA(metric=metric, max_metric_calls=60, reflection_lm=scripted_lm(reflect), num_threads=1)
    with lab.context():
        before = score(program)
        better = optimizer.compile(program, trainset=examples(1), valset=examples(1))
        assert (before, score(better)) == (pytest.approx(33.33), 100.0)
    assert better.team.signature.instructions == rule
    assert "team" in seen, "the metric is asked about the step's predictor"
    assert all("The right team is" in text and "Generated Outputs" in text for text in reflected)
    assert reflected
    assert lab.run(teams.with_modules(better), text="the parcel")["team"] == "P7"
    assert lab.run(better, text="the parcel").name == "teams"


def test_finetuning_gets_the_data_of_all_predictors(program: Any, lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Job:
        thread = threading.Thread(target=lambda: None)

        def result(self) -> Any:
            return tuned

    given: dict[str, Any] = {}
    lm, tuned = scripted_lm({"team": "K2", "note": "n", "reasoning": "r"}), scripted_lm({"team": "X9"}, model="scripted/tuned")

    def finetune(**how: Any) -> Job:
        given.update(how)
        Job.thread.start()
        return Job()

    monkeypatch.setattr(type(lm), "finetune", lambda self, **how: finetune(**how))
    monkeypatch.setattr(type(lm), "kill", lambda self, *a, **how: None)
    program.set_lm(lm)
    optimizer = teleprompt.BootstrapFinetune(metric=right, num_threads=1)
    with dspy.context(experimental=True):
        better = optimizer.compile(program, trainset=examples(1))
    messages = [row["messages"][-1]["content"] for row in given["train_data"]]
    assert len([m for m in messages if "K2" in m]) == 2, "the two right answers of the step 'team'"
    assert any("note" in m for m in messages), "and those of the operation in the branch"
    assert better.get_lm() is tuned


def test_what_dspy_cannot_make_itself_is_not_ours() -> None:
    with pytest.raises(AttributeError, match="TypedPredictor"):
        teleprompt.AvatarOptimizer(metric=right, max_iters=1)


# --- what optimizers learn from ----------------------------------------------------------------------------------


def test_an_answer_that_cannot_be_read_raises_what_optimizers_know(program: Any, lab: dx.Lab) -> None:
    lab.use(scripted_lm("no such form"))
    with lab.context(), pytest.raises(AdapterParseError) as caught:
        program(text="x")
    assert caught.value.signature.output_fields.keys() == {"team"}
    inner = dx.pipeline("outer", whole=dx.pipeline("inner", b=dspy.Predict("a -> b: int"))).as_module(lab)
    with lab.context(), pytest.raises(AdapterParseError):
        inner(a="x")


def test_a_failed_answer_is_in_the_trace_as_such(program: Any, lab: dx.Lab) -> None:
    lab.use(scripted_lm("no such form"))
    with lab.context():
        data = teleprompt.bootstrap_trace.bootstrap_trace_data(
            program, examples(1)[:2], metric=right, num_threads=1, raise_on_error=False, capture_failed_parses=True
        )
    assert len(data) == 2
    assert all(type(d["trace"][-1][2]).__name__ == "FailedPrediction" for d in data)
    assert not program.replaced, "DSPy has put the program's own forward() back"
    assert lab.run(program, text="x").name == "teams"


def test_the_trace_has_the_predictors_of_all_steps_in_order(lab: dx.Lab) -> None:
    lab.use(scripted_lm({"team": "K2", "note": "n", "reasoning": "r", "s": "s", "b": "b"}))
    whole = dx.pipeline(
        "p",
        one=dspy.Predict("text -> team"),
        two=when("team == 'K2'", dx.chain_of_thought("team -> note")),
        three=dx.pipeline("inner", b=dspy.Predict("note -> b")),
        many=each("xs", dspy.Predict("x -> s")),
    )
    program = whole.as_module(lab)
    assert [n for n, _ in program.named_predictors()] == ["one", "two.then.predict", "three.b", "many.item"]
    with lab.context(), dspy.context(trace=[]):
        program(text="t", xs=["1", "2"])
        trace = dspy.settings.trace
    names = {id(p): n for n, p in program.named_predictors()}
    assert sorted(names[id(t[0])] for t in trace) == ["many.item", "many.item", "one", "three.b", "two.then.predict"]


def test_what_another_forward_was_put_around_is_not_taken_apart(teams: dx.Pipeline, program: Any, lab: dx.Lab) -> None:
    with lab.context() as lm:
        better = knn(program, lm)
        assert better.replaced
        with pytest.raises(dx.PipelineError, match=r"put another forward\(\) around the steps"):
            teams.with_modules(better)
        result = lab.run(better, text="refund my money")
    assert result["team"] == "K2"


# --- on a pool ---------------------------------------------------------------------------------------------------


def test_an_optimizer_learns_from_a_step_on_a_pool(lab: dx.Lab) -> None:
    whole = dx.pipeline("p", team=dx.step(dspy.Predict("text -> team: Literal['P7', 'K2', 'X9']"), pool="general"))
    program = whole.as_module(lab)
    with lab.context():
        optimizer = dspy.BootstrapFewShot(metric=lambda e, p, trace=None: True, max_bootstrapped_demos=2, max_labeled_demos=0)
        better = optimizer.compile(program, trainset=examples(1)[:2])
    assert [sorted(d.keys()) for d in better.team.demos] == [["augmented", "team", "text"]] * 2
    spans = lab.sql("SELECT worker FROM spans WHERE kind = 'step'")["worker"]
    assert all("pid" in w for w in spans)
