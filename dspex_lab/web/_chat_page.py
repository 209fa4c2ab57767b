"""The chat page: a person asks the pipelines, in the browser."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import panel as pn
from bokeh.events import ConnectionLost
from bokeh.util.warnings import BokehUserWarning
from panel.io.resources import DIST_DIR
from pydantic_core import to_json
from tornado.web import StaticFileHandler

from dspex_lab.dashboards import Html, PageServer
from dspex_lab.events import new_id
from dspex_lab.web import _chat_style as style
from dspex_lab.web._agent import Agent, Unknown
from dspex_lab.web._ask import AUTO, Answer, Ask
from dspex_lab.web._chat_answer import Telling, complaint, refused
from dspex_lab.web._chat_form import Form, wants_form
from dspex_lab.web._chat_text import escaped, table
from dspex_lab.web._inputs import Unfit
from dspex_lab.web._routing import NoRoute

log = logging.getLogger("dspex_lab.web")

#: Milliseconds between two looks at which pipelines there are.
LOOK = 2000
YOU, IT = "You", "Answer"


@dataclass(frozen=True)
class Given:
    """Fields that a person has filled in: inputs by name, as JSON."""

    inputs: Mapping[str, Any]


class Message(pn.chat.ChatMessage):
    """A turn in the chat: who says it, and what. Of Panel's icons, which it fetches from the network, none is made."""

    def _build_layout(self) -> None:
        super()._build_layout()
        who = self._right_col[0]
        self._right_col[:] = [who, self._center_row]


class Chat(pn.chat.ChatInterface):
    """Panel's chat with our messages."""

    _message_type = Message


class ChatPage(pn.Column):
    """The page of one window. On the event loop of its server only.

    Args:
        agent: answers.
        title: whose page it is.
    """

    def __init__(self, agent: Agent, title: str) -> None:
        self._agent, self._title = agent, title
        self._turns: list[dict[str, str]] = []
        self.choice = pn.widgets.Select(
            label="", options=[AUTO], value=AUTO, width=230, margin=0, stylesheets=[style.INPUT], css_classes=["pipeline"]
        )
        self.head = Html("", stylesheets=[style.HEAD], margin=0, min_width=220, sizing_mode="stretch_width")
        self.form = Form(self._send, self.stop)
        self.chat = self._made()
        top = pn.FlexBox(
            pn.Column(self.head, margin=0, sizing_mode="stretch_width", styles={"flex": "1 1 260px"}),
            self.choice,
            gap="8px 14px",
            margin=0,
            align_items="center",
            sizing_mode="stretch_width",
        )
        self._offered: list[str] | None = None
        self.refresh()
        self.choice.param.watch(lambda _event: self._chosen(), "value")
        self.chat.param.watch(lambda event: self.form.busy(event.new), "disabled")
        super().__init__(
            top, self.chat, self.form.view, stylesheets=[style.PAGE], sizing_mode="stretch_both", margin=0, min_height=420
        )

    def refresh(self) -> None:
        """Offer the pipelines that there are now."""
        names = [offer.name for offer in self._agent.catalogue.all()]
        if names != self._offered:
            self._offered = names
            self.choice.options = {"auto: the one that fits best": AUTO, **{name: name for name in names if name != AUTO}}
        self._chosen()

    def stop(self) -> None:
        """End the run that is under way, if there is one."""
        self.chat.stop()

    def _made(self) -> Chat:
        # Also those that are hidden: without a picture of their own they would have it fetched from a CDN.
        icons = {"send": style.SEND, "stop": style.STOP, "rerun": style.UP, "undo": style.UP, "clear": style.CLEAR}
        buttons: dict[str, dict[str, Any]] = {name: {"icon": icon} for name, icon in icons.items()}
        buttons["clear"]["post_callback"] = lambda _chat, _event: self._turns.clear()
        field = pn.chat.ChatAreaInput(
            placeholder="Ask something", resizable=False, stylesheets=[style.INPUT], max_length=1_000_000
        )
        chat = Chat(
            self._greeting(),
            callback=self._answer,
            widgets=[field],
            user=YOU,
            callback_user=IT,
            renderers=[_shown],
            button_properties=buttons,
            show_rerun=False,
            show_undo=False,
            callback_exception="raise",
            placeholder_threshold=0,
            show_activity_dot=False,
            message_params=_looks(),
            stylesheets=[style.CHAT],
            sizing_mode="stretch_both",
            margin=0,
            min_height=260,
        )
        for name, button in chat._buttons.items():
            button.param.update(
                stylesheets=[style.BUTTON], css_classes=["tool", "chief"] if name in ("send", "stop") else ["tool"]
            )
        chat._input_layout.stylesheets = [*chat._input_layout.stylesheets, style.INPUT_ROW]
        return chat

    def _greeting(self) -> Message:
        offers = self._agent.catalogue.all()
        told = "".join(f"<li><b>{escaped(offer.name)}</b> {escaped(offer.description)}</li>" for offer in offers)
        said = f"<p>Who answers here:</p><ul>{told}</ul>" if told else "<p>There is no pipeline yet.</p>"
        html = Html(said, css_classes=["answer"], stylesheets=[style.TEXT], margin=0, sizing_mode="stretch_width")
        return Message(html, user=self._title, **_looks())

    def _chosen(self) -> None:
        """Show what the chosen pipeline is for, and its form where it has one."""
        offer = None if self.choice.value == AUTO else self._agent.catalogue.get(self.choice.value)
        if self.choice.value == AUTO:
            about = "Each message goes to the pipeline that fits it best."
        else:
            about = "It is no longer there." if offer is None else offer.description
        said = f'<h1>{escaped(self._title)} <span class="dim">· chat</span></h1><p>{escaped(about)}</p>'
        if self.head.object != said:
            self.head.object = said
        form = offer if offer is not None and wants_form(offer) else None
        self.form.show(form)
        if self.chat._input_container.visible == (form is not None):
            self.chat._input_container.visible = form is None

    def _send(self, inputs: dict[str, Any]) -> None:
        if not self.chat.disabled:
            self.chat.send(Given(inputs), user=YOU, respond=True)
            self.chat._chat_log.scroll_to_latest()

    async def _answer(self, contents: Any, user: str, chat: Chat) -> AsyncIterator[Message]:
        """Answer the last message; cancelling it ends the run."""
        asked = chat.objects[-1].object
        text, inputs = (None, asked.inputs) if isinstance(asked, Given) else (str(asked), None)
        ask = Ask(new_id(), self.choice.value, text, inputs, tuple(self._turns), tags=("chat",))
        telling = Telling(self._agent)
        message = Message(telling.view, user=IT, **_looks())
        yield message
        try:
            course = await asyncio.to_thread(self._agent.begin, ask)  # it may read the store
            async with aclosing(self._agent.stream(course)) as events:
                async for each in events:
                    if isinstance(each, Answer):
                        telling.end(each)
                        self._remember(ask, each)
                    else:
                        telling.hear(each)
                    message.user = escaped(course.now.offer.name)
        except (Unknown, NoRoute, Unfit) as error:
            telling.fail(refused(error, ask.model))
        except asyncio.CancelledError:
            telling.stop()
            raise
        except Exception as error:
            log.exception("a message in the chat could not be answered")
            telling.fail(complaint(f"An error of the server: {type(error).__name__}."))

    def _remember(self, ask: Ask, answer: Answer) -> None:
        if answer.ok:
            asked = ask.text if ask.text is not None else to_json(ask.inputs).decode()
            self._turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer.content}]


class ChatServer(PageServer[ChatPage]):
    """The chat page, being served; each window has a conversation of its own.

    Args:
        agent: answers.
    """

    noun = "chat"
    again = "Call lab.serve() again to get the address"

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        # Bokeh's client sends what was added to a page back once, whole, with the first click on it. Bokeh takes its own.
        warnings.filterwarnings("ignore", "reference already known", BokehUserWarning)
        super().__init__(f"{agent.lab.name} · chat · dspex_lab")

    def _make(self) -> ChatPage:
        page = ChatPage(self._agent, self._agent.lab.name)
        # The window was closed: nobody reads what is still written. Panel itself would find out seconds later.
        pn.state.curdoc.on_event(ConnectionLost, lambda _event: page.stop())
        pn.state.add_periodic_callback(page.refresh, period=LOOK)
        return page

    def _files(self) -> list[tuple[Any, ...]]:
        return [(r"/(favicon\.ico)", StaticFileHandler, {"path": str(DIST_DIR / "images")})]


def _looks() -> dict[str, Any]:
    return {
        "show_avatar": False,
        "show_copy_icon": False,
        "show_edit_icon": False,
        "show_reaction_icons": False,
        "show_timestamp": False,
        "reaction_icons": {},
        "max_width": style.WIDTH,
        "sizing_mode": "stretch_width",
        "stylesheets": [style.MESSAGE],
    }


def _shown(value: Any) -> Html:
    """Return what a person said as it is shown."""
    said = table(value.inputs) if isinstance(value, Given) else escaped(value)
    return Html(said, css_classes=["said"], stylesheets=[style.TEXT], margin=0)
