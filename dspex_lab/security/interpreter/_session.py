"""A session of an interpreter as the interpreter sees it, and how one is made again after its process has died."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from dspex_lab.errors import SandboxError
from dspex_lab.security.sandbox import CodeError

#: Called with the name of a tool, its arguments by position and by name; gives what the tool gives as JSON values.
Answer: TypeAlias = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]

#: The fields that SUBMIT takes (``name`` and, for plain types, ``type``), None for one value of any kind.
Output: TypeAlias = Sequence[Mapping[str, Any]] | None


class Done(NamedTuple):
    """What an execution gave: the value of its last expression and what it printed.

    ``final``: the value is what it gave to ``SUBMIT``. ``is_repr``: it has no JSON form and stands as its ``repr``. ``facts``
    is what was measured: ``cpu_seconds``, ``peak_memory`` (bytes).
    """

    value: Any
    printed: str = ""
    final: bool = False
    is_repr: bool = False
    facts: Mapping[str, Any] = {}


class Session(Protocol):
    """A process that runs code and keeps its state between runs. One run at a time.

    Attributes:
        level: the protection around it.
    """

    level: str

    @property
    def alive(self) -> bool:
        """Whether the process of the last run is there, with its state."""
        ...

    def prepare(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variables as :meth:`run` takes them.

        Raises:
            ConfigurationError: one has no form in which it could be given.
        """
        ...

    def run(
        self, code: str, given: Mapping[str, Any], tools: Mapping[str, Callable[..., Any]], answer: Answer, fields: Output
    ) -> Done:
        """Run ``code`` with what :meth:`prepare` made of its variables.

        Args:
            tools: what the code can call by name; ``answer`` is asked for the value of each call.

        Raises:
            CodeError: the code's own failure; the state is what the code had made of it by then.
            SandboxError: a rule was broken or the process died; :attr:`alive` says whether the state is still there.
        """
        ...

    def close(self) -> None:
        """End the process; more than once does no harm."""
        ...


@dataclass(slots=True)
class _Entry:
    code: str
    given: Mapping[str, Any]
    tools: dict[str, Callable[..., Any]]
    fields: Output
    answers: list[tuple[str, Any]] = field(default_factory=list)


class Journal:
    """What a session ran, with what its tools answered, so that its state can be made again without asking them again."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._last: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def begin(self, code: str, given: Mapping[str, Any], tools: Mapping[str, Callable[..., Any]], fields: Output) -> _Entry:
        """Return the entry of an execution that begins; it counts from :meth:`keep` on."""
        # DSPy gives the same long text each time: it is held once.
        held = {name: last if type(last := self._last.get(name)) is str and last == one else one for name, one in given.items()}
        return _Entry(code, held, dict(tools), fields)

    def keep(self, entry: _Entry) -> None:
        """Count an execution whose traces are in the session's state."""
        self._entries.append(entry)
        self._last.update(entry.given)

    def replay(self, session: Session) -> None:
        """Make the state again in a new session.

        Raises:
            SandboxError: it cannot be made again: an execution went another way than before, or ended the process.
        """
        for entry in self._entries:
            replies = _Replies(entry.answers)
            # It failed the first time too, and what it had done by then is done again.
            with contextlib.suppress(CodeError, SandboxError):
                session.run(entry.code, entry.given, entry.tools, replies, entry.fields)
            if replies.astray or replies.left or not session.alive:
                raise SandboxError("An execution went another way when it was done again.", level=session.level)


class _Replies:
    """Answers the calls of an execution that is done again as they were answered before."""

    def __init__(self, answers: Sequence[tuple[str, Any]]) -> None:
        self.left = list(answers)
        self.astray = False

    def __call__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.astray or not self.left or self.left[0][0] != name:
            self.astray = True
            raise RuntimeError(f"The tool {name!r} was not asked here before.")
        value = self.left.pop(0)[1]
        if isinstance(value, Exception):
            raise value
        return value
