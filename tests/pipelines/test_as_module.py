"""A pipeline is a DSPy program for everything in DSPy that takes one."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest
from dspy import teleprompt
from dspy.utils.exceptions import AdapterParseError

import dspex_lab as dx
from dspex_lab.pipelines import each, when
from dspex_lab.testing import scripted_lm

TEAMS = [("parcel lost in the post", "P7"), ("refund my money", "K2"), ("reset the password", "X9")]
MORE = [("the parcel came late", "P7"), ("money back please", "K2"), ("my password is gone", "X9")]


def examples(times: int = 2) -> list[dspy.Example]:
    return [dspy.Example(text=t, team=c).with_inputs("text") for t, c in (TEAMS + MORE) * times]


def right(example: Any, prediction: Any, trace: Any = None, *rest: Any) -> bool:
    return bool(example.team == prediction.team)


def with_feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> dspy.Prediction:
    return dspy.Prediction(score=float(gold.team == pred.team), feedback=f"The right team is {gold.team}.")


@pytest.fixture
def teams() -> dx.Pipeline:
    """A native step, a DSPy step, a routed operation in a branch, and a native step."""
    return dx.pipeline(
        "teams",
        text=dx.step(lambda text: text.strip(), replaces=True, outputs=["text"]),
        team=dspy.Predict("text -> team: Literal['P7', 'K2', 'X9']"),
        note=when("team == 'K2'", dx.chain_of_thought("text -> note")),
        code=lambda team: team.lower(),
    )


@pytest.fixture
def program(teams: dx.Pipeline, lab: dx.Lab) -> Any:
    return teams.as_module(lab)


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


# --- Evaluate ----------------------------------------------------------------------------------------------------


def test_evaluate_with_threads_gives_each_example_its_own_answer(lab: dx.Lab) -> None:
    lab.use(scripted_lm(lambda prompt: {"b": prompt.question["a"]}))
    program = dx.pipeline("p", a=dx.step(lambda a: f"{a}!", replaces=True, outputs=["a"]), b=dspy.Predict("a -> b")).as_module(
        lab
    )
    data = [dspy.Example(a=str(i), b=f"{i}!").with_inputs("a") for i in range(40)]
    with lab.context():
        found = dspy.Evaluate(devset=data, metric=lambda e, p: e.b == p.b, num_threads=8, display_progress=False)(program)
    assert found.score == 100.0
    assert [r[1].b for r in found.results] == [e.b for e in data]
    assert lab.sql("SELECT count(*) AS n FROM runs WHERE status = 'complete'")["n"][0] == 40


def test_a_failing_step_costs_its_example_and_no_other(lab: dx.Lab) -> None:
    def fragile(a: int) -> float:
        return 1 / a

    program = dx.pipeline("p", b=fragile).as_module(lab)
    data = [dspy.Example(a=i).with_inputs("a") for i in range(4)]
    found = dspy.Evaluate(devset=data, metric=lambda e, p: 1.0, num_threads=2, display_progress=False, max_errors=10)(program)
    assert found.score == 75.0


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


# --- models ------------------------------------------------------------------------------------------------------


def test_set_lm_reaches_every_predictor_and_no_pipeline(teams: dx.Pipeline, program: Any, lab: dx.Lab) -> None:
    lm = scripted_lm({"team": "X9", "note": "n", "reasoning": "r"})
    program.set_lm(lm)
    assert program.get_lm() is lm
    assert program(text="x").team == "X9"
    assert lm.engine.calls == 1
    assert teams.steps["team"].target.lm is None
    assert program.deepcopy()(text="x").team == "X9"


def test_a_predictors_own_model_is_shared_with_the_program(lab: dx.Lab) -> None:
    own = dspy.Predict("a -> b")
    own.lm = scripted_lm({"b": "mine"})
    program = dx.pipeline("p", b=own).as_module(lab)
    assert program(a="x").b == "mine"
    assert own.lm.engine.calls == 1
    assert program.b.lm is own.lm


def test_a_module_that_two_steps_share_is_shared_in_the_program(lab: dx.Lab) -> None:
    shared = dspy.Predict("a -> b")
    pair = dx.pipeline("r", one=dx.pipeline("i", b=shared), two=dx.step(dx.pipeline("j", b=shared), replaces=True)).as_module(
        lab
    )
    assert pair.one.b is pair.two.b
    assert len(pair.named_predictors()) == 1


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


def test_what_another_forward_was_put_around_is_not_taken_apart(teams: dx.Pipeline, program: Any, lab: dx.Lab) -> None:
    with lab.context() as lm:
        better = knn(program, lm)
        assert better.replaced
        with pytest.raises(dx.PipelineError, match=r"put another forward\(\) around the steps"):
            teams.with_modules(better)
        result = lab.run(better, text="refund my money")
    assert result["team"] == "K2"


# --- other ways to call it ---------------------------------------------------------------------------------------


def test_batch_parallel_and_asyncify(lab: dx.Lab) -> None:
    lab.use(scripted_lm(lambda prompt: {"b": prompt.question["a"]}))
    program = dx.pipeline("p", b=dspy.Predict("a -> b"), n=lambda b: len(b)).as_module(lab)
    data = [dspy.Example(a="x" * i).with_inputs("a") for i in range(1, 6)]
    with lab.context():
        assert [p.n for p in program.batch(data, num_threads=3, disable_progress_bar=True)] == [1, 2, 3, 4, 5]
        pairs = [(program, e) for e in data]
        assert [p.n for p in dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)] == [1, 2, 3, 4, 5]
        assert asyncio.run(dspy.asyncify(program)(a="xx")).n == 2
        assert asyncio.run(program.acall(a="xxx")).n == 3
    tree = lab.sql("SELECT status, count(*) AS n FROM runs GROUP BY status")
    assert list(tree.itertuples(index=False, name=None)) == [("complete", 12)]


def test_streamify_passes_the_tokens_of_a_step_on(lab: dx.Lab) -> None:
    lm = lab.use(scripted_lm({"b": "one two three four five six seven eight"}))
    program = dx.pipeline("p", a=dx.step(lambda a: a, replaces=True, outputs=["a"]), b=dspy.Predict("a -> b")).as_module(lab)
    streaming = dspy.streamify(program, stream_listeners=[dspy.streaming.StreamListener("b")], async_streaming=True)

    async def collect() -> tuple[str, Any]:
        text, last = "", None
        async for piece in streaming(a="x"):
            if isinstance(piece, dspy.streaming.StreamResponse):
                assert piece.predict_name == "b"
                text += piece.chunk
            elif isinstance(piece, dspy.Prediction):
                last = piece
        return text, last

    with dspy.context(lm=lm):
        text, last = asyncio.run(collect())
    assert text == "one two three four five six seven eight"
    assert last.b == text
    assert lm.engine.streams.opened == 1


def test_it_can_be_called_from_many_threads(lab: dx.Lab) -> None:
    lab.use(scripted_lm(lambda prompt: {"b": prompt.question["a"]}))
    program = dx.pipeline("p", b=dspy.Predict("a -> b")).as_module(lab)
    found: dict[int, str] = {}

    def one(i: int) -> None:
        found[i] = program(a=str(i)).b

    threads = [threading.Thread(target=one, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: str(i) for i in range(12)}


def test_it_is_a_module_in_a_program_of_the_users_own(lab: dx.Lab) -> None:
    lab.use(scripted_lm({"b": "x", "c": "y"}))

    class Outer(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dx.pipeline("p", b=dspy.Predict("a -> b")).as_module(lab)
            self.last = dspy.Predict("b -> c")

        def forward(self, a: str) -> dspy.Prediction:
            return self.last(b=self.inner(a=a).b)

    outer = Outer()
    assert [n for n, _ in outer.named_predictors()] == ["inner.b", "last"]
    with lab.context():
        assert outer(a="1").c == "y"
        better = dspy.LabeledFewShot(k=1).compile(outer, trainset=[dspy.Example(a="1", b="2").with_inputs("a")])
        assert better.inner.b.demos
        assert better(a="1").c == "y"


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
