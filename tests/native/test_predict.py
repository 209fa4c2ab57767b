"""``NativePredict`` and ``NativeCoT``: what they take, refuse, give back and carry."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.lms import DirectCalls, make_lm
from dspex_lab.native._convert import supports
from dspex_lab.native._predict import NativeCoT, NativePredict
from dspex_lab.native._style import adapter_in_force
from dspex_lab.native._transport import LMCalls, current_transport, use_transport
from dspex_lab.testing import scripted_lm

ANSWER = {"reasoning": "so", "label": "a"}


class Sort(dspy.Signature):
    """Sort a message."""

    text: str = dspy.InputField(desc="what came in")
    label: str = dspy.OutputField()


def test_a_signature_of_any_kind_is_answered() -> None:
    with dspy.context(lm=scripted_lm(ANSWER)):
        for signature in (Sort, "text -> label", dx.signature("text: str -> label: Literal['a', 'b']")):
            assert NativePredict(signature)(text="x") == {"label": "a"}
            assert NativeCoT(signature)(text="x") == {"reasoning": "so", "label": "a"}
            assert asyncio.run(NativeCoT(signature).acall(text="x")) == {"reasoning": "so", "label": "a"}


def test_an_explicit_model_and_adapter_come_before_the_settings() -> None:
    own, other = scripted_lm({"label": "own"}), scripted_lm({"label": "other"})
    with dspy.context(lm=other, adapter=dspy.XMLAdapter()):
        assert NativePredict(Sort, lm=own, adapter="json")(text="x") == {"label": "own"}
        assert NativePredict(Sort, adapter="chat")(text="x") == {"label": "other"}
    assert "JSON object" in own.history[0]["messages"][0]["content"]
    assert "[[ ## completed ## ]]" in other.history[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lm": None}, "There is no model to ask"),
        ({"lm": "openai/x"}, "The model is str, not a dspy.LM"),
        ({"adapter": dspy.XMLAdapter()}, "XMLAdapter has no native equal"),
        ({"adapter": dspy.ChatAdapter(callbacks=[BaseCallback()])}, "callbacks hang on the adapter"),
        ({"adapter": dspy.ChatAdapter(native_response_types=[dspy.Reasoning])}, "native_response_types of its own"),
    ],
)
def test_what_has_no_equal_is_refused_before_anything_is_asked(settings: dict[str, Any], words: str) -> None:
    lm = scripted_lm(ANSWER)
    with dspy.context(**{"lm": lm, **settings}), pytest.raises(ConfigurationError, match=words):
        NativePredict(Sort)(text="x")
    assert lm.engine.calls == 0


def test_an_unknown_adapter_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="adapter='xml' is unknown"):
        NativePredict(Sort, adapter="xml")  # type: ignore[arg-type]


def test_adapters_are_told_apart_by_what_they_do() -> None:
    assert adapter_in_force(None) == adapter_in_force(dspy.ChatAdapter()) == ("chat", False, True)
    assert adapter_in_force(dspy.JSONAdapter()) == ("json", True, False)
    assert adapter_in_force(dspy.ChatAdapter(use_json_adapter_fallback=False)) == ("chat", False, False)


class Own(dspy.Predict):
    def forward(self, **inputs: Any) -> Any:
        return super().forward(**inputs)


class Named(dspy.Predict):
    """Only the name is another."""


def test_a_module_is_taken_over_with_all_it_has() -> None:
    lm = scripted_lm(ANSWER)
    module = dspy.ChainOfThought(Sort, temperature=0.3)
    module.predict.demos, module.predict.lm = [dspy.Example(text="t", reasoning="r", label="b")], lm
    native = NativePredict.from_dspy(module, adapter="json")
    assert isinstance(native, NativeCoT)
    module.predict.demos.clear()
    assert (len(native.demos), native.config, native.lm, native.adapter) == (1, {"temperature": 0.3}, lm, "json")
    back = native.to_dspy()
    assert isinstance(back, dspy.ChainOfThought)
    assert back.predict.signature.equals(native.signature)
    assert (back.predict.config, back.predict.lm) == ({"temperature": 0.3}, lm)
    assert [dict(d.items()) for d in back.predict.demos] == [{"text": "t", "reasoning": "r", "label": "b"}]
    assert type(NativePredict.from_dspy(Named(Sort))) is NativePredict


def refused_modules() -> list[tuple[Any, str]]:
    patched, heard, nested = dspy.Predict(Sort), dspy.Predict(Sort, callbacks=[BaseCallback()]), dspy.ChainOfThought(Sort)
    patched.forward = lambda **inputs: None
    nested.predict = Own(Sort)
    foreign = dspy.ChainOfThought(Sort)
    foreign.predict = dspy.ChainOfThought(Sort)
    decided = dspy.Predict("text -> yes: bool")
    decided.fields = {"yes": {"threshold": 0.7}}
    return [
        (Own(Sort), r"Own defines forward\(\) itself"),
        (patched, r"Predict defines forward\(\) itself"),
        (nested, r"Own defines forward\(\) itself"),
        (foreign, "its predict is ChainOfThought"),
        (heard, "callbacks hang on it"),
        (decided, "criteria for decisions"),
        (dspy.ReAct(Sort, tools=[]), "only dspy.Predict and dspy.ChainOfThought"),
        (3, "int has no native form"),
    ]


@pytest.mark.parametrize(("module", "words"), refused_modules())
def test_a_module_that_does_more_is_refused_with_the_reason(module: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        NativePredict.from_dspy(module)


def test_a_class_takes_over_its_own_kind_alone() -> None:
    with pytest.raises(ConfigurationError, match=r"NativeCoT does not stand for dspy\.Predict"):
        NativeCoT.from_dspy(dspy.Predict(Sort))


@pytest.mark.parametrize("kind", [dspy.Predict, dspy.ChainOfThought])
def test_states_are_dspys_and_can_be_exchanged(kind: Any) -> None:
    module = kind(Sort)
    predictor = module if kind is dspy.Predict else module.predict
    predictor.demos = [dspy.Example(text="t", label="b", augmented=True)]
    predictor.signature = predictor.signature.with_instructions("Sort with care.")
    native = NativePredict.from_dspy(module)
    state = json.loads(json.dumps(native.dump_state()))
    assert state == json.loads(json.dumps(module.dump_state()))
    made = (NativePredict if kind is dspy.Predict else NativeCoT)(Sort, transport=DirectCalls()).load_state(state)
    assert made.signature.instructions == "Sort with care."
    assert isinstance(made.transport, DirectCalls)
    fresh = kind(Sort)
    fresh.load_state(native.dump_state())
    lm = scripted_lm(ANSWER)
    with dspy.context(lm=lm):
        assert dict(fresh(text="x").items()) == made(text="x") == native(text="x")
    assert lm.history[0]["messages"] == lm.history[1]["messages"] == lm.history[2]["messages"]


def test_a_state_of_other_fields_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a signature with 3 fields; this one has 2"):
        NativePredict(Sort).load_state(dspy.Predict("a, b -> c").dump_state())
    state = NativePredict(Sort, lm=scripted_lm(ANSWER)).dump_state()
    with pytest.raises(ValueError, match="Refusing to import custom serialized engine"):
        NativePredict(Sort).load_state(state)
    assert NativePredict(Sort).load_state(state, allow_unsafe_lm_state=True)(text="x") == {"label": "a"}


def test_a_pickle_holds_no_key_and_no_history() -> None:
    lm = scripted_lm(ANSWER)
    native = NativeCoT(
        "text, colour: Literal['r', 'g'], n: int | None -> label: list[str]",
        demos=[dspy.Example(text="t", label=["b"])],
        config={"temperature": 0.1},
        adapter="json",
        transport=DirectCalls(),
    )
    again = pickle.loads(pickle.dumps(native))  # noqa: S301 - our own bytes
    assert repr(again) == repr(native) == "NativeCoT('text, colour, n -> reasoning, label', demos=1)"
    assert again.signature.equals(native.signature)
    with dspy.context(lm=scripted_lm({"reasoning": "so", "label": ["x"]})):
        assert again(text="x", colour="r") == native(text="x", colour="r")
    keyed = NativePredict(Sort, lm=dspy.LM("openai/gpt-5-mini", api_key="sk-secret"))
    assert b"sk-secret" not in pickle.dumps(keyed)
    again = pickle.loads(pickle.dumps(keyed))  # noqa: S301 - our own bytes
    assert again.lm.model == "openai/gpt-5-mini"
    own = NativePredict(Sort, lm=lm)
    own(text="unforgettable")
    data = pickle.dumps(own)
    assert b"unforgettable" not in data
    again = pickle.loads(data)  # noqa: S301 - our own bytes
    assert again(text="x") == {"label": "a"}


def test_changing_what_was_sent_changes_nothing_for_the_next_call() -> None:
    lm = scripted_lm(ANSWER)
    native = NativePredict(Sort, demos=[{"text": "t", "label": "b"}], lm=lm, config={"stop": ["x"]})
    native(text="x")
    before = [dict(m) for m in lm.history[0]["messages"]]
    for message in lm.history[0]["messages"]:
        message["content"] = "changed"
    native(text="x")
    assert lm.history[1]["messages"] == before


def test_many_threads_share_one() -> None:
    lm = scripted_lm(lambda prompt: {"label": prompt.question["text"]})
    native = NativePredict(Sort, lm=lm)
    barrier = threading.Barrier(4)

    def ask(number: int) -> str:
        if number < 4:
            barrier.wait()
        return native(text=str(number))["label"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(40))) == [str(n) for n in range(40)]


def test_the_default_way_to_a_model_can_be_set() -> None:
    class Counted(LMCalls):
        count = 0

        def call(self, *args: Any) -> list[Any]:
            Counted.count += 1
            return super().call(*args)

    before = current_transport[0]
    try:
        use_transport(Counted())
        assert NativePredict(Sort, lm=scripted_lm(ANSWER))(text="x") == {"label": "a"}
    finally:
        use_transport(before)
    assert Counted.count == 1


def test_nothing_of_dspy_is_loaded_to_say_what_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = dx.signature("text -> label")
    monkeypatch.delitem(sys.modules, "dspy")
    assert supports(contract) is None
    assert "dspy" not in sys.modules


def test_a_slow_look_at_what_a_model_can_do_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    lm = scripted_lm(ANSWER)
    model = dspy.LM("openai/gpt-4o-mini", api_key="none", cache=False, num_retries=0)

    class Answers(LMCalls):
        async def acall(self, asked: Any, messages: Any, config: Any) -> list[Any]:
            return await super().acall(lm, messages, {})

        def call(self, asked: Any, messages: Any, config: Any) -> list[Any]:
            return super().call(lm, messages, {})

    ask = type(model).supported_params.fget
    main = threading.get_ident()
    monkeypatch.setattr(
        dspy.LM, "supported_params", property(lambda self: (seen.append(threading.get_ident() == main), ask(self))[1])
    )
    native = NativePredict(Sort, lm=model, adapter="json", transport=Answers())
    assert asyncio.run(native.acall(text="x")) == native(text="x") == {"label": "a"}
    assert seen == [False, True]


TRAIN = [
    dspy.Example(text=text, label=label).with_inputs("text")
    for text, label in [
        ("my card is lost", "card"),
        ("refund my bill", "bill"),
        ("card stolen", "card"),
        ("wrong bill", "bill"),
    ]
]


def right(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.label == prediction.label)


@pytest.mark.parametrize("kind", [dspy.Predict, dspy.ChainOfThought])
@pytest.mark.parametrize(
    "optimizer", [dspy.LabeledFewShot(k=3), dspy.BootstrapFewShot(metric=right, max_bootstrapped_demos=2, max_labeled_demos=3)]
)
def test_an_optimized_program_predicts_the_same_natively(kind: Any, optimizer: Any) -> None:
    with dspy.context(lm=make_lm("offline")):
        program = optimizer.compile(kind("text -> label"), trainset=TRAIN)
        native = NativePredict.from_dspy(program)
        assert native.demos
        for text in ("where is my card", "the bill is wrong", "hello"):
            assert native(text=text) == dict(program(text=text).items())
