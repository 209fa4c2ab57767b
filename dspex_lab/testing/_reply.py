"""What a scripted model answers, and the script that says so; one for :class:`ScriptedEngine` and :class:`FaultyServer`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from dspex_lab.lms.exemplar._prompt import Prompt
from dspex_lab.lms.exemplar._style import write

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE = re.compile(r"\s*\S+\s*")
_CHARACTERS_PER_TOKEN = 4
T = TypeVar("T")


class ToolUse(NamedTuple):
    """One call of a tool that the model asks for; ``id`` is made up where it is None."""

    name: str
    arguments: Mapping[str, Any] = {}  # never changed
    id: str | None = None


@dataclass(frozen=True)
class Reply:
    """One whole answer, where text alone does not say it.

    Args:
        content: the text of the completion, or the value of each output field, written in the form the prompt asks for.
        tools: calls of tools, in order.
        thinking: what the model says it thought.
        logprobs: the log probability of each token with its text; -0.1 for each piece where None and they are asked for.
        usage: token counts that take the place of the simulated ones: ``input_tokens``, ``output_tokens``, …
        finish: why it stopped (``"stop"``, ``"length"``, ``"tool_call"``, ``"content_filter"``); worked out where None.
        refusal: the words with which the model declines.
    """

    content: str | Mapping[str, Any] = ""
    tools: Sequence[ToolUse] = ()
    thinking: str | None = None
    logprobs: Sequence[tuple[str, float]] | None = None
    usage: Mapping[str, int] | None = None
    finish: str | None = None
    refusal: str | None = None

    @property
    def reason(self) -> str:
        """Why the answer ended."""
        return self.finish or ("tool_call" if self.tools else "stop")

    def text(self, prompt: Prompt | None, *, json: bool = False) -> str:
        """Return the content in the form that ``prompt`` asks for; as JSON where ``json`` says so or it asks for none."""
        if isinstance(self.content, str):
            return self.content
        style = prompt.task.style if prompt is not None and prompt.task is not None and not json else "json"
        return write(self.content, style)


#: One answer: the text of a completion, the value of each output field, or a :class:`Reply`.
Answer: TypeAlias = str | Mapping[str, Any] | Reply


def as_reply(answer: Answer) -> Reply:
    """Return an answer as a :class:`Reply`.

    Raises:
        TypeError: it is none.
    """
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, str | Mapping):
        return Reply(answer)
    raise TypeError(f"a script answers with text, a dict of fields or a Reply; this is a {type(answer).__name__}")


def check_script(script: object) -> None:
    """Raise ``ValueError`` where a script has no answer, ``TypeError`` where it is none."""
    if callable(script) or isinstance(script, str | Mapping | Reply):
        return
    if not isinstance(script, Sequence):
        raise TypeError(f"a script is an answer, a sequence of answers or a function; this is a {type(script).__name__}")
    if not script:
        raise ValueError("a script needs at least one answer")
    for answer in script:
        as_reply(answer)


def answer_from(script: Answer | Sequence[Answer] | Callable[[T], Answer], number: int, asked: T) -> Reply:
    """Return what a script answers to the call of that number, counted from 1."""
    if callable(script):
        return as_reply(script(asked))
    if isinstance(script, str | Mapping | Reply):
        return as_reply(script)
    return as_reply(script[(number - 1) % len(script)])


def pieces_of(text: str) -> list[str]:
    """Cut a text at the ends of its words, as a stream brings it."""
    return _PIECE.findall(text) or ([text] if text else [])


def tokens_in(texts: Iterable[str]) -> int:
    """Return the simulated count of tokens: a quarter of all characters, rounded up."""
    return -(-sum(len(text) for text in texts) // _CHARACTERS_PER_TOKEN)
