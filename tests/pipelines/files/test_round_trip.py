"""A pipeline written and read again is equal, whatever it is made of; what a file cannot hold is said."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import dspy
import pydantic
import pytest
from round_trip_helpers import equal, tidy

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import PipelineError
from dspex_lab.pipelines import (
    Batch,
    Kind,
    Operation,
    Pipeline,
    Shape,
    Step,
    StepField,
    as_signature,
    index,
    load_pipeline,
    pipeline,
    predict,
    same,
    step,
    step_kind,
    when,
)
from dspex_lab.pipelines.files import handed_in
from dspex_lab.testing import scripted_lm


class Loose(dspy.Module):
    """A module of the user's own, with a part that may be frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("x -> draft")
        self.second = dspy.ChainOfThought("draft -> loose")

    def forward(self, x: str) -> Any:
        return self.second(draft=self.first(x=x).draft)


# --- particular things ----------------------------------------------------------------------------------------------


def test_what_an_optimizer_taught_survives_in_every_module() -> None:
    cot = dspy.ChainOfThought("x -> y: str, score: float")
    cot.predict.signature = cot.predict.signature.with_instructions("Be\nbrief: no # really")
    cot.predict.demos = [dspy.Example(x="on", reasoning="1:30", y="no", score=0.5, augmented=True)]
    cot.predict.config = {"temperature": 0.3}
    react = dspy.ReAct("question -> answer", tools=[tidy], max_iters=4)
    react.react.demos = [dspy.Example(question="q", next_thought="t", next_tool_name="finish", next_tool_args={})]
    own = Loose()
    own.first.demos = [dspy.Example(x="1", draft="2")]
    own.second._compiled = True
    own.second.predict.demos = [dspy.Example(draft="2", reasoning="r", loose="3")]
    own.second.predict.signature = own.second.predict.signature.with_instructions("Loosely.")
    own._compiled = True
    read = equal(pipeline("p", a=cot, b=react, c=own))
    a, b, c = (s.target for s in read.steps.values())
    assert a.predict.dump_state() == cot.predict.dump_state()
    assert (a.predict.config, b.max_iters, list(b.tools)) == ({"temperature": 0.3}, 4, ["tidy", "finish"])
    assert b.react.demos[0].next_tool_args == {}
    assert c.second.predict.demos[0].loose == "3"
    assert c.second.predict.signature.instructions == "Loosely."
    assert c._compiled
    assert c is not own, "what was handed in is not changed"


def test_an_optimized_pipeline_survives(lab: Lab) -> None:
    made = pipeline(
        "p", label=predict("x -> label"), why=dspy.ChainOfThought("x, label -> why"), out=when("x", predict("why -> out"))
    )
    rows = [dspy.Example(x=str(i), label="no", why="on", out="y").with_inputs("x") for i in range(4)]
    program = dspy.LabeledFewShot(k=2).compile(made.as_module(lab), trainset=rows)
    learned = made.with_modules(program)
    assert len(learned.steps["label"].target.demos) == 2
    read = equal(learned)
    assert [d.toDict() for d in read.steps["out"].target.then.target.demos] == [
        dict(d) for d in learned.steps["out"].target.then.target.demos
    ]
    assert (
        same(made, read)[0]
        == "step 'label': demos is " + str([dict(d) for d in learned.steps["label"].target.demos])[:59] + "…"
    )


def test_a_module_of_ones_own_may_be_handed_in_as_its_class_and_must_fit() -> None:
    own = Loose()
    own.first.demos = [dspy.Example(x="1", draft="2")]
    text = pipeline("p", c=own).to_yaml()
    read = load_pipeline(text, functions={"c": Loose})
    assert read.steps["c"].target.first.demos[0].draft == "2"

    class Changed(Loose):
        def __init__(self) -> None:
            super().__init__()
            self.first = dspy.Predict("x, y -> draft")

    class Demanding(Loose):
        def __init__(self, k: int) -> None:
            super().__init__()

    with pytest.raises(PipelineError, match="what was learned is for"):
        load_pipeline(text, functions={"c": Changed})
    with pytest.raises(PipelineError, match="cannot be made without arguments"):
        load_pipeline(text, functions={"c": Demanding})
    with pytest.raises(PipelineError, match="not what a predictor has learned"):
        load_pipeline("name: p\nsteps: {c: {type: dspy, module: c, predictors: {first: 3}}}\n", functions={"c": Loose})
    with pytest.raises(PipelineError, match=r"dspy.ReAct cannot be made"):
        load_pipeline("name: p\nsteps: {c: {type: dspy, module: ReAct, signature: x -> y, tools: [t]}}\n", functions={"t": 3})


class Colour(enum.Enum):
    RED = "red"


class Ticket(pydantic.BaseModel):
    id: int
    opened: datetime.date


class Told(TypedDict):
    colour: Colour
    when_: datetime.date


def told(ticket: Ticket, day: datetime.date, pair: tuple[int, int]) -> Told:
    return {"colour": Colour.RED, "when_": day}


def test_values_of_other_types_stand_in_their_json_form() -> None:
    day = datetime.date(2024, 1, 31)
    contract = dx.signature("ticket: Ticket -> on: datetime.date", types={"Ticket": Ticket, "datetime": datetime})
    demo = dspy.Example(ticket=Ticket(id=1, opened=day), on=day)
    made = pipeline(
        "p",
        a=step(told, on_error="fallback", fallback={"colour": Colour.RED, "when_": day}),
        b=Operation("predict", contract, (demo,)),
        c=step(lambda a: 1, on_error="fallback", fallback=7),
    ).with_defaults(day=day, pair=(1, 2), ticket=Ticket(id=2, opened=day))
    read = equal(made)
    assert read.defaults == made.defaults
    assert read.steps["a"].fallback == made.steps["a"].fallback
    assert read.steps["b"].target.demos[0].ticket == demo.ticket
    assert "day: '2024-01-31'" in made.to_yaml()


def test_a_fallback_whose_only_field_is_called_like_a_mark_survives() -> None:
    def gives(x: int) -> dict[str, Any]:
        return {"function": "tidy"}

    equal(pipeline("p", a=step(gives, on_error="fallback", fallback={"function": "tidy"})))


def test_models_survive_without_their_keys_and_an_address_is_handed_in() -> None:
    bare = dspy.LM("openai/gpt-5-mini", temperature=1.0, max_tokens=20_000, api_key="sk-secret")
    local = dspy.LM("openai/mine", api_base="http://127.0.0.1:1/v1", api_key="local")
    fake = scripted_lm([{"y": "1"}])
    offline = Lab(":memory:").lm
    module = dspy.Predict("x -> y")
    module.lm = bare
    made = pipeline(
        "p", a=step(tidy, lm=bare), b=step(tidy, lm=local), c=step(tidy, lm=fake), d=step(tidy, lm=offline), e=module
    )
    text = made.to_yaml()
    assert "secret" not in text
    assert "127.0.0.1" not in text
    read = equal(made)
    assert (read.steps["b"].lm, read.steps["c"].lm, read.steps["d"].lm) == (local, fake, "offline")
    assert read.steps["a"].lm.kwargs == {k: v for k, v in bare.kwargs.items() if k != "api_key"}
    assert read.steps["e"].target.lm.model == "openai/gpt-5-mini"


def test_a_model_whose_engine_has_no_state_is_handed_in() -> None:
    made = pipeline("p", a=step(tidy, lm=scripted_lm(lambda prompt: {"y": "1"})))
    text = made.to_yaml()
    assert "lm: a_lm" in text
    read = load_pipeline(text, functions={"a_lm": made.steps["a"].lm}, modules=["round_trip_helpers"])
    assert read.steps["a"].lm is made.steps["a"].lm


def test_lambdas_and_functions_of_one_name_have_names_of_their_own() -> None:
    def make(n: int) -> Callable[..., Any]:
        def add(x: int) -> int:
            return x + n

        return add

    made = pipeline("p", a=lambda x: x, b=make(1), c=make(2), d=when(lambda x: x > 1, lambda x: -x))
    assert list(handed_in(made)) == ["a", "add", "add_2", "d_condition", "d_then"]
    assert equal(made).steps["c"].target(1) == 3


def test_batches_outputs_and_pools_survive() -> None:
    def many(xs: list[int]) -> list[int]:
        return xs

    made = pipeline(
        "p", a=step(many, batch=Batch(4, 0.5)), b=step(tidy, pool="general", outputs=["z"]), x=step(tidy, replaces=True)
    )
    read = equal(made)
    assert read.steps["a"].batch == Batch(4, 0.5)


def test_an_index_and_a_description_survive(tmp_path: Path) -> None:
    rows = index(["one", "two"])
    text = "name: p\ndescription: |\n  What it is for.\nsteps: {a: {type: retrieve, source: rows, query: x, longest: 3}}\n"
    made = load_pipeline(text, functions={"rows": rows})
    made.to_yaml(tmp_path / "p.yaml")
    read = load_pipeline(tmp_path / "p.yaml", functions={"a_source": rows})
    assert (read.description, same(made, read)) == ("What it is for.\n", [])


def test_two_types_of_one_name_cannot_be_told_apart() -> None:
    def make() -> type:
        class Thing(pydantic.BaseModel):
            id: int

        return Thing

    class Thing(pydantic.BaseModel):
        name: str

    made = pipeline(
        "p",
        a=predict(as_signature(dx.signature("x -> y: Thing", types={"Thing": make()}))),
        b=predict(dx.signature("x -> z: Thing", types={"Thing": Thing})),
    )
    with pytest.raises(PipelineError, match="Two types are called 'Thing'"):
        made.to_yaml()


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: pipeline("p", a=tidy).with_defaults(x=object()), "the default of 'x' is object, which a file cannot hold"),
        (lambda: pipeline("p", a=step(tidy, on_error="fallback", fallback={1, 2})), "the fallback of 'a' is set"),
        (
            lambda: pipeline("p", a=Operation("predict", dx.signature("x -> y"), (), {"k": object()})),
            "the setting 'k' is object",
        ),
        (lambda: pipeline("p", a=tidy).with_defaults(x="\ud800"), "which a file cannot hold"),
    ],
)
def test_what_a_file_cannot_hold_is_said(made: Callable[[], Pipeline], why: str) -> None:
    with pytest.raises(PipelineError, match=why):
        made().to_yaml()


def test_a_file_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cannot be written"):
        pipeline("p", a=tidy).to_yaml(tmp_path / "no" / "p.yaml")


# --- kinds of the user's own ----------------------------------------------------------------------------------------


class Repeat:
    def __init__(self, word: str, times: int, inner: Step | None = None) -> None:
        self.word, self.times, self.inner = word, times, inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Repeat) and (self.word, self.times) == (other.word, other.times)

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def own_kind() -> type[Kind]:
    @step_kind
    class RepeatKind(Kind):
        name = "repeat_for_test"

        def accepts(self, target: Any) -> bool:
            return isinstance(target, Repeat)

        def shape(self, name: str, item: Step) -> Shape:
            return Shape({}, {name: StepField(name, str)})

        async def run(self, work: Any, item: Step, inputs: Any) -> Any:
            return {work.field: item.target.word * item.target.times}

        def dump(self, item: Step, writer: Any) -> dict[str, Any]:
            made = item.target
            tree = {"word": writer.value(made.word, "the word"), "times": made.times}
            return {**tree, "inner": writer.step(made.inner, "inner")} if made.inner else tree

        def load(self, read: Any) -> Repeat:
            return Repeat(read.text("word"), read.number("times", 2), read.step("inner") if read.get("inner") else None)

    return RepeatKind


def test_a_kind_of_ones_own_is_written_and_read(own_kind: type[Kind], lab: Lab) -> None:
    read = equal(pipeline("p", a=Repeat("ab", 3), b=Repeat("no", 1, step(tidy))))
    assert lab.run(read).outputs == {"a": "ababab", "b": "no"}
    with pytest.raises(PipelineError, match=r"has no 'tims'. Did you mean 'times'\?"):
        load_pipeline("name: p\nsteps: {a: {type: repeat_for_test, word: x, tims: 3}}\n")
    del own_kind.dump, own_kind.load  # type: ignore[attr-defined]
    with pytest.raises(PipelineError, match="its kind 'repeat_for_test' does not say how"):
        pipeline("p", a=Repeat("ab", 3)).to_yaml()
    with pytest.raises(PipelineError, match="there is no type of step 'repeat_for_test'"):
        load_pipeline("name: p\nsteps: {a: {type: repeat_for_test}}\n")
    one, two = pipeline("p", a=Repeat("ab", 3)), pipeline("p", a=step(Repeat("ab", 4), timeout=3))
    assert same(one, pipeline("p", a=Repeat("ab", 3))) == []
    assert same(one, two) == ["step 'a': target Repeat changed", "step 'a': timeout is 3"]


# --- values ---------------------------------------------------------------------------------------------------------


def test_values_that_fit_no_form_are_refused_with_the_reason() -> None:
    from dspex_lab.pipelines.files._values import from_plain, is_plain, to_plain

    deep: Any = []
    for _ in range(40):
        deep = [deep]
    assert not is_plain(deep)
    assert not is_plain({1: 2})
    with pytest.raises(PipelineError, match="the default is complex, which a file cannot hold"):
        to_plain(1j, float, "the default")
    with pytest.raises(ValueError, match="expected int, found 'x'"):
        from_plain("x", int)

    def never(value: Any) -> Any:
        raise TypeError("broken")

    broken = Annotated[int, pydantic.PlainValidator(never)]
    with pytest.raises(ValueError, match="could not be made: TypeError: broken"):
        from_plain(1, broken)


def test_a_text_of_digits_stays_a_text() -> None:
    made = pipeline("p", a=tidy).with_defaults(x="9" * 500)
    assert equal(made).defaults == {"x": "9" * 500}
