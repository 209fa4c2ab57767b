"""A pipeline is a DSPy program for everything in DSPy that takes one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
from as_module_helpers import program, teams

import dspex_lab as dx
from dspex_lab.testing import scripted_lm

__all__ = ["program", "teams"]

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
