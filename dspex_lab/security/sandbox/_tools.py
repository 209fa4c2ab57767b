"""The tools of a run: the code's calls are checked, counted and answered, in the thread that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dspex_lab.errors import SandboxViolation
from dspex_lab.security.sandbox import _frames
from dspex_lab.security.sandbox._conversation import LOST, Conversation
from dspex_lab.security.sandbox._types import Limits, Submit
from dspex_lab.security.sandbox._verdict import Said, said

#: Characters of a tool's error that the code is told.
_MOST_ERROR = 10_000


class Toolbox:
    """What the code of one run can call.

    Attributes:
        calls: how many calls there were.
        submitted: what a tool ended the run with, if one did.
        error: the exception of the last tool that failed.
    """

    def __init__(self, tools: Mapping[str, Callable[..., Any]], limits: Limits) -> None:
        self.tools = dict(tools)
        self.calls = 0
        self.submitted: Submit | None = None
        self.error: Exception | None = None
        self._limits = limits

    def serve(self, talk: Conversation, request: bytes) -> Said:
        """Send what is to be run, answer the calls of tools, and return the last word.

        Raises:
            SandboxError: a limit or a rule was broken.
        """
        talk.send(request)
        while True:
            message = talk.receive()
            if message.get("kind") != "call":
                return said(message)
            talk.send(self._answer(message, talk))

    def _answer(self, message: dict[str, Any], talk: Conversation) -> bytes:
        name, args, kwargs = message.get("name"), message.get("args"), message.get("kwargs")
        if not (isinstance(name, str) and name in self.tools and isinstance(args, list) and isinstance(kwargs, dict)):
            raise SandboxViolation("The code broke into the sandbox's own messages.", hint=LOST)
        self.calls += 1
        if self.calls > self._limits.calls:
            raise SandboxViolation(f"The code called tools more than {self._limits.calls:,} times.", hint=LOST)
        if self.submitted is not None:
            return self._packed({"end": True})
        since = talk.pause()
        try:
            return self._called(name, args, kwargs)
        finally:
            talk.resume(since)

    def _called(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
        try:
            value = self.tools[name](*args, **kwargs)
        except Submit as submit:
            self.submitted = submit
            return self._packed({"end": True})
        except Exception as error:
            return self._failed(f"{name}: {type(error).__name__}: {error}", error)
        try:
            return self._packed({"value": value})
        except _frames.TooLarge as error:
            return self._failed(f"{name} gave too much: {error}.", error)
        except (TypeError, ValueError, RecursionError) as error:
            return self._failed(f"{name} gave {type(value).__name__}, which has no JSON form: {error}", error)

    def _failed(self, text: str, error: Exception) -> bytes:
        self.error = error
        return self._packed({"error": text[:_MOST_ERROR]})

    def _packed(self, answer: dict[str, Any]) -> bytes:
        return _frames.pack(answer, self._limits.sent, self._limits.depth + 1)
