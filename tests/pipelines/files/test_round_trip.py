# ruff: noqa: E501
"""A pipeline written and read again is equal, whatever it is made of; and what `same` says where it is not."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import dspy
import jsonschema
import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    assert_,
    chain_of_thought,
    compute,
    each,
    index,
    load_pipeline,
    loop,
    parallel,
    pipeline,
    predict,
    retrieve,
    same,
    step,
    step_kind,
    suggest,
    template,
    transform,
    when,
)
from dspex_lab.pipelines.files import SCHEMA, handed_in
from dspex_lab.testing import scripted_lm

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}#\x00\r"), max_size=30)
words = (
    st.sampled_from(["no", "on", "1:30", "x y", "- a", "{{ x }}", "a: b", "# c", "'", '"', "é\u2028", "line\nline\n"]) | texts
)


def tidy(x: Any) -> Any:
    return x


def other(x: Any, k: int = 3) -> Any:
    return x


class Loose(dspy.Module):
    """A module of the user's own, with a part that may be frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("x -> draft")
        self.second = dspy.ChainOfThought("draft -> loose")

    def forward(self, x: str) -> Any:
        return self.second(draft=self.first(x=x).draft)


def again(made: Pipeline) -> Pipeline:
    text = made.to_yaml()
    jsonschema.validate(yaml.safe_load(text), SCHEMA)
    read = load_pipeline(text, functions=handed_in(made))
    assert read.to_yaml() == text
    return read


def equal(made: Pipeline) -> Pipeline:
    read = again(made)
    assert same(made, read) == []
    assert (list(read.inputs), list(read.outputs)) == (list(made.inputs), list(made.outputs))
    return read


#: Made here, because DSPy draws random numbers when it makes one.
MODULES = {
    (kind, tag): getattr(dspy, kind)(f"x -> {tag}_a: str, {tag}_b: list[int]")
    for kind in ("Predict", "ChainOfThought")
    for tag in (f"s{i}{'i' * depth}" for i in range(4) for depth in range(3))
}


# --- random pipelines ---------------------------------------------------------------------------------------------------


@st.composite
def leaves(draw: Any, tag: str) -> Step:
    """A step without others in it, whose output fields carry ``tag``."""
    kind = draw(st.sampled_from(["native", "predict", "cot", "dspy", "lm", "retrieve", "compute", "transform"]))
    if kind == "native":
        return step(draw(st.sampled_from([tidy, other])))
    if kind in ("predict", "cot"):
        contract = dx.signature(
            f"x, k: int = 3 -> {tag}_label: Literal['a', 'no']", name=draw(st.sampled_from([None, "Triage"]))
        )
        demos = draw(st.lists(st.fixed_dictionaries({"x": words, f"{tag}_label": words}), max_size=2))
        config = draw(st.none() | st.just({"temperature": 0.5, "stop": ["\n"]}))
        made = predict(contract) if kind == "predict" else chain_of_thought(contract)
        return step(Operation(made.name, contract, tuple(dspy.Example(**d) for d in demos), config))
    if kind == "dspy":
        module = copy.deepcopy(MODULES[draw(st.sampled_from(["Predict", "ChainOfThought"])), tag])
        predictor = getattr(module, "predict", module)
        predictor.demos = [dspy.Example(x=draw(words), **{f"{tag}_a": draw(words)}, augmented=True)]
        if draw(st.booleans()):
            predictor.signature = predictor.signature.with_instructions(draw(words) or "Do it.")
        return step(module)
    if kind == "lm":
        returns = draw(st.sampled_from([str, int, list[str], {f"{tag}_t": str, f"{tag}_n": Literal["no", 1]}, bool]))
        system = draw(st.none() | words.filter(lambda w: "{{" not in w))
        return step(
            template(draw(words.filter(lambda w: "{" not in w)) + " {{ x }}", system=system, returns=returns, temperature=0.2)
        )
    if kind == "retrieve":
        source = draw(st.sampled_from([tidy, "http://127.0.0.1:9/api"]))
        return retrieve(source, query="x", k=draw(st.integers(1, 9)), scores=draw(st.booleans()))
    if kind == "compute":
        return compute(**{f"{tag}_c": draw(st.sampled_from(["x + 1", "'no'", "x == 'on'"]))})
    limit = draw(st.none() | st.integers(0, 5))
    return transform("xs", keep=draw(st.none() | st.just("item > x")), descending=draw(st.booleans()), limit=limit)


@st.composite
def trees(draw: Any, tag: str, depth: int) -> Step:
    """Any step, with options."""
    if depth == 0 or draw(st.booleans()):
        made = draw(leaves(tag))
    else:
        kind = draw(st.sampled_from(["parallel", "when", "each", "loop", "assert", "suggest", "pipeline"]))
        inner = draw(trees(f"{tag}i", depth - 1))
        named = dataclasses.replace(inner, name=draw(st.none() | st.just("inner")))
        condition = draw(st.sampled_from(["x > 1", "x == 'no'", tidy]))
        if kind == "parallel":
            made = parallel(**{f"{tag}_p": inner, f"{tag}_q": other})
        elif kind == "when":
            made = when(condition, named, draw(st.none() | st.just(step(tidy, name="second"))))
        elif kind == "each":
            made = each("xs", named, item="x", concurrency=draw(st.integers(1, 9))) if "x" in shape_of(inner) else step(tidy)
        elif kind == "loop":
            made = loop(named, until=condition, limit=draw(st.integers(1, 20)))
        elif kind in ("assert", "suggest"):
            checks = draw(st.sampled_from([condition, [condition, "x != 3"]]))
            make = assert_ if kind == "assert" else suggest
            made = make(named, checks, draw(st.none() | st.just("no: it's bad")), attempts=draw(st.integers(1, 4)))
        else:
            made = step(pipeline("inner pipe", **{f"{tag}_n": inner}))
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["timeout"] = draw(st.integers(1, 60) | st.floats(0.5, 60))
    if draw(st.booleans()):
        options |= {"retries": draw(st.integers(1, 3)), "idempotent": True}
    if draw(st.booleans()):
        options["cache"] = draw(st.just(True) | st.integers(1, 900))
    if draw(st.booleans()):
        options["lm"] = draw(st.sampled_from(["openai/gpt-5-mini", "offline", "anthropic/claude-sonnet-4-5"]))
    if draw(st.booleans()):
        options["on_error"] = "continue"
    elif draw(st.booleans()):
        options |= {"on_error": "fallback", "fallback": other}
    return step(made, **options)


def shape_of(item: Step) -> Mapping[str, Any]:
    return item.how.shape("s", item).inputs


@st.composite
def pipelines(draw: Any) -> Pipeline:
    count = draw(st.integers(1, 4))
    name = draw(words.filter(str.strip))
    made = pipeline(name, **{f"s{i}": draw(trees(f"s{i}", 2)) for i in range(count)})
    return made.with_defaults(x=draw(words)) if "x" in made.inputs and draw(st.booleans()) else made


@given(pipelines())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_any_pipeline_written_and_read_again_is_equal(made: Pipeline) -> None:
    equal(made)


# --- particular things --------------------------------------------------------------------------------------------------


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


# --- kinds of the user's own -----------------------------------------------------------------------------------------------


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


# --- what changed ----------------------------------------------------------------------------------------------------------


def defined(source: str) -> Any:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(source, scope)  # noqa: S102 - the test's own text
    return scope["g"]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (lambda: {"a": tidy}, lambda: {"a": tidy, "b": tidy}, ["step 'b' added", "outputs added: b"]),
        (lambda: {"a": tidy, "b": tidy}, lambda: {"a": tidy}, ["step 'b' removed", "outputs removed: b"]),
        (lambda: {"a": tidy}, lambda: {"a": other}, ["step 'a': function was {m}:tidy, is {m}:other", "inputs added: k"]),
        (lambda: {"a": tidy, "b": tidy}, lambda: {"b": tidy, "a": tidy}, ["the order was a, b, is b, a", "outputs in another order: b, a"]),
        (lambda: {"a": step(tidy, timeout=1)}, lambda: {"a": step(tidy, timeout=2)}, ["step 'a': timeout was 1, is 2"]),
        (lambda: {"a": step(tidy, timeout=1)}, lambda: {"a": step(tidy)}, ["step 'a': timeout was 1, is not said any more"]),
        (lambda: {"a": tidy}, lambda: {"a": step(tidy, cache=True)}, ["step 'a': cache is True"]),
        (lambda: {"a": "Hi {{ x }}"}, lambda: {"a": "Hello {{ x }}"}, ["step 'a': template changed"]),
        (lambda: {"a": "Hi {{ x }}"}, lambda: {"a": tidy}, ["step 'a': type was lm, is native"]),
        (
            lambda: {"a": predict("x -> y, z: int")},
            lambda: {"a": predict("x -> y: list[str], z: int")},
            ["step 'a': signature: changed y: type from 'str' to 'list[str]'"],
        ),
        (
            lambda: {"a": predict(dx.signature("x -> y", name="A"))},
            lambda: {"a": predict("x -> y")},
            ["step 'a': signature: name was A, is none"],
        ),
        (
            lambda: {"a": when("x > 1", tidy)},
            lambda: {"a": when("x > 2", step(tidy, timeout=1), other)},
            ["step 'a': condition was x > 1, is x > 2", "step 'a': then.timeout is 1"],
        ),
        (
            lambda: {"a": parallel(b=tidy, c=tidy)},
            lambda: {"a": parallel(c=other, d=tidy)},
            ["step 'a': b removed", "step 'a': c.function was {m}:tidy, is {m}:other", "step 'a': d added"],
        ),
        (lambda: {"a": parallel(b=tidy, c=tidy)}, lambda: {"a": parallel(c=tidy, b=tidy)}, ["step 'a': the order was b, c, is c, b"]),
        (lambda: {"a": pipeline("q", b=tidy)}, lambda: {"a": pipeline("r", b=tidy)}, ["step 'a': name was q, is r"]),
        (lambda: {"a": defined("def g(x):\n  return x")}, lambda: {"a": defined("def g(x):\n  return 1")}, ["step 'a': the code of g changed"]),
        (lambda: {"a": defined("def g(x):\n  return x")}, lambda: {"a": defined("\n\ndef g(x):\n  return x")}, []),
        (lambda: {"a": defined("def g(x, k=1): ...")}, lambda: {"a": defined("def g(x, k=2): ...")}, ["step 'a': the code of g changed"]),
        (
            lambda: {"a": Operation("predict", dx.signature("x -> y"), (dspy.Example(x="1", y="2"),))},
            lambda: {"a": Operation("predict", dx.signature("x -> y"), (dspy.Example(x="1", y="2"), dspy.Example(x="1", y="2")))},
            ["step 'a': demos changed (1 → 2)"],
        ),
    ],
)  # fmt: skip
def test_same_says_what_changed(before: Any, after: Any, lines: list[str]) -> None:
    found = same(pipeline("p", **before()), pipeline("p", **after()))
    wanted = [line.replace("{m}", __name__) for line in lines]
    assert found[: len(wanted)] == wanted
    assert all(line.startswith(("inputs ", "outputs ", "step 'a': otherwise")) for line in found[len(wanted) :])


def test_same_compares_names_and_defaults() -> None:
    one = pipeline("p", a=tidy)
    assert same(one, pipeline("q", a=one.steps["a"])) == ["the name was 'p', is 'q'"]
    assert same(one.with_defaults(x=1), one.with_defaults(x=2)) == ["the default of 'x' was 1, is 2"]
    assert same(one, one.with_defaults(x=2)) == ["the default of 'x' is 2"]


CLASS = "import dataclasses, enum, pydantic\nfrom typing import TypedDict\n{}\ng = C"


@pytest.mark.parametrize(
    "body",
    [
        "class C(TypedDict):\n    a: int",
        "@dataclasses.dataclass\nclass C:\n    a: int = 1",
        "@dataclasses.dataclass(frozen=True, slots=True)\nclass C:\n    a: int",
        "class C(enum.Enum):\n    A = 1",
        "class C(pydantic.BaseModel):\n    a: int",
        "class C:\n    def m(self): return 1",
    ],
)
def test_a_class_defined_again_is_the_same_until_it_says_something_else(body: str) -> None:
    from dspex_lab.pipelines.files._refs import alike

    one = defined(CLASS.format(body))
    assert alike(one, defined(CLASS.format("\n\n" + body)))
    changed = body.replace("a: int", "a: str").replace("A = 1", "A = 2").replace("return 1", "return 2")
    assert not alike(one, defined(CLASS.format(changed)))
    assert not alike(one, defined(CLASS.format(body.replace("C", "D") + "\nC = D")))


# --- what a file can say beyond what is written ---------------------------------------------------------------------------


def test_presets_conditions_switches_and_whiles_are_read(lab: Lab) -> None:
    text = """
name: p
variables: {n: 0}
presets:
  default: {timeout: 9, lm: offline}
  quick: {timeout: 1}
steps:
  kind: {type: switch, on: x, cases: {card: one, 2: two, '3': three}, default: other}
  doubled: {type: compute, values: {twice: 'n * 2'}, preset: quick, condition: {any: [x == 'card', {not: x != 2}]}}
  n: {type: loop, do: up, while: {all: [n < 3, true]}, replaces: true}
  picked: {type: transform, field: rows, keep: item.k > n, make: item.k, sort: item.k, descending: true, limit: 2}
"""
    names: dict[str, Any] = {n: lambda n=n: n for n in ("one", "two", "three", "other")}
    made = load_pipeline(text, functions={**{k: _constant(k) for k in names}, "up": lambda n: n + 1})
    rows = [{"k": 9}, {"k": 2}, {"k": 7}, {"k": 8}]
    out = {x: lab.run(made, x=x, rows=rows).raise_for_status().outputs for x in ("card", 2, "3", 3)}
    assert [o["kind"] for o in out.values()] == ["one", "two", "three", "other"]
    assert [o["twice"] for o in out.values()] == [0, 0, None, None]
    assert (out["card"]["n"], out["card"]["picked"]) == (3, [9, 8])
    assert made.steps["doubled"].target.then.timeout == 1
    assert made.steps["n"].target.step.timeout == 9
    assert made.steps["n"].timeout is None
    equal(made)


def _constant(value: str) -> Callable[[], str]:
    def constant() -> str:
        return value

    return constant


def test_condition_on_a_step_that_replaces_keeps_that() -> None:
    made = load_pipeline("name: p\nsteps: {x: {function: f, replaces: true, condition: x > 1}}\n", functions={"f": tidy})
    assert made.steps["x"].replaces
    assert not made.steps["x"].target.then.replaces


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    for wrong in (
        {"name": "p"},
        {"name": "p", "steps": {}},
        {"name": "p", "steps": {"a": {"type": "lm"}}},
        {"name": 1, "steps": {"a": "f"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_knows_every_kind_and_every_option() -> None:
    from dspex_lab.pipelines.files._kinds import DUMPERS, LOADERS
    from dspex_lab.pipelines.files._reader import OPTIONS
    from dspex_lab.pipelines.files._schema import COMMON, TYPES

    assert set(TYPES) == set(LOADERS)
    assert set(COMMON) == set(OPTIONS) - {"type"}
    assert set(DUMPERS) <= set(LOADERS)


def test_a_file_is_run_by_the_lab_like_any_pipeline(lab: Lab) -> None:
    lab.use(scripted_lm([{"label": "no"}]))
    made = load_pipeline('name: p\nsteps: {a: {type: predict, signature: \'x -> label: Literal["no", "on"]\'}}\n')
    assert lab.run(made, x="y").outputs == {"label": "no"}


def test_transform_and_compute_say_what_is_wrong(lab: Lab) -> None:
    made = pipeline("p", a=transform("xs", sort="item"))
    assert lab.run(made, xs=[2, 1]).outputs == {"a": [1, 2]}
    assert "needs a list in 'xs'" in str(lab.run(made, xs="ab").error)
    assert "cannot be sorted" in str(lab.run(made, xs=[1, "a"]).error)
    with pytest.raises(PipelineError, match="is no name of a field"):
        transform("item")
    with pytest.raises(PipelineError, match="is no name of a field"):
        compute(**{"a b": "1"})
    assert lab.run(pipeline("p", a=transform("xs", descending=True)), xs=[1, 2]).outputs == {"a": [2, 1]}
    cached = pipeline(
        "p", a=step(transform("xs", keep="item > k"), cache=True), b=step(compute(t="k + 1"), cache=True, retries=1)
    )
    assert lab.run(cached, xs=[1, 2], k=1).outputs == lab.run(cached, xs=[1, 2], k=1).outputs == {"a": [2], "t": 2}
    assert [n["does"] for n in cached.graph()["nodes"]] == ["xs, keep item > k", "t = k + 1"]


def test_alike_looks_into_partials_methods_and_cells() -> None:
    import functools

    from dspex_lab.pipelines.files._refs import alike

    class Touchy:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no")

        __hash__ = None  # type: ignore[assignment]

        def method(self) -> int:
            return 1

    def cell(n: Any) -> Callable[[], Any]:
        return lambda: n

    assert alike(functools.partial(tidy, 1), functools.partial(tidy, 1))
    assert not alike(functools.partial(tidy, 1), functools.partial(tidy, 2))
    one, two = Touchy(), Touchy()
    assert alike(one.method, one.method)
    assert not alike(one.method, two.method)
    assert not alike(one, two)
    assert alike(cell(1), cell(1))
    assert not alike(cell(1), cell(2))
    assert not alike(1, True)


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


def test_the_example_of_the_rooms_docstring_is_read_as_it_stands() -> None:
    import textwrap

    from dspex_lab.pipelines import files

    example = textwrap.dedent(str(files.__doc__).split("A file::\n", 1)[1].split("A step is a mapping", 1)[0])
    jsonschema.validate(yaml.safe_load(example), SCHEMA)
    made = load_pipeline(example, functions={"normalise": lambda message: message})
    assert (made.steps["triage"].retries, made.steps["triage"].timeout, made.defaults) == (2, None, {"tone": "friendly"})
    assert made.steps["reply"].target.then.timeout == 20
    equal(made)
