"""Agents with real tools: DSPy's ReAct and ReActV2, tool calls as a field, and native function calling."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import dspy
import pytest
from dspy.lm15 import Config, FunctionTool, Message, Request, ToolCallPart, ToolChoice

from dspex_lab.lms import ExemplarEngine, make_lm
from dspex_lab.lms.exemplar._agent import next_step, sum_of
from dspex_lab.lms.exemplar._arithmetic import evaluate
from dspex_lab.lms.exemplar._tools import arguments_for, fits, told_tools, tool_of
from dspex_lab.lms.exemplar._trajectory import call_of, read_results, read_trajectory

PRICES = {"tea": 2.5, "coffee": 3.0, "green apples": 1.25}
ROWS = [
    {"name": "Ada Lind", "city": "Bergen", "born": 1981},
    {"name": "Bo Dahl", "city": "Oslo", "born": 1990},
    {"name": "Cy Moe", "city": "Bergen", "born": 1975},
]


def calculator(expression: str) -> float:
    """Evaluate an arithmetic expression such as 2 * (3 + 4)."""
    return evaluate(expression)


def price_of(item: str) -> float:
    """Look up the price of an item of the shop."""
    return PRICES[item]


def search_people(query: str, limit: int = 5) -> list[dict[str, Any]]:
    """Search the register of people by any words of their entry, such as name or city."""
    return [row for row in ROWS if any(w in str(row).lower() for w in query.lower().split())][:limit]


TOOLS = [calculator, price_of, search_people]
QUESTIONS = [
    ("What is 12 * (3 + 4)?", "84"),
    ("What is 15% of 80?", "12"),
    ("What is the price of coffee?", "3"),
    ("How much do green apples cost?", "1.25"),
    ("Who in the register lives in Oslo?", "Bo Dahl"),
    ("When was Bo Dahl born?", "1990"),
    ("What is the price of tea times 3?", "7.5"),
    ("What is the sum of the price of tea and the price of coffee?", "5.5"),
]
ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter(), dspy.ChatAdapter(use_native_function_calling=True)]
NAMES = ["chat", "json", "xml", "native"]


@pytest.fixture(autouse=True)
def offline() -> Iterator[dspy.LM]:
    lm = make_lm("offline")
    with dspy.context(lm=lm):
        yield lm


def same(found: str, wanted: str) -> bool:
    try:
        return float(found) == float(wanted)
    except ValueError:
        return found == wanted


def steps(found: Any) -> list[str]:
    return [value for name, value in found.trajectory.items() if name.startswith("tool_name_")]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=NAMES)
@pytest.mark.parametrize(("question", "answer"), QUESTIONS)
def test_react_solves_simple_questions(adapter: Any, question: str, answer: str) -> None:
    with dspy.context(adapter=adapter):
        found = dspy.ReAct("question -> answer", tools=TOOLS, max_iters=10)(question=question)
    assert same(found.answer, answer)
    assert steps(found)[-1] == "finish"
    assert len(steps(found)) <= 5


@pytest.mark.parametrize("adapter", ADAPTERS, ids=NAMES)
@pytest.mark.parametrize(("question", "answer"), QUESTIONS[::2])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_second_react_solves_them_too(adapter: Any, question: str, answer: str) -> None:
    with dspy.context(adapter=adapter):
        found = dspy.ReActV2("question -> answer", tools=TOOLS, max_iters=8)(question=question)
    assert same(str(found.answer), answer)
    assert found.termination_reason == "submit"


def test_answers_of_an_agent_have_their_type() -> None:
    found = dspy.ReAct("question -> total: float", tools=TOOLS)(question="What is the price of tea times 3?")
    assert found.total == 7.5
    assert "tools gave" in found.reasoning


def test_an_agent_works_asynchronously() -> None:
    found = asyncio.run(dspy.ReAct("question -> answer", tools=TOOLS).acall(question="What is the price of coffee?"))
    assert same(found.answer, "3")


def test_what_no_tool_knows_ends_the_work() -> None:
    found = dspy.ReAct("question -> answer", tools=TOOLS, max_iters=30)(question="What is the price of whisky?")
    assert found.answer == "Nothing was found."
    assert steps(found)[-1] == "finish"
    assert len(steps(found)) <= 8
    calls = [(found.trajectory[f"tool_name_{i}"], str(found.trajectory[f"tool_args_{i}"])) for i in range(len(steps(found)))]
    assert len(set(calls)) == len(calls)


def test_tools_are_told_apart_by_their_descriptions() -> None:
    def first(word: str) -> str:
        """Translate a word to German."""
        return f"german {word}"

    def second(word: str) -> str:
        """Count the letters of a word."""
        return str(len(word))

    program = dspy.ReAct("question -> answer", tools=[first, second])
    assert program(question='Translate "house" to German').answer == "german house"
    assert program(question='Count the letters of "house"').answer == "5"


def test_two_tools_are_used_where_both_are_asked_for() -> None:
    def weather(city: str) -> str:
        """Give the weather in a city."""
        return f"rain in {city}"

    def population(city: str) -> str:
        """Give the population of a city."""
        return f"{city} has 700,000 inhabitants"

    found = dspy.ReAct("question -> answer", tools=[weather, population])(
        question="What is the weather and the population of Oslo?"
    )
    assert set(steps(found)) == {"weather", "population", "finish"}


def test_arguments_are_filled_by_type_and_name() -> None:
    def book(
        city: str, date: str, nights: int, board: Literal["none", "breakfast", "full"] = "none", email: str = "", note: str = ""
    ) -> str:
        """Book a room in a city."""
        return "booked"

    tool = dspy.Tool(book)
    (known,) = told_tools(f"(1) {tool}")
    given = arguments_for(known, "Book a room in Bergen for 3 nights from 12 May 2025 with full board, for ann@x.org")
    assert given == {"city": "Bergen", "date": "12 May 2025", "nights": 3, "board": "full", "email": "ann@x.org"}


def test_other_types_of_arguments_are_filled() -> None:
    properties = {
        "numbers": {"type": "array", "items": {"type": "number"}},
        "names": {"type": "array", "items": {"type": "string"}},
        "exact": {"type": "boolean"},
        "options": {"type": "object"},
        "year": {"type": "integer", "description": "the year"},
        "rest": {"type": "array", "default": []},
    }
    tool = tool_of("mean", "Mean of numbers", properties, ["numbers", "names", "exact", "options", "year"])
    given = arguments_for(tool, "of 3 and 4.5 for Anna Berg in the year 1999")
    assert given is not None
    assert given["numbers"] == [3.0, 4.5, 1999.0]
    assert given["names"] == ["Anna Berg"]
    assert given["exact"] is True
    assert given["options"] == {}
    assert given["year"] == 1999


def test_a_call_that_cannot_be_filled_is_not_made() -> None:
    tool = tool_of("add", "Add two numbers", {"a": {"type": "number"}, "b": {"type": "number"}}, ["a", "b"])
    assert arguments_for(tool, "add 3 to it") is None
    assert arguments_for(tool, "add 3 and 4") == {"a": 3.0, "b": 4.0}
    assert next_step("add 3 to it", [tool], []).tool is None
    assert next_step("anything", [], []).tool is None


def test_a_number_by_the_arguments_name_is_its_own() -> None:
    tool = tool_of("trip", "Plan a trip", {"days": {"type": "integer"}, "people": {"type": "integer"}}, ["days", "people"])
    assert arguments_for(tool, "a trip for 2 people, 5 days") == {"days": 5, "people": 2}


def test_descriptions_without_arguments_or_with_broken_ones_are_read() -> None:
    plain, broken = told_tools("now. It takes arguments {}.\nodd. It takes arguments {'a': oops}.")
    assert (plain.name, plain.arguments, broken.arguments) == ("now", (), ())
    assert arguments_for(plain, "what time is it") == {}
    assert fits([], "x").size == 0


@pytest.mark.parametrize(
    ("request_", "form"),
    [
        ("the price of tea times 3", "{} * {}"),
        ("the price of tea plus the price of milk", "{} + {}"),
        ("the difference between the price of tea and the price of milk", "abs({} - {})"),
        ("what is 3 plus 4", None),
        ("who lives in Oslo?", None),
    ],
)
def test_sums_over_things_to_look_up_are_taken_apart(request_: str, form: str | None) -> None:
    planned = sum_of(request_)
    assert (planned.form if planned else None) == form


def test_trajectories_are_read() -> None:
    chat = (
        '[[ ## thought_0 ## ]]\nso\n\n[[ ## tool_name_0 ## ]]\nfind\n\n[[ ## tool_args_0 ## ]]\n{"q": "x"}\n\n'
        "[[ ## observation_0 ## ]]\nnot found\n\n[[ ## tool_name_1 ## ]]\nfind\n\n[[ ## tool_args_1 ## ]]\n[broken\n\n"
        "[[ ## observation_1 ## ]]\n42"
    )
    first, second = read_trajectory(chat)
    assert (first.name, first.arguments, first.failed) == ("find", {"q": "x"}, True)
    assert (second.arguments, second.result, second.failed) == ({}, "42", False)
    xml = "<tool_name_0>\nfind\n</tool_name_0>\n<tool_args_0>\n{}\n</tool_args_0>\n<observation_0>\n7\n</observation_0>"
    assert [c.result for c in read_trajectory(xml)] == ["7"]
    assert read_trajectory("nothing yet") == []
    assert read_results("no results") == []


@pytest.mark.parametrize(
    ("result", "failed"),
    [("Execution error in x: …", True), ("[]", True), ("None", True), ("no rows", True), ("Oslo", False), ("0", False)],
)
def test_calls_in_vain_are_recognised(result: str, failed: bool) -> None:
    assert call_of("f", {}, result).failed is failed


def test_tool_calls_are_a_field(offline: dspy.LM) -> None:
    tools = [dspy.Tool(t) for t in TOOLS]
    signature = "question, tools: list[dspy.Tool] -> outputs: dspy.ToolCalls"
    for adapter in ADAPTERS:
        with dspy.context(adapter=adapter):
            found = dspy.Predict(signature)(question="What is the price of tea?", tools=tools).outputs
        assert [(c.name, c.args) for c in found.tool_calls] == [("price_of", {"item": "tea"})]


def test_beside_native_calls_other_fields_are_answered() -> None:
    with dspy.context(adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        found = dspy.Predict("question, tools: list[dspy.Tool] -> topic, reasoning: str, calls: dspy.ToolCalls")(
            question="What is the price of tea?", tools=[dspy.Tool(price_of)]
        )
    assert found.calls.tool_calls[0].name == "price_of"
    assert "price_of" in found.reasoning
    assert found.topic


PRICE = FunctionTool(
    "price_of",
    "Look up the price of an item.",
    {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]},
)
CLOCK = FunctionTool("clock", None, {"type": "object"})


def ask(*messages: Message, choice: ToolChoice | None = None, tools: tuple[FunctionTool, ...] = (PRICE,)) -> Any:
    request = Request(model="offline/exemplar", messages=messages, tools=tools, config=Config(tool_choice=choice))
    return ExemplarEngine().complete(request)


def test_a_plain_request_with_tools_is_answered_by_a_call_and_then_in_words() -> None:
    first = ask(Message.user("What is the price of tea?"))
    (call,) = [p for p in first.message.parts if p.type == "tool_call"]
    assert (first.finish_reason, call.name, call.input) == ("tool_call", "price_of", {"item": "tea"})
    assert first.usage.output_tokens > 0
    then = ask(Message.user("What is the price of tea?"), first.message, Message.tool(call.id, "2.5"))
    assert (then.finish_reason, then.text) == ("stop", "2.5")
    said = "The shop sells tea for $2.50 and it also sells milk, bread, butter, jam, salt and pepper every day."
    longer = ask(Message.user("What is the price of tea?"), first.message, Message.tool(call.id, said))
    assert "$2.50" in longer.text


def test_a_new_question_forgets_the_calls_for_the_last_one() -> None:
    call = ToolCallPart(id="1", name="price_of", input={"item": "tea"})
    found = ask(
        Message.user("What is the price of tea?"),
        Message.assistant([call]),
        Message.tool("1", "2.5"),
        Message.user("And what is the price of milk?"),
    )
    (again,) = [p for p in found.message.parts if p.type == "tool_call"]
    assert again.input == {"item": "milk"}
    assert again.id == "call_2"


def test_the_choice_of_tools_is_obeyed() -> None:
    asked = Message.user("What is the price of tea?")
    none = ask(asked, choice=ToolChoice(mode="none"))
    assert none.finish_reason == "stop"
    only = ask(asked, tools=(PRICE, CLOCK), choice=ToolChoice(mode="required", allowed=("clock",)))
    assert [p.name for p in only.message.parts if p.type == "tool_call"] == ["clock"]
    done = (asked, Message.assistant([ToolCallPart(id="1", name="clock", input={})]), Message.tool("1", "noon"))
    assert ask(*done, tools=(CLOCK,)).text == "noon"
    assert ask(*done, tools=(CLOCK,), choice=ToolChoice(mode="required")).finish_reason == "tool_call"


def test_a_call_that_must_be_made_is_made_with_what_fits() -> None:
    add = FunctionTool("add", "Add.", {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]})
    found = ask(Message.user("hello"), tools=(add,), choice=ToolChoice(mode="required"))
    (call,) = [p for p in found.message.parts if p.type == "tool_call"]
    assert call.name == "add"
    assert isinstance(call.input["a"], float)


def test_calls_are_streamed() -> None:
    request = Request(model="offline/exemplar", messages=(Message.user("price of tea?"),), tools=(PRICE,))
    events = list(ExemplarEngine().stream(request))
    (delta,) = [e.delta for e in events if e.type == "delta" and e.delta.type == "tool_call"]
    assert (delta.name, json.loads(delta.input)) == ("price_of", {"item": "tea"})
    assert events[-1].finish_reason == "tool_call"


def test_no_result_at_all_leads_to_an_answer_in_words() -> None:
    vague = FunctionTool("add", "Add.", {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]})
    assert ask(Message.user("hello there"), tools=(vague,)).text == "hello there"
