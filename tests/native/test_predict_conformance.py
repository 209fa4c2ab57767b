"""``NativePredict`` and ``NativeCoT`` against DSPy's ``Predict`` and ``ChainOfThought``: same requests, same answers."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import keyword
from collections.abc import Sequence
from typing import Any, Literal

import dspy
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predict_helpers import ABILITIES, ADAPTERS, CASES, PIXEL, PLAIN, Colour, Order, Place, Rich, chat, spy_lm

from dspex_lab.lms import DirectCalls
from dspex_lab.native._predict import NativeCoT, NativePredict
from dspex_lab.native._transport import LMCalls


def outcome(work: Any) -> Any:
    """Return what a program gave, or its error as class and words."""
    try:
        return dict(work().items())
    except Exception as error:
        return type(error), str(error), str(getattr(error, "lm_response", "")), getattr(error, "adapter_name", None)


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in entry.items() if k not in ("uuid", "timestamp")}
    shape = kept["kwargs"].get("response_format")
    if isinstance(shape, type):
        kept["kwargs"] = {**kept["kwargs"], "response_format": shape.model_json_schema()}
    return kept


TRANSPORTS = [DirectCalls(), LMCalls()]


def compare(
    module: Any,
    inputs: dict[str, Any],
    replies: Sequence[str | Exception],
    adapter: Any = None,
    abilities: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Run DSPy's module and its native form, sync and async; return the outcome, which all share."""
    native = NativePredict.from_dspy(module)
    seen = []
    runs = [(module, None), *((native, transport) for transport in TRANSPORTS)]
    for program, transport in runs:
        for asynchronous in (False, True):
            if transport is not None:
                native.transport = transport
            lm = spy_lm(replies, abilities, **options)
            work = (lambda p=program: asyncio.run(p.acall(**inputs))) if asynchronous else (lambda p=program: p(**inputs))
            with dspy.context(lm=lm, adapter=adapter):
                found = outcome(work)
            seen.append((found, lm.engine.requests, [_plain(entry) for entry in lm.history]))
    first = seen[0]
    for other in seen[1:]:
        assert other[0] == first[0]
        assert other[1] == first[1], "the requests an engine sees"
        assert other[2] == first[2], "the history"
    return first[0]


@pytest.mark.parametrize("kind", [dspy.Predict, dspy.ChainOfThought], ids=["predict", "chain of thought"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("case", CASES)
def test_requests_and_answers_are_those_of_dspy(case: str, adapter: str, kind: Any) -> None:
    signature, inputs, in_chat, in_json = CASES[case]
    module = kind(signature)
    in_chat = in_chat if kind is dspy.Predict else chat(reasoning="so")[: -len("[[ ## completed ## ]]\n")] + in_chat
    in_json = in_json if kind is dspy.Predict else '{"reasoning": "so", ' + in_json[1:]
    answer = compare(module, inputs, [in_json if "json" in adapter else in_chat], ADAPTERS[adapter])
    wanted = list((module if kind is dspy.Predict else module.predict).signature.output_fields)
    assert list(answer) == wanted, "all fields, in the order of the signature"


@pytest.mark.parametrize("abilities", ABILITIES)
@pytest.mark.parametrize("case", ["plain", "many types", "models"])
def test_a_model_that_can_write_json_is_asked_for_it(case: str, abilities: str) -> None:
    signature, inputs, _, in_json = CASES[case]
    module = dspy.Predict(signature)
    answer = compare(module, inputs, [in_json], dspy.JSONAdapter(), ABILITIES[abilities])
    assert isinstance(answer, dict)
    # The second try of the chat format asks in the same way.
    assert compare(module, inputs, ["nothing", in_json], None, ABILITIES[abilities]) == answer


class Strange:
    def __repr__(self) -> str:
        return "<strange>"


SHOWN = [
    [], ["one"], ["one", "two\nlines", "«three»"], [1], 3, 2.0, float("nan"), float("inf"), True, None, b"\xff", Strange(),
    {"a": Strange(), "b": {1, 2}}, {(1, 2): 3}, Colour.RED, [Place(city="x"), None], datetime.date(2026, 1, 2), type,
    "  padded  ", dspy.Example(a=1), Order(place=Place(city="x")), complex(1, 2),
    [Strange()], dspy.Code(code="x = 1"), {"ü": "«»"},
]  # fmt: skip


@pytest.mark.parametrize("adapter", ["default", "json"])
@pytest.mark.parametrize("value", SHOWN, ids=range(len(SHOWN)))
def test_any_value_is_shown_as_dspy_shows_it(value: Any, adapter: str) -> None:
    module = dspy.Predict("question, context: list[str] -> answer")
    module.demos = [{"question": value, "context": value, "answer": value}, {"question": "q", "answer": value}]
    history = dspy.Predict(Chatty)
    reply = '{"answer": "a", "score": 1}' if adapter == "json" else chat(answer="a", score=1)
    compare(module, {"question": value, "context": value}, [reply], ADAPTERS[adapter])
    turns = dspy.History(messages=[{"question": value, "answer": value}])
    compare(history, {"question": "q", "history": turns, "mood": None}, [reply], ADAPTERS[adapter])


DEMOS: dict[str, list[Any]] = {
    "complete": [dspy.Example(question="1", answer="one"), dspy.Example(question="2", answer="two").with_inputs("question")],
    "incomplete": [{"question": "1", "context": "c"}, {"question": None, "answer": "x"}, {"answer": "only"}, {"question": "q"}],
    "mixed": [{"question": "1", "answer": "x"}, dspy.Example(question="2", answer="one", context="c", augmented=True)],
    "other types": [
        {"question": 3, "context": ["a", "b"], "answer": {"a": [1]}},
        {"question": ["x"], "answer": None, "context": ""},
    ],
    "image": [{"question": PIXEL, "context": "c", "answer": "a"}],
}


@pytest.mark.parametrize("adapter", ["default", "json"])
@pytest.mark.parametrize("demos", DEMOS)
def test_demonstrations_are_shown_as_dspy_shows_them(demos: str, adapter: str) -> None:
    module = dspy.Predict("question, context -> answer")
    module.demos = DEMOS[demos]
    reply = '{"answer": "a"}' if adapter == "json" else chat(answer="a")
    assert compare(module, {"question": "q", "context": "c"}, [reply], ADAPTERS[adapter]) == {"answer": "a"}


class Chatty(dspy.Signature):
    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    mood: str | None = dspy.InputField()
    answer: str = dspy.OutputField()
    score: int = dspy.OutputField()


TURNS: list[Any] = [
    [],
    [{"question": "1", "answer": "one", "score": 3}, {"question": "2", "answer": "two"}],
    [{"answer": "said first"}, {"mood": None}, {"question": PIXEL, "answer": "a", "score": 1}],
    [{"question": "1", "answer": "x", "calls": {"tool_calls": [{"name": "f", "args": {"x": 1}}]}}],
    [{"question": "1", "calls": dspy.ToolCalls.from_dict_list([{"id": "7", "name": "f", "args": {}}])}],
]


@pytest.mark.parametrize("adapter", ["default", "chat with tool calls", "json"])
@pytest.mark.parametrize("turns", TURNS, ids=range(len(TURNS)))
def test_a_conversation_is_told_as_dspy_tells_it(turns: Any, adapter: str) -> None:
    replies = ['{"answer": "a", "score": 1}' if adapter == "json" else chat(answer="a", score=1)]
    inputs = {"question": "q", "history": dspy.History(messages=turns), "mood": "calm"}
    assert compare(dspy.Predict(Chatty), inputs, replies, ADAPTERS[adapter]) == {"answer": "a", "score": 1}
    assert isinstance(compare(dspy.Predict(Chatty), {"question": "q"}, replies, ADAPTERS[adapter]), dict)


@pytest.mark.parametrize(
    "inputs",
    [{}, {"question": None}, {"question": "q", "notes": "n", "more": 1}, {"notes": [1, None]}, {"question": 1.5, "limit": 9}],
    ids=str,
)
def test_missing_and_unknown_inputs_are_taken_as_dspy_takes_them(inputs: dict[str, Any], caplog: Any) -> None:
    assert compare(dspy.Predict(Rich), inputs, [chat(answer="a", sure=1)]) == {"answer": "a", "sure": 1.0}


def test_what_was_wrong_with_the_inputs_is_told_in_the_log(caplog: Any) -> None:
    native = NativePredict(Rich)
    with dspy.context(lm=spy_lm([chat(answer="a", sure=1)])):
        native(question="q", more=1)
    assert "no input ['more']" in caplog.text
    assert "Input ['notes'] was not given" in caplog.text


MALFORMED = [
    "",
    "no field",
    "[[ ## answer ## ]]",
    "[[ ## sure ## ]]\n0.5",
    chat(answer="a", sure="half"),
    chat(sure=0.5, answer="a"),
    chat(answer="a", sure="0.5 or so"),
    chat(answer="first", sure=1) + chat(answer="second", sure=2),
    "  [[ ## answer ## ]] same line\n   more\n[[ ## sure ## ]] 1\n[[ ## other ## ]]\nx",
    "Sure!\n```\n[[ ## answer ## ]]\nx\n[[ ## sure ## ]]\n```json\n0.25\n```",
    '{"answer": "a", "sure": 1}',
    '{"answer": "a", "sure": "x"}',
    '{"answer": "a"}',
    'Here: {"answer": "a", "sure": 1, "extra": {"x": 1}} ok',
    '["answer", {"answer": "a", "sure": 1}]',
    "{'answer': 'a', 'sure': .5,}",
    "[1, 2",
    '{"answer": {"nested": 1}, "sure": [1]}',
    '"just text"',
    "[" * 3000,
    "[[ ## answer ## ]]\n\x85\x1c\u2028x\r\n[[ ## sure ## ]]\n1e400",
]


@pytest.mark.parametrize("adapter", ["default", "chat alone", "json"])
@pytest.mark.parametrize("reply", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_malformed_ends_as_in_dspy(reply: str, adapter: str) -> None:
    module = dspy.Predict(Rich)
    compare(module, {"question": "q", "notes": ["n"]}, [reply], ADAPTERS[adapter])
    compare(module, {"question": "q", "notes": ["n"]}, [reply, '{"answer": "a", "sure": 0}'], ADAPTERS[adapter])


VALUES = [
    "3", " 3 ", "'3'", '"a"', "Literal[a]", "Literal['a']", "str[b]", "it's", "None", "null", "", "true", "[1, 2]", "{'a': 1}",
    "RED", "red", "(1, 'x')", "1,2", "{", "\\", "1_000", "0x10", "NaN", "1e5", "a, b", '{"city": "x"}', "Place(city='x')", "2",
]  # fmt: skip


@pytest.mark.parametrize(
    "annotation",
    [str, int, float, bool, Literal["a", "b", "it's"], Literal[1, 2, "3"], Literal[True, None], Colour, list[int], list[str],
     dict[str, int], tuple[int, str], set[int], Place, int | None, int | str, str | None, Any, dspy.Code,
     list[Place], Literal["[x]"], dspy.Image, pydantic.conint(ge=2), enum.IntEnum("Size", "SMALL LARGE")],
    ids=str,
)  # fmt: skip
def test_each_value_is_read_or_refused_as_dspy_does(annotation: Any) -> None:
    module = dspy.Predict(dspy.Signature({"q": (str, dspy.InputField()), "value": (annotation, dspy.OutputField())}))
    native = NativePredict.from_dspy(module)
    forms = [(chat(value=v), dspy.ChatAdapter(use_json_adapter_fallback=False)) for v in VALUES]
    forms += [
        (f'{{"value": {v}}}', dspy.JSONAdapter()) for v in ('"3"', "3", "1.0", "null", "[1]", '"red"', "{}", "true", '""')
    ]
    for reply, adapter in forms:
        found = []
        for program in (module, native):
            with dspy.context(lm=spy_lm([reply]), adapter=adapter):
                found.append(outcome(lambda p=program: p(q="x")))
        assert repr(found[0]) == repr(found[1]), reply


class Defaults(dspy.Signature):
    q: str = dspy.InputField()
    a: str = dspy.OutputField()
    b: int = dspy.OutputField(default=7)
    c: list[str] = dspy.OutputField(default_factory=list)
    d: str | None = dspy.OutputField()


def test_fields_that_may_be_left_out_get_what_dspy_gives_them() -> None:
    assert compare(dspy.Predict(Defaults), {"q": "x"}, [chat(a="a")]) == {"a": "a", "b": 7, "c": [], "d": None}
    in_json = dspy.JSONAdapter()
    assert compare(dspy.Predict(Defaults), {"q": "x"}, ['{"a": 1, "d": "x"}'], in_json) == {"a": "1", "b": 7, "c": [], "d": "x"}


@pytest.mark.parametrize("abilities", [{}, {"supports_reasoning": True}], ids=["without", "with reasoning"])
@pytest.mark.parametrize("effort", [..., None, "high"])
def test_a_model_that_reasons_by_itself_is_let_do_so(abilities: dict[str, Any], effort: Any) -> None:
    module = dspy.ChainOfThought(PLAIN, rationale_field_type=dspy.Reasoning)
    if effort is not ...:
        module.predict.config = {"reasoning_effort": effort}
    thought = chat(reasoning="said", answer="yes")
    answer = compare(module, {"question": "q"}, [f"thinking hard\0{thought}"], None, abilities)
    assert answer["answer"] == "yes"
    assert answer["reasoning"] == "thinking hard"
    compare(module, {"question": "q"}, [thought], None, abilities)
    compare(module, {"question": "q"}, ["nothing", '{"answer": "a"}'], None, abilities)


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": 0.5, "max_tokens": 30},
        {"n": 3},
        {"n": 2, "temperature": 1.0},
        {"logprobs": True},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"parallel_tool_calls": True, "tool_choice": None},
        {"stop": ["x"], "seed": 3, "top_p": 0.5},
        {"rollout_id": 5, "temperature": 1.0},
        {"rollout_id": None},
        {"unknown_setting": 1},
        {"temperature": "hot"},
        {"api_key": "k"},
        {"cache": True, "rollout_id": 1, "temperature": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("adapter", ["default", "chat with tool calls"])
def test_settings_of_a_call_reach_the_engine(config: dict[str, Any], adapter: str) -> None:
    module = dspy.Predict(PLAIN, **config)
    if config.get("cache"):
        module.config = {**config, "cache": False}
    compare(module, {"question": "q"}, [chat(answer="a"), chat(answer="b"), chat(answer="c")], ADAPTERS[adapter])


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {"n": 2}, {"max_tokens": 5, "stop": ["x"]}, {"model_type": "responses"}, {"top_p": 1}],
    ids=str,
)
def test_settings_of_the_model_reach_the_engine(options: dict[str, Any]) -> None:
    compare(dspy.Predict(PLAIN), {"question": "q"}, [chat(answer="a"), chat(answer="b")], **options)


@pytest.mark.parametrize("text", ["\ud800", "ä\ud800", "é", "😀", ""], ids=ascii)
def test_text_of_any_kind_is_sent_or_refused_as_in_dspy(text: str) -> None:
    compare(dspy.Predict(PLAIN), {"question": text}, [chat(answer="a")])


def test_errors_of_an_engine_are_those_of_dspy() -> None:
    from dspy import lm15

    for error in (ValueError("bug"), lm15.RateLimitError("slow down"), lm15.AuthError("no"), TimeoutError("late")):
        found = compare(dspy.Predict(PLAIN), {"question": "q"}, [error])
        assert issubclass(found[0], dspy.LMError)


names = st.from_regex(r"[a-z][a-z_]{0,6}[a-z]", fullmatch=True).filter(
    lambda n: (
        not keyword.iskeyword(n)
        and n not in dspy.Prediction.__dict__
        and n not in ("config", "demos", "lm", "signature", "logprobs", "prediction")
    )
)
types = st.sampled_from(
    ["str", "int", "float", "bool", "list[str]", "dict[str, int]", "Optional[int]", "Literal['a', 'b']", "list[float]"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def questions(draw: Any) -> tuple[str, list[str], list[str], Any]:
    fields = draw(st.lists(names, min_size=2, max_size=5, unique=True))
    cut = draw(st.integers(1, len(fields) - 1))
    typed = [f"{n}: {draw(types)}" for n in fields]
    return ", ".join(typed[:cut]) + " -> " + ", ".join(typed[cut:]), fields[:cut], fields[cut:], draw(st.data())


@settings(max_examples=80, deadline=None)
@given(questions(), st.booleans())
def test_any_signature_demonstrations_inputs_and_answer_agree(question: Any, in_json: bool) -> None:
    text, ins, outs, data = question
    module = dspy.Predict(text)
    module.demos = data.draw(st.lists(st.dictionaries(st.sampled_from([*ins, *outs]), values, min_size=1), max_size=3))
    inputs = {name: data.draw(values) for name in ins}
    pieces = [*outs, "\n", "[", "]", '"', "{", "1", "0.5", "a", "true", "```"]
    raw = st.lists(st.sampled_from([p for n in outs for p in (f"[[ ## {n} ## ]]\n", f'"{n}": ')] + pieces), max_size=14)
    written = st.just(chat(**{n: data.draw(values) for n in outs}))
    as_json = st.just(json.dumps({n: data.draw(values) for n in outs}))
    reply = data.draw(raw.map("".join) | written | as_json)
    adapter = dspy.JSONAdapter() if in_json else None
    native = NativePredict.from_dspy(module)
    native.transport = DirectCalls()
    seen = []
    for program in (module, native):
        lm = spy_lm([reply])
        with dspy.context(lm=lm, adapter=adapter):
            seen.append((repr(outcome(lambda p=program: p(**inputs))), lm.engine.requests))
    assert seen[0] == seen[1]


def test_cot_is_made_of_the_signature_alone() -> None:
    native = NativeCoT(PLAIN)
    assert list(native.signature.output_fields) == ["reasoning", "answer"]
    compare(native.to_dspy(), {"question": "q"}, [chat(reasoning="r", answer="a")])
