"""An answer on its way: its text as it is written, then what stands behind it, and what the person thinks of it."""

from __future__ import annotations

import asyncio
import time

import panel as pn

from dspex_lab.dashboards import Html
from dspex_lab.security import redact
from dspex_lab.web import _chat_style as style
from dspex_lab.web._agent import Agent, Heard, Unknown
from dspex_lab.web._ask import Answer
from dspex_lab.web._chat_details import details
from dspex_lab.web._chat_opinion import Opinion
from dspex_lab.web._chat_text import escaped, marked, table
from dspex_lab.web._fallbacks import Fallback, told_of
from dspex_lab.web._inputs import Unfit
from dspex_lab.web._routing import NoRoute

#: Seconds between two pictures of a text that is being written, and how many times what one takes to draw.
PACE, SHARE = 0.05, 5


class Telling:
    """The place of one answer in the chat. On the page's event loop only.

    Args:
        agent: answers.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._said = ""
        self._speaker: tuple[object, object] | None = None
        self._running: dict[str, None] = {}
        self._pace = PACE
        self._later: asyncio.TimerHandle | None = None
        self._text = Html("", css_classes=["answer"], stylesheets=[style.TEXT], margin=0, sizing_mode="stretch_width")
        self._state = Html(
            '<div class="busy">starting</div>',
            css_classes=["state"],
            stylesheets=[style.STATE],
            margin=0,
            sizing_mode="stretch_width",
        )
        self.view = pn.Column(self._text, self._state, margin=(2, 0, 0, 0), sizing_mode="stretch_width", styles={"gap": "8px"})

    def hear(self, heard: Heard | Fallback) -> None:
        """Show that something happened."""
        if isinstance(heard, Fallback):
            self._running.clear()
            self._show_state(f'<div class="note">{escaped(heard.why)}</div>')
            return
        event = heard.event
        if heard.spoken:
            about = event.data or {}
            speaker = about.get("call_id"), about.get("attempt")
            if speaker != self._speaker:  # it begins again; what came before was thrown away
                self._said, self._speaker = "", speaker
            self._said += event.value
            self._draw_soon()
        elif event.kind == "step.start" and event.step is not None:
            self._running[event.step] = None
            self._show_running()
        elif event.kind == "step.stop" and event.step is not None:
            self._running.pop(event.step, None)
            self._show_running()

    def end(self, answer: Answer) -> None:
        """Show the answer, or why there is none, and what stands behind it."""
        self._settle()
        if not answer.ok:
            self._draw()
            self._show_state(complaint(f"{answer.offer.name!r} gave no answer: {redact(told_of(answer.result.error))}"))
        else:
            whole = answer.offer.content_output is None
            self._text.object = table(answer.result.outputs) if whole else marked(answer.content)
            left = "some steps failed; open the steps to see which" if answer.result.status == "partial" else ""
            fallback = "" if answer.fallback is None else answer.fallback.why
            notes = "; ".join(note for note in (fallback, left) if note)
            self._show_state(f'<div class="note">{escaped(redact(notes))}</div>' if notes else "")
        behind = Html(
            details(answer), css_classes=["behind"], stylesheets=[style.DETAILS], margin=0, sizing_mode="stretch_width"
        )
        self.view.extend([behind, Opinion(self._agent, answer).view])

    def fail(self, said: str) -> None:
        """Show HTML that says why nothing came."""
        self._settle()
        self._draw()
        self._show_state(said)

    def stop(self) -> None:
        """Show that it was stopped."""
        self.fail('<div class="note">stopped</div>')

    def _show_running(self) -> None:
        names = ", ".join(escaped(name) for name in self._running)
        self._show_state(f'<div class="busy">{names or "working"}</div>')

    def _show_state(self, said: str) -> None:
        self._state.object = said
        self._state.visible = bool(said)

    def _draw_soon(self) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(self._pace, self._draw)

    def _draw(self) -> None:
        """Draw what was written until now; a long text, which takes longer to draw, less often."""
        self._later, began = None, time.perf_counter()
        self._text.object = marked(self._said)
        self._pace = max(PACE, SHARE * (time.perf_counter() - began))

    def _settle(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None


def complaint(said: str, *parts: str) -> str:
    """Return what went wrong as HTML."""
    more = "".join(f"<li>{escaped(part)}</li>" for part in parts)
    return f'<div class="bad">{escaped(said)}{f"<ul>{more}</ul>" if more else ""}</div>'


def refused(error: Unknown | NoRoute | Unfit, model: str) -> str:
    """Return as HTML why nobody could start on a message."""
    if isinstance(error, Unknown):
        there = ", ".join(error.offered)
        if not there:
            return complaint("There is no pipeline yet: define one in the notebook, and ask again.")
        return complaint(f"There is no pipeline {error.name!r} any more; there are: {there}.")
    if isinstance(error, NoRoute):
        near = ", ".join(each.name for each in error.ranking[:5])
        return complaint(f"No pipeline is for this message. Choose one above: {near}.")
    said = (
        "It takes more than a text: choose the pipeline above, and fill in its fields."
        if model == "auto"
        else "It does not fit:"
    )
    return complaint(said, *(f"{misfit.where.removeprefix('inputs.')}: {misfit.why}" for misfit in error.misfits))
