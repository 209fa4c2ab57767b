"""The knobs of a pipeline's steps, and pipelines with other values."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from typing import Any

import cloudpickle
import dspy
import pytest

import dspex_lab as dx
from dspex_lab import pipelines
from dspex_lab.errors import PipelineError, VariableError
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import Exposure, Knob, Space, knobs
from dspex_lab.variables.expose import IN_USE, present


def find(customer: str, limit: int = 3, mode: str = "fast", also: Any = None, urgency: float = 0.0) -> dict:
    """Find orders."""
    return {"orders": [f"{customer}{i}{mode}" for i in range(limit)]}


async def best(orders: list, share: float = 0.5) -> dict[str, list]:
    return {"top": orders[: max(1, int(len(orders) * share))]}


def twice(values: list[int]) -> list[int]:
    return [2 * v for v in values]


def made() -> dx.Pipeline:
    triage = dspy.ChainOfThought("customer -> urgency: float")
    return dx.pipeline(
        "support",
        triage=triage,
        find=dx.step(find, timeout=5, retries=1, idempotent=True, cache=60, name="find"),
        best=best,
        reply=dx.when("urgency > 0.8", dx.predict("customer -> text"), dx.template("Greet {{ customer }}", system="Be kind.")),
        kind=dx.chain_of_thought("customer -> kind: str"),
        notes=dx.each("orders", lambda order: order.upper(), concurrency=4),
        again=triage_again(triage),
    )


def triage_again(triage: Any) -> dx.Step:
    return dx.step(triage, replaces=True)


def by_path(pipeline: dx.Pipeline) -> dict[str, Knob]:
    return {k.path: k for k in pipelines.knobs(pipeline)}


def put(pipeline: dx.Pipeline, path: str, value: Any) -> dx.Pipeline:
    """Put one value, and see that it is there, that nothing else was changed, and that the first pipeline is as it was."""
    found = pipelines.knobs(pipeline)
    before = {k.path: present(k, pipeline) for k in found}
    other = pipelines.with_values(pipeline, {path: value}, found)
    knob = next(k for k in found if k.path == path)
    assert knob.domain.equal(present(knob, other), knob.domain.cast(value, path))
    assert {k.path: present(k, pipeline) for k in found} == before
    if not path.endswith("module"):
        assert {k.path for k in found if present(k, other) != before[k.path]} == {path}
    return other


def test_knobs_are_named_by_step() -> None:
    found = by_path(made())
    wanted = [
        "triage.predict.instructions",
        "triage.module",
        "find.limit",
        "find.mode",
        "find.timeout",
        "find.retries",
        "find.cache",
    ]
    wanted += ["best.share", "reply.threshold", "reply.then.instructions", "reply.then.demos", "reply.then.text.desc"]
    wanted += [
        "reply.otherwise.text",
        "reply.otherwise.system",
        "reply.otherwise.temperature",
        "kind.module",
        "notes.concurrency",
    ]
    assert set(wanted) <= set(found)
    # what a step gives, what is no plain value, and what two steps share
    assert not {"find.urgency", "find.also", "find.customer", "again.predict.instructions"} & set(found)
    assert all(knob.domain.equal(present(knob, made()), knob.domain.cast(knob.read(made()), "x")) for knob in found.values())
    assert not found["kind.temperature"].owned
    assert found["find.limit"].owned


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("triage.predict.instructions", "Be quick."),
        ("triage.predict.temperature", 0.25),
        ("triage.adapter", "json"),
        ("find.limit", 7),
        ("find.timeout", 2.5),
        ("find.retries", 3),
        ("find.cache", 30.0),
        ("best.share", 0.75),
        ("reply.threshold", 0.5),
        ("reply.then.instructions", "Answer."),
        ("reply.then.text.desc", "in one line"),
        ("reply.then.demos", [{"customer": "a", "text": "b"}]),
        ("reply.then.temperature", 0.5),
        ("reply.then.lm", IN_USE),
        ("reply.otherwise.text", "Hello {{ customer }}!"),
        ("reply.otherwise.system", "Be brief."),
        ("reply.otherwise.max_tokens", 12),
        ("kind.module", "Predict"),
        ("notes.concurrency", 2),
    ],
)
def test_another_value_is_another_pipeline_and_the_rest_stays(path: str, value: Any) -> None:
    pipeline = made()
    if path.endswith("lm"):
        assert pipelines.with_values(pipeline, {path: value}) is pipeline
        return
    other = put(pipeline, path, value)
    assert other is not pipeline
    top = path.split(".")[0]
    unchanged = {n for n in pipeline.steps if other.steps[n] is pipeline.steps[n]}
    assert unchanged == set(pipeline.steps) - ({top, "again"} if top == "triage" else {top})
    assert list(other.steps) == list(pipeline.steps)
    assert {n: f.type for n, f in other.outputs.items()} == {n: f.type for n, f in pipeline.outputs.items()}


def test_what_two_steps_share_they_share_afterwards() -> None:
    pipeline = made()
    other = pipelines.with_values(pipeline, {"triage.predict.instructions": "Be quick.", "triage.module": "Predict"})
    assert other.steps["triage"].target is other.steps["again"].target
    assert other.steps["triage"].target.signature.instructions == "Be quick."
    assert pipeline.steps["triage"].target.predict.signature.instructions != "Be quick."


def test_the_module_of_a_step_is_exchanged_with_its_values() -> None:
    pipeline = dx.pipeline("p", a=dspy.Predict("q -> a", temperature=0.3))
    other = put(pipeline, "a.module", "ChainOfThought")
    assert type(other.steps["a"].target) is dspy.ChainOfThought
    assert other.steps["a"].target.predict.config == {"temperature": 0.3}


def test_a_parameter_has_another_default_and_is_the_function_in_all_else(lab: dx.Lab) -> None:
    calls: list[int] = []

    def look(customer: str, limit: int = 2) -> dict:
        calls.append(limit)
        return {"found": [customer] * limit, "n": limit}

    pipeline = dx.pipeline("p", look=dx.step(look, cache=True))
    other = pipelines.with_values(pipeline, {"look.limit": 4})
    assert list(other.outputs) == list(pipeline.outputs) == ["found", "n"]
    assert other.inputs == pipeline.inputs
    assert other.shapes["look"].label == "look"
    assert lab.run(other, customer="a")["n"] == 4
    assert lab.run(other, customer="a", limit=1)["n"] == 1
    assert lab.run(pipeline, customer="a")["n"] == 2
    assert calls == [4, 1, 2]
    # equal values share what was cached
    assert lab.run(pipelines.with_values(pipeline, {"look.limit": 4}), customer="a")["n"] == 4
    assert lab.run(pipelines.with_values(pipeline, {"look.limit": 5}), customer="a")["n"] == 5
    assert calls == [4, 1, 2, 5]
    # and what it was written with is the function itself
    assert pipelines.with_values(other, {"look.limit": 2}).steps["look"].target is look
    target = other.steps["look"].target
    assert repr(target) == "look(limit=4)"
    assert target == pipelines.with_values(pipeline, {"look.limit": 4}).steps["look"].target
    assert hash(target) == hash(look)
    assert target != look


def test_an_async_function_stays_one(lab: dx.Lab) -> None:
    pipeline = dx.pipeline("p", best=best)
    other = pipelines.with_values(pipeline, {"best.share": 1.0})
    assert other.quick == pipeline.quick == (True,)
    assert lab.run(other, orders=[1, 2])["top"] == [1, 2]
    assert lab.run(pipeline, orders=[1, 2])["top"] == [1]
    there = pickle.loads(cloudpickle.dumps(other.steps["best"].target))  # noqa: S301 - packed here
    assert there.values == {"share": 1.0}
    both = pipelines.with_values(dx.pipeline("p", find=find), {"find.limit": 1, "find.mode": "slow"})
    assert both.steps["find"].target(customer="c") == {"orders": ["c0slow"]}


def test_a_parameter_that_a_function_has_not_is_refused() -> None:
    from dspex_lab.pipelines._tuned import tuned

    with pytest.raises(PipelineError, match=r"'find' has no parameter 'limits'.*Did you mean 'limit'"):
        tuned(find, "limits", 3)


def test_checkpoints_tell_other_values_apart() -> None:
    from dspex_lab.pipelines._fingerprint import fingerprint

    def told(pipeline: dx.Pipeline) -> str | None:
        return fingerprint(pipeline.steps["find"], {"customer": "c"})

    pipeline = dx.pipeline("p", find=find)
    four, five = (pipelines.with_values(pipeline, {"find.limit": n}) for n in (4, 5))
    assert len({told(pipeline), told(four), told(five)}) == 3
    assert told(four) == told(pipelines.with_values(pipeline, {"find.limit": 4}))


def test_numbers_of_loops_checks_retrievals_and_batches() -> None:
    index = dx.index(["a b", "b c", "c d"])
    pipeline = dx.pipeline(
        "p",
        found=dx.retrieve(index, query="q", k=2, longest=50),
        grow=dx.loop(lambda n: {"n": n + 1}, until="n >= 3", limit=5),
        said=dx.assert_(lambda q: q.upper(), "len(said) > 0", attempts=3),  # noqa: PT009
        many=dx.step(twice, batch=dx.Batch(size=4, window=0.25), outputs=["doubled"]),
    )
    for path, value in (("found.k", 1), ("found.longest", 10), ("grow.limit", 7), ("grow.threshold", 4), ("said.attempts", 2)):
        put(pipeline, path, value)
    batch = put(put(pipeline, "many.batch.size", 8), "many.batch.window", 0.5).steps["many"].batch
    assert (batch.size, batch.window) == (8, 0.5)
    assert pipelines.with_values(pipeline, {"found.k": 1}).steps["found"].target.ask("a") != []


def test_a_retriever_that_is_a_module_has_knobs() -> None:
    class Finder(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rewrite = dspy.Predict("query -> text")
            self.k = 2

        def forward(self, query: str) -> Any:
            return dspy.Prediction(passages=[self.rewrite(query=query).text] * self.k)

    pipeline = dx.pipeline("p", found=dx.retrieve(Finder(), query="q", k=2))
    other = put(pipeline, "found.rewrite.instructions", "Say it otherwise.")
    assert other.steps["found"].target.source is not pipeline.steps["found"].target.source


def test_inner_pipelines_and_bare_templates() -> None:
    inner = dx.pipeline("inner", ask="Say {{ x }}", more=find)
    pipeline = dx.pipeline("outer", first=inner, second=dx.parallel(a="Tell {{ x }}", b=lambda x: x)).with_defaults(x="y")
    other = put(pipeline, "first.ask.text", "Shout {{ x }}")
    assert other.defaults == {"x": "y"}
    assert put(pipeline, "second.a.temperature", 0.5).every_step["second.a"].target.options == {"temperature": 0.5}
    pipeline.description = "What it is for."
    assert pipelines.with_values(pipeline, {"first.more.limit": 9}).description == "What it is for."
    assert "x" not in [p.rpartition(".")[2] for p in by_path(pipeline)]


def test_thresholds_are_the_numbers_of_plain_comparisons() -> None:
    plain = ["n > 3", "0.5 <= n", "answer.score < 1"]
    no = ["n > m", "n == 3", "n > 1 and n < 3", "'a' in n", "len(n) > 3"]
    for text in [*plain, *no]:
        pipeline = dx.pipeline("p", it=dx.when(text, lambda z: {"w": z}))
        assert ("it.threshold" in by_path(pipeline)) is (text in plain), text
    assert "it.threshold" not in by_path(dx.pipeline("p", it=dx.when(lambda n: n > 3, lambda z: {"w": z})))
    other = put(dx.pipeline("p", it=dx.when("0.5 <= n", lambda z: {"w": z})), "it.threshold", 0.25)
    assert other.steps["it"].target.test.source == "0.25 <= n"


def test_models_of_steps() -> None:
    lm = scripted_lm("x")
    pipeline = dx.pipeline("p", a=dx.step("Say {{ x }}", lm=lm), b=dx.step("Tell {{ x }}", lm="openai/b"), c="Ask {{ x }}")
    found = {k.path: k for k in pipelines.knobs(pipeline, models={"small": dspy.LM("openai/small")})}
    assert found["a.lm"].domain.names == (IN_USE, lm.model, "small")
    assert found["b.lm"].read(pipeline) == "openai/b"
    assert (found["c.lm"].read(pipeline), found["c.lm"].owned) == (IN_USE, False)
    other = pipelines.with_values(pipeline, {"a.lm": IN_USE, "b.lm": "small", "c.lm": "small"}, list(found.values()))
    assert other.steps["a"].lm is None
    assert other.steps["b"].lm.model == "openai/small"
    assert pipelines.with_values(other, {"b.lm": "openai/b"}, list(found.values())).steps["b"].lm == "openai/b"


def test_wrong_names_and_values_are_refused() -> None:
    pipeline = made()
    with pytest.raises(VariableError, match=r"no knob 'find.limits'.*Did you mean 'find.limit'"):
        pipelines.with_values(pipeline, {"find.limits": 3})
    with pytest.raises(VariableError, match="cannot be -1"):
        pipelines.with_values(pipeline, {"find.limit": -1})
    with pytest.raises(VariableError, match="takes who; the one before took customer"):
        pipelines.with_values(pipeline, {"reply.otherwise.text": "Greet {{ who }}"})
    with pytest.raises(PipelineError):
        pipelines.with_values(pipeline, {"reply.otherwise.text": "Greet {{ customer"})
    with pytest.raises(VariableError, match="does not change"):
        by_path(pipeline)["find.limit"].write(pipeline, 3)
    with pytest.raises(VariableError, match=r"no step 'find'.*Expose the pipeline again"):
        by_path(pipeline)["find.limit"].read(dx.pipeline("other", found=find))
    changed = pipeline.with_steps({"reply": dx.when("urgency > 0.8 and customer == 'x'", dx.predict("customer -> text"))})
    with pytest.raises(VariableError, match="no threshold any more"):
        by_path(pipeline)["reply.threshold"].read(changed)


# --- exposed -----------------------------------------------------------------------------------------------------


def exposed(pipeline: dx.Pipeline) -> tuple[Space, Exposure]:
    space = Space()
    return space, Exposure(space, pipeline, pipelines.knobs(pipeline), pipeline.name, builder=pipelines.Builder())


def test_an_exposure_holds_the_pipeline_that_has_the_values_of_now() -> None:
    pipeline = made()
    space, exposure = exposed(pipeline)
    assert exposure.program is pipeline
    space.commit({"support.find.limit": 9, "support.triage.module": "Predict", "support.triage.predict.temperature": 0.5})
    assert exposure.program is not pipeline
    assert present(by_path(pipeline)["find.limit"], exposure.program) == 9
    assert exposure.program.steps["triage"].target.config == {"temperature": 0.5}
    assert pipeline.steps["triage"].target.predict.config == {}
    built = exposure.build({"triage.module": "ChainOfThought", "find.mode": "slow"})
    assert type(built.steps["triage"].target) is dspy.ChainOfThought
    assert present(by_path(pipeline)["find.limit"], built) == 9
    with exposure.running() as run:
        space["support.find.limit"].value = 2
        with exposure.running() as later:
            assert present(by_path(pipeline)["find.limit"], later.program) == 2
        assert present(by_path(pipeline)["find.limit"], run.program) == 9
    exposure.restore()
    assert exposure.program is pipeline
    assert space["support.find.limit"].value == 3
    exposure.close()


def test_a_change_of_a_module_in_a_step_is_followed_and_undone() -> None:
    pipeline = made()
    triage, lm = pipeline.steps["triage"].target, dspy.LM("openai/mine")
    space, exposure = exposed(pipeline)
    triage.predict.config["temperature"] = 0.125
    triage.set_lm(lm)
    changes = exposure.sync().changes
    assert (changes["support.triage.predict.temperature"].value, changes["support.triage.predict.lm"].value) == (
        0.125,
        "openai/mine",
    )
    space["support.find.limit"].value = 5
    assert exposure.program.steps["triage"].target.predict.lm is lm
    exposure.restore()
    assert (exposure.program, triage.predict.config, triage.predict.lm) == (pipeline, {}, None)


# --- elsewhere ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooled() -> Iterator[dx.Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSPEX_POOL_GENERAL_WORKERS", "1")
        with dx.Lab(":memory:") as lab:
            yield lab


def test_what_is_turned_runs_on_a_worker_where_knobs_are_found_again(pooled: dx.Lab) -> None:
    def limited(customer: str, limit: int = 2) -> dict:
        return {"pid": os.getpid(), "found": [customer] * limit}

    program = dspy.Predict("text -> label: Literal['u', 'v']")
    pipeline = dx.pipeline("p", there=dx.step(limited, pool="general"), label=dx.step(program, pool="general"))
    space, exposure = exposed(pipeline)
    assert exposure.names.index("p.there.pool") >= 0
    space.commit({"p.there.limit": 3, "p.label.instructions": "Answer v.", "p.label.adapter": "json"})
    result = pooled.run(exposure.program, customer="c", text="x")
    assert result["pid"] != os.getpid()
    assert len(result["found"]) == 3
    assert result["label"] in ("u", "v")

    def turn(program: Any, values: dict) -> dict:
        from dspex_lab.variables import knobs as again
        from dspex_lab.variables.expose import apply

        apply(program, values)
        return {"pid": os.getpid(), "told": program.signature.instructions, "paths": [k.path for k in again(program)]}

    away = dx.pipeline("q", turned=dx.step(turn, pool="general", outputs=["told"]))
    found = pooled.run(away, program=program, values={"instructions": "Answer u."})["told"]
    assert found["pid"] == result["pid"]
    assert found["told"] == "Answer u."
    assert found["paths"] == [k.path for k in knobs(program)]
    assert program.signature.instructions != "Answer u."
