"""The form of the chat page, for pipelines that take more than a text."""

from __future__ import annotations

import asyncio
from typing import Literal

from chat_helpers import Hands, answering, on_a_page, panes, press, read, until

import dspex_lab as dx
from dspex_lab import Lab

__all__ = ["answering"]


def delivery(weight: float, kind: Literal["card", "bill"], note: str, fast: bool, to: list[int], on: str | None = None) -> str:
    """Say what a delivery costs."""
    return f"{weight * (2 if fast else 1)} {kind} {note} {to} {on}"


def test_a_pipeline_that_takes_more_than_a_text_has_a_form(lab: Lab) -> None:
    lab.pipelines["delivery"] = dx.pipeline("delivery", price=dx.step(delivery))

    async def work(hands: Hands) -> None:
        form, chat = hands.page.form, hands.page.chat
        assert not form.view.visible
        hands.page.choice.value = "delivery"
        assert form.view.visible
        assert not chat._input_container.visible
        blanks = form._blanks
        assert list(blanks) == ["weight", "kind", "note", "fast", "to", "on"]
        assert blanks["kind"].widget.options == {"card": "card", "bill": "bill"}
        blanks["weight"].widget.value, blanks["to"].widget.value = "heavy", '[1, "<b>"]'
        press(form.run)
        wrong = {name: blank._wrong.object for name, blank in blanks.items() if blank._wrong.visible}
        assert set(wrong) == {"weight", "note", "to"}
        assert "valid number" in wrong["weight"]
        assert "is missing" in wrong["note"]
        assert "1: Input should be a valid integer" in wrong["to"]
        assert len(hands.messages) == 1  # nothing was run
        blanks["to"].widget.value = "[1"
        press(form.run)
        assert "is no JSON" in blanks["to"]._wrong.object
        blanks["weight"].widget.value, blanks["note"].widget.value, blanks["to"].widget.value = "1.5", "<b>hi</b>", "[1, 2]"
        blanks["fast"].widget.value = True
        press(form.run)
        answer = await hands.answered(3)
        assert "3.0 card <b>hi</b> [1, 2] None" in read(answer)
        assert "&lt;b&gt;hi&lt;/b&gt;" in panes(hands.messages[-2])[0]
        assert not any(blank._wrong.visible for blank in blanks.values())
        hands.page.choice.value = "support"
        assert not form.view.visible
        assert chat._input_container.visible

    on_a_page(lab, work)


def test_a_run_from_the_form_can_be_stopped(lab: Lab) -> None:
    started, cancelled = asyncio.Event(), []

    async def endless(a: int, b: int) -> int:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return a

    lab.pipelines["endless"] = dx.pipeline("endless", n=dx.step(endless))

    async def work(hands: Hands) -> None:
        form = hands.page.form
        hands.page.choice.value = "endless"
        for name in "ab":
            form._blanks[name].widget.value = "1"
        press(form.run)
        await started.wait()
        await until(lambda: form.halt.visible)
        press(form.halt)
        await until(lambda: "stopped" in read(hands.messages[2]))
        assert form.run.visible

    on_a_page(lab, work)
    assert cancelled == [True]
