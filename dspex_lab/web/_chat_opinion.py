"""What a person says of an answer: thumbs, and what would have been right."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

import panel as pn
from pydantic import ValidationError

from dspex_lab.dashboards import Html
from dspex_lab.errors import ConfigurationError, StoreError
from dspex_lab.web import _chat_style as style
from dspex_lab.web._agent import Agent
from dspex_lab.web._ask import Answer, plain
from dspex_lab.web._chat_text import escaped
from dspex_lab.web._fallbacks import told_of
from dspex_lab.web._inputs import Misfit, Unfit, adapter_of

log = logging.getLogger("dspex_lab.web")

#: Whose opinion it is in the table ``feedback``.
WHO = "chat"


class Opinion:
    """The buttons under an answer.

    Args:
        agent: its Lab keeps what is said, and its routing learns of it at once.
        answer: what is spoken of.
    """

    def __init__(self, agent: Agent, answer: Answer) -> None:
        self._agent, self._answer = agent, answer
        self.up, self.down = _button("Good", style.UP), _button("Bad", style.DOWN)
        self.pen, self.save = _button("Correct", style.PEN), _button("Save", "")
        self.up.on_click(lambda _event: self._say("up"))
        self.down.on_click(lambda _event: self._say("down"))
        self.pen.on_click(lambda _event: self._open())
        self.save.on_click(lambda _event: self._correct())
        self.text = pn.widgets.TextAreaInput(
            label="What would have been right" + (" (JSON: outputs by name)" if answer.offer.content_output is None else ""),
            auto_grow=True,
            resizable=False,
            rows=2,
            max_rows=12,
            max_length=1_000_000,
            sizing_mode="stretch_width",
            stylesheets=[style.INPUT],
            margin=0,
        )
        self.said = Html("", stylesheets=[style.STATE], css_classes=["told"], margin=(6, 0))
        self._right = pn.Column(
            self.text, self.save, visible=False, sizing_mode="stretch_width", margin=0, styles={"gap": "6px"}
        )
        buttons = pn.FlexBox(self.up, self.down, self.pen, self.said, gap="6px", margin=0, align_items="center")
        self.view = pn.Column(buttons, self._right, sizing_mode="stretch_width", margin=0, styles={"gap": "6px"})
        self._going: set[asyncio.Task[None]] = set()

    def _open(self) -> None:
        self._right.visible = not self._right.visible
        if not self.text.value:
            outputs = self._answer.result.outputs
            whole = self._answer.offer.content_output is None
            self.text.value = json.dumps(plain(outputs), ensure_ascii=False, indent=1) if whole else self._answer.content

    def _say(self, verdict: str) -> None:
        self._start(self._keep(verdict, None, "taken: good" if verdict == "up" else "taken: bad"))

    def _correct(self) -> None:
        try:
            correction = read_correction(self._answer, self.text.value)
        except Unfit as error:
            self._tell(str(error), bad=True)
            return
        self._start(self._keep(None, correction, "taken: your correction"))

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def _keep(self, verdict: str | None, correction: dict[str, Any] | None, said: str) -> None:
        """Keep it, in another thread: the store waits for the disk."""
        run_id = self._answer.result.run_id
        try:
            await asyncio.to_thread(self._agent.lab.feedback, run_id, verdict, correction, who=WHO)
        except (ConfigurationError, StoreError) as error:
            log.warning("what was said of the run %s is not kept", run_id, exc_info=True)
            self._tell(f"It is not kept: {told_of(error)}", bad=True)
            return
        self._agent.memory.forget()
        if verdict is None:
            self._right.visible = False
        else:
            for button, mine in ((self.up, "up"), (self.down, "down")):
                button.param.update(css_classes=["chosen"] if verdict == mine else [], disabled=verdict == mine)
        self._tell(said)

    def _tell(self, said: str, bad: bool = False) -> None:
        self.said.object = f'<div class="{"bad" if bad else "taken"}">{"" if bad else "✓ "}{escaped(said)}</div>'


def read_correction(answer: Answer, text: str) -> dict[str, Any]:
    """Return outputs as a person wrote them down, as JSON; they fit the types that the pipeline says it gives.

    Raises:
        Unfit: they do not.
    """
    name = answer.offer.content_output
    if not text.strip():
        raise Unfit(Misfit("correction", "is empty"))
    if name is not None:
        return {name: _fitting(answer, name, text)}
    try:
        given = json.loads(text)
    except ValueError as error:
        raise Unfit(Misfit("correction", f"is no JSON: {error}")) from error
    if not isinstance(given, dict):
        raise Unfit(Misfit("correction", "is no JSON object: outputs by name"))
    return {name: _fitting(answer, name, value) for name, value in given.items()}


def _fitting(answer: Answer, name: str, value: Any) -> Any:
    """Return a value as its output has it; a text may be the value or its JSON."""
    field = answer.offer.pipeline.outputs.get(name)
    adapter = None if field is None else adapter_of(field.type)
    if adapter is None:
        return value
    try:
        return plain(adapter.validate_python(value))
    except ValidationError as error:
        if isinstance(value, str):
            with contextlib.suppress(ValidationError):  # what is wrong with it as it stands says more
                return plain(adapter.validate_json(value))
        raise Unfit(Misfit(name, "; ".join(each["msg"] for each in error.errors(include_url=False)))) from error


def _button(name: str, icon: str) -> Any:
    return pn.widgets.Button(label=name, icon=icon or None, stylesheets=[style.BUTTON], margin=0)
