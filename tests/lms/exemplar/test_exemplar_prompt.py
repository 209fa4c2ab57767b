"""Prompts of all three adapters are read back to what the program put into them."""

from __future__ import annotations

import enum
from typing import Any, Literal

import dspy
import pytest

from dspex_lab.lms.exemplar._prompt import Prompt, read_prompt


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Everything(dspy.Signature):
    """Sort the parcel.

    heavy: two people carry it
      and never one alone
    """

    note: str = dspy.InputField(desc="what the sender wrote")
    lines: list[str] = dspy.InputField()
    label: Literal["heavy", "it's light", "a; b", "odd) : one"] = dspy.OutputField(desc="where it goes")
    colour: Colour = dspy.OutputField()
    fragile: bool = dspy.OutputField()
    weight: float = dspy.OutputField(desc="in kilograms", ge=0, le=30)
    grade: int = dspy.OutputField(desc="from 1 to 5")
    tags: list[str] = dspy.OutputField()
    kinds: list[Literal["x", "y"]] = dspy.OutputField()
    rank: Literal[1, 2, 3] = dspy.OutputField()
    remark: str | None = dspy.OutputField()


SHOWN = {
    "note": "two\n\nparagraphs",
    "lines": ["a", "b"],
    "label": "it's light",
    "colour": Colour.BLUE,
    "fragile": True,
    "weight": 0.5,
    "grade": 3,
    "tags": ["glass"],
    "kinds": ["y"],
    "rank": 2,
    "remark": "none needed",
}
ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]


def read(adapter: Any, signature: Any, demos: list[dict[str, Any]], inputs: dict[str, Any]) -> Prompt:
    messages = adapter.format(signature, demos, inputs)
    return read_prompt(messages[0]["content"], [(m["role"], m["content"]) for m in messages[1:]])


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_the_task_is_read_from_the_system_message(adapter: Any) -> None:
    task = read(adapter, Everything, [], {"note": "hi", "lines": []}).task
    assert task is not None
    assert [f.name for f in task.inputs] == ["note", "lines"]
    assert [f.name for f in task.outputs] == list(Everything.output_fields)
    assert task.style == type(adapter).__name__.removesuffix("Adapter").lower()
    assert task.instructions.splitlines()[0] == "Sort the parcel."
    assert "heavy: two people carry it\n  and never" in task.instructions
    assert task.inputs[0].description == "what the sender wrote"


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_types_and_bounds_are_read(adapter: Any) -> None:
    task = read(adapter, Everything, [], {"note": "hi", "lines": []}).task
    assert task is not None
    shapes = {f.name: f.shape for f in task.outputs}
    assert shapes["label"].options == ("heavy", "it's light", "a; b", "odd) : one")
    assert shapes["colour"].options == ("red", "blue")
    assert shapes["fragile"].kind == "bool"
    assert (shapes["weight"].kind, shapes["weight"].low, shapes["weight"].high) == ("float", 0.0, 30.0)
    assert (shapes["grade"].kind, shapes["grade"].low, shapes["grade"].high) == ("int", 1.0, 5.0)
    assert (shapes["tags"].kind, shapes["tags"].item.kind) == ("list", "str")  # type: ignore[union-attr]
    assert shapes["kinds"].item.options == ("x", "y")  # type: ignore[union-attr]
    assert shapes["rank"].options == (1, 2, 3)
    assert (shapes["remark"].kind, shapes["remark"].nullable) == ("str", True)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_demonstrations_and_question_are_read(adapter: Any) -> None:
    prompt = read(adapter, Everything, [SHOWN], {"note": "new & <one>", "lines": ["c"]})
    assert prompt.question["note"] == "new & <one>"
    (shown,) = prompt.demonstrations
    assert shown.inputs == {"note": "two\n\nparagraphs", "lines": '["a", "b"]'}
    assert shown.outputs["label"] == "it's light"
    assert str(shown.outputs["weight"]) == "0.5"


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_what_a_demonstration_does_not_supply_is_left_out(adapter: Any) -> None:
    prompt = read(adapter, Everything, [{"note": "only this", "label": "heavy"}], {"note": "q", "lines": []})
    (shown,) = prompt.demonstrations
    assert shown.inputs == {"note": "only this"}
    assert shown.outputs == {"label": "heavy"}


def test_text_that_looks_like_a_marker_stays_text() -> None:
    note = "see\n[[ ## other ## ]]\nand\n[[ ## note ## ]]\nagain"
    prompt = read(ADAPTERS[0], Everything, [], {"note": note, "lines": []})
    assert prompt.question["note"] == note


def test_a_text_that_repeats_the_reminder_is_cut_at_the_last_one_only() -> None:
    note = "ok\n\nRespond with the corresponding output fields, they said"
    assert read(ADAPTERS[0], dspy.Signature("note -> label"), [], {"note": note}).question["note"] == note


def test_a_conversation_counts_as_demonstrations() -> None:
    history = dspy.History(messages=[{"question": "one", "answer": "1"}, {"question": "two", "answer": "2"}])
    prompt = read(
        ADAPTERS[0],
        dspy.Signature("question: str, history: dspy.History -> answer: str"),
        [],
        {"question": "three", "history": history},
    )
    assert [d.outputs["answer"] for d in prompt.demonstrations] == ["1", "2"]
    assert prompt.question == {"question": "three"}


def test_a_prompt_of_no_adapter_is_a_free_text() -> None:
    prompt = read_prompt("be brief", [("user", "first"), ("assistant", "yes"), ("user", "hello")])
    assert prompt.task is None
    assert prompt.text == "be brief\n\nhello"


def test_a_broken_json_answer_is_no_demonstration() -> None:
    messages = ADAPTERS[1].format(Everything, [], {"note": "q", "lines": []})
    turns = [("user", "[[ ## note ## ]]\nshown"), ("assistant", "{broken"), ("user", messages[1]["content"])]
    assert read_prompt(messages[0]["content"], turns).demonstrations == ()


def test_a_system_message_that_is_not_quite_dspys_is_read_as_far_as_it_goes() -> None:
    messages = ADAPTERS[1].format(Everything, [], {"note": "q", "lines": []})
    broken = messages[0]["content"].replace('{\n  "label"', "{\n  label").replace("`rank` (Literal[1, 2, 3]): ", "`rank` (odd[")
    prompt = read_prompt(broken, [("user", "q")])
    assert prompt.question == {"text": "q"}
    task = prompt.task
    assert task is not None
    shapes = {f.name: f.shape for f in task.outputs}
    assert shapes["label"].options[0] == "heavy"
    assert shapes["rank"].kind == "str"
