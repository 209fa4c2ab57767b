"""Every knob of every class of programs: found, named, turned in a copy, and sent to a worker."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from expose_programs import MAKERS, Nested, another, embed, examples, make, reward, search, state, travelled

from dspex_lab.errors import VariableError
from dspex_lab.testing import scripted_lm
from dspex_lab.variables import LMChoice, knobs
from dspex_lab.variables.expose import UNSET, adapter_of, apply, build, copy_of, present


def by_path(program: Any, **more: Any) -> dict[str, Any]:
    return {k.path: k for k in knobs(program, **more)}


@pytest.mark.parametrize("name", MAKERS)
def test_every_knob_can_be_turned_in_a_copy_and_the_program_stays_as_it_is(name: str) -> None:
    program = make(name)
    found = knobs(program)
    assert found
    assert len({k.path for k in found}) == len(found)
    before = state(program)
    for knob in found:
        assert knob.domain.equal(knob.domain.cast(knob.read(program), knob.path), present(knob, program)), knob.path
        value = another(knob, program)
        if value is None:
            assert isinstance(knob.domain, LMChoice)
            continue
        made = build(program, {knob.path: value}, found)
        assert knob.domain.equal(present(knob, made), knob.domain.cast(value, knob.path)), knob.path
        others = [k.path for k in found if k.path != knob.path and present(k, made) != present(k, program)]
        assert not others or knob.rank or knob.path.endswith((".module", "M", "module_src", "max_predictor_calls")), knob.path
        assert state(program) == before, knob.path


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_built_and_the_knobs_travel_to_another_process(name: str) -> None:
    program = make(name)
    found = knobs(program)
    values = {k.path: another(k, program) for k in found if k.rank == 0 and another(k, program) is not None}
    values = {path: v for path, v in values.items() if not path.endswith("module_src") and path != "M"}
    built = build(program, values, found)
    if name == "Embeddings":
        assert built.search_fn("aa")  # it searches with its own k; DSPy's own object has a thread and does not travel
        return
    there = travelled(built)
    sent = travelled(found)
    again = {k.path: k for k in knobs(there)}
    assert list(again) == [k.path for k in found]
    for knob in sent:
        if knob.path in values:
            assert knob.domain.equal(present(knob, there), knob.domain.cast(values[knob.path], "x")), knob.path
    assert apply(there, {k.path: present(k, program) for k in found if k.path in values}, sent) is there
    assert [present(k, there) for k in sent] == [present(k, program) for k in found]


def test_predictors_are_named_as_dspy_names_them() -> None:
    program = Nested()
    paths = set(by_path(program))
    for name, _ in program.named_predictors():
        assert f"{name}.instructions" in paths
    assert "stages[0].predict.instructions" in paths
    assert "routes['a b'].say.temperature" in paths
    assert "again.instructions" not in paths
    assert {p for p in by_path(dspy.Predict("q -> a")) if "." not in p} >= {
        "instructions",
        "demos",
        "module",
        "lm",
        "temperature",
    }


def test_a_module_at_two_places_is_one_knob_and_is_exchanged_at_both() -> None:
    program = build(Nested(), {"draft.module": "ChainOfThought"})
    assert isinstance(program.draft, dspy.ChainOfThought)
    assert program.again is program.draft


def test_settings_of_a_users_module_are_what_its_init_gave_and_nothing_else_writes() -> None:
    paths = by_path(Nested())
    assert {"k", "share", "mode", "routes['a b'].strict"} <= set(paths)
    assert not {"calls", "found", "_hidden"} & set(paths)
    assert (paths["share"].domain.low, paths["share"].domain.high) == (0.0, 1.0)
    assert paths["k"].domain.high == 30


def test_a_compiled_module_is_there_and_is_pinned_and_says_why() -> None:
    program = make("compiled")
    assert "routes['a b'].say" not in [n for n, _ in program.named_predictors()]
    knob = by_path(program)["routes['a b'].say.instructions"]
    assert knob.pinned
    assert "compiled" in knob.note
    assert not by_path(program)["draft.instructions"].pinned


def test_settings_that_nobody_made_are_not_the_programs_own() -> None:
    lm = scripted_lm({"answer": "x"}, temperature=0.4, max_tokens=77)
    with dspy.context(lm=lm):
        found = by_path(make("Predict"))
        program = make("Predict")
        assert found["max_tokens"].read(program) == 77
        assert found["temperature"].owned
        assert not found["max_tokens"].owned
        assert found["max_tokens"].own(program) is UNSET
        assert found["seed"].domain.high == 2**31 - 1
        # to say what holds anyway changes nothing
        assert "max_tokens" not in build(program, {"max_tokens": 77}, list(found.values())).config


def test_a_temperature_outside_the_usual_is_in_the_domain() -> None:
    knob = by_path(dspy.Predict("q -> a", temperature=3.5, n=40, stop=["x"], reasoning_effort="most", extra=-4))
    assert knob["temperature"].domain.high == 3.5
    assert knob["n"].domain.high == 40
    assert "most" in knob["reasoning_effort"].domain.options
    assert knob["extra"].domain.low == -40
    assert "stop" not in knob


def test_prefixes_and_the_number_of_chains_are_pinned() -> None:
    found = by_path(make("MultiChainComparison"))
    assert found["M"].pinned
    assert "bring as many" in found["M"].note
    assert found["predict.answer.prefix"].pinned
    wider = build(make("MultiChainComparison"), {"M": 4})
    assert [f for f in wider.predict.signature.input_fields if f.startswith("reasoning_attempt")][-1] == "reasoning_attempt_4"
    assert len(build(wider, {"M": 1}).predict.signature.input_fields) == 2


def test_a_demonstration_that_stays_is_the_object_it_was() -> None:
    class Odd:
        """JSON has not what this demo says of its types."""

    program = dspy.Predict("question -> answer")
    kept, other = examples()[:2]
    program.demos = [kept, other]
    made = build(program, {"demos": [{"question": "new", "answer": "x"}, dict(kept)]})
    assert made.demos[1] is kept
    assert made.demos[0].inputs().toDict() == {"question": "new"}
    assert program.demos == [kept, other]
    program.demos = [dspy.Example(question=Odd(), answer="x")]
    assert "demos" not in by_path(program)


def test_models_have_names_and_copies_share_them() -> None:
    program = Nested()
    one, two = dspy.LM("openai/a", temperature=0.1), dspy.LM("openai/a", temperature=0.9)
    program.draft.lm, program.stages[0].predict.lm = one, two
    found = by_path(program, models={"third": dspy.LM("openai/b")})
    assert found["draft.lm"].domain.names == ("in use", "openai/a", "openai/a (2)", "third")
    assert found["draft.lm"].owned
    made = build(program, {"draft.lm": "openai/a (2)", "stages[0].predict.lm": "in use"}, list(found.values()))
    assert made.draft.lm is two
    assert made.stages[0].predict.lm is None
    assert made.again.lm is two
    assert found["draft.lm"].read(made) == "openai/a (2)"
    # from its name alone, as after a restart, DSPy makes it
    alone = LMChoice(("in use", "openai/zzz"))
    model = found["draft.lm"].read.__self__
    type(model)(model.path, alone, model.at).write(made, "openai/zzz")
    assert made.draft.lm.model == "openai/zzz"
    assert "sub_lm" in by_path(make("RLM"))


def test_an_agent_loses_a_tool_everywhere_and_gets_it_back() -> None:
    program = make("ReAct")
    text = program.react.signature.instructions
    without = build(program, {"tools.search": False})
    assert list(without.tools) == ["look", "finish"]
    assert "(1) search" not in without.react.signature.instructions
    assert "search" not in str(without.react.signature.fields["next_tool_name"].annotation)
    found = knobs(program)  # an agent that lost it cannot say what it was
    both = build(without, {"tools.look": False}, found)
    assert list(both.tools) == ["finish"]
    back = build(both, {"tools.search": True, "tools.look": True}, found)
    assert list(back.tools) == ["search", "look", "finish"]
    assert back.react.signature.instructions == text
    told = build(program, {"react.instructions": "Find it.", "tools.search": False})
    assert told.react.signature.instructions == "Find it."
    assert "search" in build(told, {"tools.search": True}, found).tools


def test_modules_are_exchanged_with_all_that_was_learned() -> None:
    lm = dspy.LM("openai/a")
    program = dspy.Predict("question -> answer", temperature=0.3)
    program.demos, program.lm = examples(), lm
    program.signature = program.signature.with_instructions("Be brief.")
    made = build(program, {"module": "ChainOfThought", "instructions": "Be kind."})
    assert type(made) is dspy.ChainOfThought
    assert made.predict.signature.instructions == "Be kind."
    assert list(made.predict.signature.output_fields) == ["reasoning", "answer"]
    assert (made.predict.config, made.predict.lm) == ({"temperature": 0.3}, lm)
    assert [d is e for d, e in zip(made.predict.demos, program.demos, strict=True)] == [True] * 4
    back = build(made, {"module": "Predict"})
    assert type(back) is dspy.Predict
    assert list(back.signature.output_fields) == ["answer"]
    assert back.config == {"temperature": 0.3}


def test_a_module_of_ones_own_is_an_option() -> None:
    options = {"": {"agent": lambda signature: dspy.ReAct(signature, tools=[search])}, "draft": {"none": dspy.KNN}}
    program = dspy.Predict("question -> answer")
    found = knobs(program, modules=options)
    made = build(program, {"module": "agent", "instructions": "Look it up.", "temperature": 0.9}, found)
    assert type(made) is dspy.ReAct
    assert "Look it up." in made.react.signature.instructions
    assert made.extract.predict.config == made.react.config == {"temperature": 0.9}
    assert {k.path: k for k in found}["module"].read(made) == "agent"
    assert {k.path: k for k in found}["instructions"].read(made) == "Look it up."
    foreign = knobs(program, modules={"": {"other": lambda signature: dspy.Predict("a -> b")}})
    with pytest.raises(VariableError, match="no predictor that gives 'answer'"):
        build(program, {"module": "other"}, foreign)


def test_modules_stay_where_exchanging_them_would_lose_something() -> None:
    class Reads(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.think = dspy.ChainOfThought("q -> a")
            self.plain = dspy.Predict("q -> reasoning, a")

        def forward(self, q: str) -> Any:
            return self.think(q=q).reasoning

    assert not [p for p in by_path(Reads()) if p.endswith("module")]
    assert not [p for p in by_path(make("ReAct")) if p.endswith("module")]
    assert not [p for p in by_path(make("Refine")) if p.endswith("module")]
    assert "module.module" in by_path(make("BestOfN"))
    assert "programs[0].module" in by_path(make("Ensemble"))


def test_a_program_asks_by_its_own_adapter() -> None:
    lm = scripted_lm({"answer": "x"})
    program = dspy.Predict("question -> answer")
    made = build(program, {"adapter": "json"})
    with dspy.context(lm=lm):
        assert copy_of(made)(question="q").answer == "x"
        assert travelled(made).forward.name == "json"
        program(question="q")
    said = [p.text for p in lm.engine.prompts]
    assert "JSON object" in said[0]
    assert "JSON object" not in said[1]
    plain = build(made, {"adapter": "in use"})
    assert "forward" not in vars(plain)
    assert (adapter_of(made), adapter_of(plain)) == ("json", None)
    assert "adapter" not in vars(plain)


async def asked(program: Any) -> Any:
    return (await program.acall(question="q")).answer


def test_an_adapter_stands_around_async_calls_and_a_forward_of_the_instance() -> None:
    import asyncio
    import inspect

    lm = scripted_lm({"answer": "x"})
    made = build(make("Predict"), {"adapter": "json"})
    neighbours = build(make("KNNFewShot"), {"adapter": "json", "knn.k": 1})
    with dspy.context(lm=lm):
        assert asyncio.run(asked(build(dspy.Predict("question -> answer"), {"adapter": "xml"}))) == "x"
        assert neighbours(question="aa").answer == "x"
    assert "<answer>" in lm.engine.prompts[0].text
    assert list(inspect.signature(build(Nested(), {"adapter": "json"}).__dict__["forward"]).parameters) == ["question"]
    assert make("KNNFewShot") is not neighbours
    assert "forward" in vars(build(neighbours, {"adapter": "in use"}))
    assert made.forward.name == "json"
    two = dspy.TwoStepAdapter(lm)
    found = knobs(make("Predict"), adapters={"two": two})
    assert build(make("Predict"), {"adapter": "two"}, found).forward.adapter is two


def test_a_neighbour_search_of_a_copy_is_its_own() -> None:
    program = make("KNNFewShot")
    made = build(program, {"knn.k": 1})
    cell = {n: c.cell_contents for n, c in zip(made.forward.__code__.co_freevars, made.forward.__closure__, strict=True)}
    assert cell["self"].KNN.k == 1
    assert by_path(program)["knn.k"].read(program) == 3
    del made.forward
    with pytest.raises(VariableError, match=r"'knn\.k' is not in the program any more"):
        build(made, {"knn.k": 2}, knobs(program))


def test_embeddings_find_as_many_as_they_are_told() -> None:
    program = Nested()
    program.retrieve = program.also = dspy.Embeddings(["aa", "b", "cc"], embed, k=2)
    made = build(program, {"retrieve.k": 1, "knn.k": 4})
    assert made.retrieve("aa").passages == ["aa"] or len(made.retrieve("aa").passages) == 1
    assert made.also is made.retrieve
    assert len(made.knn(question="aa")) == 4
    assert (program.retrieve.k, program.knn.k) == (2, 2)
    assert by_path(program)["knn.k"].domain.high == 4


def test_what_cannot_be_copied_is_shared() -> None:
    import threading

    class Holds(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()
            self.box = {"locks": [threading.Lock()], "seen": []}
            self.say = dspy.Predict("q -> a")

    program = Holds()
    made = build(program, {"say.temperature": 0.9})
    assert made.lock is program.lock
    assert made.box["seen"] is not program.box["seen"]
    assert made.say is not program.say


def test_what_a_user_keeps_in_a_module_is_copied() -> None:
    program = Nested()
    program.notes = ["x"]
    made = copy_of(program)
    made.notes.append("y")
    assert program.notes == ["x"]


def test_wrong_names_values_and_programs_are_refused_before_anything_is_written() -> None:
    program = Nested()
    with pytest.raises(VariableError, match=r"no knob 'draft.temprature'.*Did you mean 'draft.temperature'"):
        build(program, {"draft.temprature": 1})
    with pytest.raises(VariableError, match=r"draft.temperature.*cannot be 9"):
        apply(program, {"share": 0.9, "draft.temperature": 9})
    assert program.share == 0.25
    with pytest.raises(VariableError, match="Parallel is no DSPy program"):
        knobs(dspy.Parallel())


def test_a_part_that_vanished_is_named() -> None:
    program, found = Nested(), knobs(Nested())
    program.draft = Nested()
    with pytest.raises(VariableError, match=r"'draft.instructions' is not in the program any more.*Nested") as refused:
        build(program, {"draft.instructions": "x"}, found)
    assert "expose the program again" in str(refused.value)
    program.stages = []
    with pytest.raises(VariableError, match=r"stages\[0\].*\[0\]"):
        build(program, {"stages[0].predict.demos": []}, found)
    agent = make("ReAct")
    switch = knobs(agent)
    for broken, path in ((dspy.Predict("question -> answer"), "tools.search"), (dspy.Predict("a -> b"), "max_iters")):
        with pytest.raises(VariableError, match="not in the program"):
            build(broken, {path: False if "tools" in path else 3}, switch)


def test_names_never_clash() -> None:
    class Clash(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.adapter = "mine"
            self.say = dspy.BestOfN(dspy.Predict("q -> a"), 2, reward, 0.1)

    found = by_path(Clash())
    assert {"adapter", "adapter_2"} <= set(found)
    assert found["adapter_2"].read(Clash()) == "mine"


def test_a_signature_written_in_place_is_not_mixed_up_with_one_made_before() -> None:
    program = dspy.Predict("question -> answer")
    one = build(program, {"instructions": "One."})
    one.signature.instructions = "Spoilt."
    assert build(program, {"instructions": "One."}).signature.instructions == "One."
    program.signature.instructions = "Other."
    described = build(program, {"answer.desc": "a word"})
    assert described.signature.instructions == "Other."
    assert described.signature.output_fields["answer"].json_schema_extra["desc"] == "a word"
    assert build(described, {"answer.desc": ""}).signature.output_fields["answer"].json_schema_extra["desc"] == "${answer}"


def test_a_signature_keeps_its_name() -> None:
    class Triage(dspy.Signature):
        """Route."""

        message: str = dspy.InputField()
        team: str = dspy.OutputField()

    made = build(dspy.Predict(Triage), {"instructions": "Route well.", "team.desc": "who"})
    assert made.signature.__name__ == "Triage"
    assert made.signature.instructions == "Route well."
    assert Triage.instructions == "Route."
