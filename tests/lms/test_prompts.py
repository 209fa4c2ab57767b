"""The exact prompt of a call, shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex_lab.lms.choice._prompts import prompt_of


def call(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be <b>brief</b>."}, {"role": "user", "content": "Hi $x$"}]
    return {
        "call_id": "c1",
        "model": "a/b",
        "step": "greet",
        "messages": messages,
        "outputs": ["Hello"],
        "error": None,
        **fields,
    }


def test_each_turn_is_shown_as_it_was_sent() -> None:
    prompt = prompt_of(call())
    assert prompt.turns == (("system", "Be <b>brief</b>."), ("user", "Hi $x$"))
    assert prompt.answers == ("Hello",)
    text = str(prompt)
    assert text == repr(prompt)
    assert "a/b · step greet · call c1" in text
    assert text.index("[system]\nBe <b>brief</b>.") < text.index("[user]\nHi $x$") < text.index("[answer]\nHello")


def test_nothing_in_a_prompt_becomes_html() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=y>\"'&"
    shown = prompt_of(
        call(
            model=evil,
            step=evil,
            call_id=evil,
            error=evil,
            outputs=[evil],
            messages=[{"role": evil, "content": evil, "name": evil}],
        )
    )._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;script&gt;" in shown
    assert "mathjax_ignore" in shown


def test_nothing_in_a_prompt_steers_the_terminal() -> None:
    shown = str(prompt_of(call(outputs=["\x1b[31mred\x07\tand\nmore é 日本"])))
    assert "\x1b" not in shown
    assert "\\x1b[31mred\\x07\tand\nmore é 日本" in shown


def test_rows_of_the_store_hold_json() -> None:
    stored = call()
    row = {**stored, "messages": json.dumps(stored["messages"]), "outputs": json.dumps(stored["outputs"])}
    assert prompt_of(row) == prompt_of(stored)


@pytest.mark.parametrize("text", ["Say hi", '{"a": 1}', "[1, 2]", "17", '"quoted"'])
def test_a_prompt_of_one_text_is_a_turn_of_the_user(text: str) -> None:
    live = prompt_of(call(messages=text))
    stored = prompt_of(call(messages=json.dumps(text)))
    assert stored.turns == (("user", text),)
    if text != '"quoted"':  # JSON text that is a text: read as what a store would have
        assert live.turns == (("user", text),)


def test_parts_tools_and_images_are_shown() -> None:
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 999}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "t1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "7", "tool_call_id": "t1"},
        "bare",
        {"role": "user", "content": 5},
    ]
    prompt = prompt_of(call(messages=messages, outputs=[{"text": "done"}, {"text": "x", "logprobs": [1]}]))
    (_, look), (who, tool), answered, bare, number = prompt.turns
    assert look.startswith("Look\n")
    assert "(1,004 characters)" in look
    assert "x" * 300 not in look
    assert who == "assistant"
    assert tool.startswith("calls: ")
    assert '"name": "f"' in tool
    assert answered == ("tool t1", "7")
    assert bare == ("user", "bare")
    assert number == ("user", "5")
    assert prompt.answers[0] == "done"
    assert "logprobs" in prompt.answers[1]


def test_what_was_not_kept_and_what_failed_is_said() -> None:
    prompt = prompt_of(call(messages=None, outputs=None, error="Timeout: slow", step=None))
    assert "was not kept" in str(prompt)
    assert "[error]\nTimeout: slow" in str(prompt)
    assert prompt_of(call(messages=float("nan"), outputs=float("nan"), error=float("nan"), step=float("nan"))).answers == ()
    assert prompt_of(call(outputs="plain")).answers == ("plain",)
