"""A chat page without a browser: a Lab that answers, a person's hands on the page, and what they read there."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import dspy
import panel as pn
import pytest

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.lms import embed_text
from dspex_lab.testing import scripted_lm
from dspex_lab.web._agent import Agent
from dspex_lab.web._chat_page import ChatPage, Message
from dspex_lab.web._offers import Catalogue

#: What a model or a person may write to do harm.
HOSTILE = (
    "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
    "[a](javascript:alert(1)) ![b](http://evil.example/b.png) <iframe src=http://evil.example></iframe>"
)


class Support(dspy.Signature):
    """Answer a customer's message about cards, bills and transfers."""

    message: str = dspy.InputField()
    reply: str = dspy.OutputField()


def trim(message: str) -> str:
    return message.strip()


def count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


@pytest.fixture(name="lab")
def answering() -> Iterator[Lab]:
    with Lab(":memory:") as made:
        made.pipelines["support"] = dx.pipeline("support", message=dx.step(trim, replaces=True), reply=dspy.Predict(Support))
        made.pipelines["words"] = dx.pipeline("words", n=dx.step(count))
        made.use(scripted_lm({"reply": "It was **posted** on Monday."}))
        yield made


async def until(probe: Callable[[], Any]) -> Any:
    """Wait for what happens on this loop, and fail after a time in which it must have happened."""
    end = time.monotonic() + 60
    while not (found := probe()):
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)
    return found


class Hands:
    """A page and who sits before it.

    Args:
        lab: whose pipelines answer.
        how: of the agent: ``models``, ``declared``, ``deadline``.
    """

    def __init__(self, lab: Lab, **how: Any) -> None:
        self.agent = Agent(lab, Catalogue(lambda: lab.pipelines), embed=embed_text, **how)
        self.page = ChatPage(self.agent, lab.name)

    @property
    def messages(self) -> list[Message]:
        return list(self.page.chat.objects)

    @property
    def busy(self) -> bool:
        return bool(self.page.chat.disabled)

    def begin(self, text: str, pipeline: str = "auto") -> None:
        """Send a message, as the field does when the person presses Enter."""
        self.page.choice.value = pipeline
        self.page.chat.active_widget.value = text

    async def ask(self, text: str, pipeline: str = "auto") -> Message:
        """Send a message, and return what was answered."""
        before = len(self.messages)
        self.begin(text, pipeline)
        return await self.answered(before + 2)

    async def answered(self, messages: int) -> Message:
        """Wait until there are so many messages and the last is whole."""
        await until(lambda: len(self.messages) == messages and not self.busy)
        return self.messages[-1]


def panes(message: Any) -> list[str]:
    """Return the HTML of a message, pane by pane."""
    shown = message.object if isinstance(message, pn.chat.ChatMessage) else message
    whole = message._object_panel if not isinstance(shown, pn.viewable.Viewable) else shown
    return [pane.object for pane in whole.select(pn.pane.HTML) if pane.visible]


def read(message: Any) -> str:
    """Return what a person reads in a message."""
    return html.unescape(re.sub(r"<[^>]*>", " ", " ".join(panes(message))))


def button(message: Message, name: str) -> Any:
    """Return a button under an answer."""
    (found,) = [each for each in message.object.select(pn.widgets.Button) if each.label == name]
    return found


def press(what: Any) -> None:
    what.param.trigger("clicks") if what.clicks else setattr(what, "clicks", 1)


def field(message: Message) -> Any:
    """Return the field for a correction."""
    (found,) = message.object.select(pn.widgets.TextAreaInput)
    return found


def on_a_page(lab: Lab, work: Callable[[Hands], Coroutine[Any, Any, Any]], **how: Any) -> Any:
    """Do something with a page on an event loop, and return what it gives."""

    async def go() -> Any:
        return await work(Hands(lab, **how))

    return asyncio.run(go())
