"""The exact prompt of a recorded call, turn by turn, as text and as HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

_LONGEST_DATA = 200


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model was sent, and what it answered.

    Args:
        model: the model asked; ``call_id`` and ``step`` say by which call.
        turns: who speaks (``system``, ``user``, ``assistant``, ``tool``) and what, in the order in which it was sent.
        answers: what came back; empty where the call failed, and ``error`` then says why.
    """

    call_id: str
    model: str
    step: str | None
    turns: tuple[tuple[str, str], ...]
    answers: tuple[str, ...]
    error: str | None = None
    note: str | None = None

    @property
    def title(self) -> str:
        """One line about the call."""
        return " · ".join(p for p in (self.model, self.step and f"step {self.step}", f"call {self.call_id}", self.note) if p)

    def _parts(self) -> list[tuple[str, str]]:
        ends = [("answer", text) for text in self.answers]
        return [*self.turns, *ends, *([("error", self.error)] if self.error else [])]

    def __str__(self) -> str:
        """Return the turns as text."""
        return _visible("\n\n".join([self.title, *(f"[{who}]\n{text}" for who, text in self._parts())]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rule = "white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .8em;border-left:3px solid var(--jp-border-color1,#bbb)"
        turns = "".join(
            f'<div><b>{escape(who)}</b></div><pre style="{rule};padding-left:.6em">{escape(text)}</pre>'
            for who, text in self._parts()
        )
        head = f"<div><b>{escape(self.title)}</b></div>"
        return f'<div class="dspex-prompt mathjax_ignore tex2jax_ignore">{head}{turns}</div>'


def _visible(text: str) -> str:
    """Return ``text`` with what would steer a terminal written out."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def prompt_of(call: Mapping[str, Any]) -> Prompt:
    """Return the prompt of a recorded call.

    Args:
        call: the fields of an :class:`~dspex_lab.events.LMCall`, as a dict or a row of ``lm_calls``, where ``messages`` and
            ``outputs`` may be JSON text.
    """
    sent, outputs = call.get("messages"), _data(call.get("outputs"))
    messages = _data(sent)
    if isinstance(sent, str) and not _are_turns(messages):
        # A prompt that is one text; it may happen to be JSON itself.
        messages = [messages if isinstance(messages, str) else sent]
    note = None
    if messages is None:
        note = "the prompt was not kept: this Lab has Config(record_messages=False), or the call ended before it was sent"
    turns = [_turn(message) for message in messages or ()]
    answers = [_text(output) for output in (outputs if isinstance(outputs, list) else [outputs] if outputs else [])]
    error = call.get("error")
    step = call.get("step")
    return Prompt(
        call_id=str(call.get("call_id")),
        model=str(call.get("model")),
        step=step if isinstance(step, str) else None,
        turns=tuple(turns),
        answers=tuple(answers),
        error=error if isinstance(error, str) else None,
        note=note,
    )


def _data(value: Any) -> Any:
    """Return what JSON text stands for; a prompt that is no JSON is itself. A DataFrame has NaN where there is nothing."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return None if value is None or value != value else value


def _are_turns(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(turn, Mapping) and "role" in turn for turn in data)


def _turn(message: Any) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        return "user", _text(message)
    parts = [_text(message.get("content"))]
    calls = message.get("tool_calls")
    if calls:
        parts.append(f"calls: {json.dumps(calls, ensure_ascii=False, indent=1, default=str)}")
    who = str(message.get("role", "user"))
    name = message.get("name") or message.get("tool_call_id")
    return (f"{who} {name}" if name else who), "\n".join(p for p in parts if p)


def _text(content: Any) -> str:
    """Return a turn's content as text; what is no text (an image, a file) is named with the beginning of its data."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_text(part) for part in content)
    if isinstance(content, Mapping):
        if isinstance(content.get("text"), str) and set(content) <= {"text", "type", "cache_control"}:
            return str(content["text"])
        return json.dumps(_shortened(content), ensure_ascii=False, indent=1, default=str)
    return str(content)


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _shortened(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(v) for v in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > _LONGEST_DATA:
        return f"{value[:_LONGEST_DATA]}… ({len(value):,} characters)"
    return value
