"""What runs in the worker of a session: the user's function, on the state that lives there between calls.

A state in a worker is named by a stamp that the kernel gave it. Each call says which stamp it follows and which one its outcome
will have; the kernel takes a stamp over only when the call's changes have come home. So a worker that was cut off, that ran a
call nobody waited for, or that is another one, cannot answer with a state that is not the session's: it says that it has not
got it, and the kernel sends it.
"""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dspex_lab.errors import SessionError
from dspex_lab.sessions._values import decode, encode, memory_of

#: Sessions whose state a worker keeps, and bytes of all of them; the one used longest ago goes first.
MOST, LARGEST = 64, 64_000_000


class Kept(NamedTuple):
    """A state as a worker keeps it: its stamp, its values, and what these were as text."""

    stamp: str
    values: dict[str, Any]
    texts: dict[str, str]


class Answer(NamedTuple):
    """What a call gave: ``changed`` is the new text of each key that changed, None where it was deleted.

    ``missing`` says that the worker has not got the state; then nothing was called.
    """

    missing: bool
    value: Any = None
    changed: dict[str, str | None] | None = None


class Shelf:
    """The states that a process keeps. Thread-safe."""

    def __init__(self, most: int = MOST, largest: int = LARGEST) -> None:
        self._most, self._largest = most, largest
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, session_id: str, stamp: str) -> Kept | None:
        """Take out the state of a session if it has that stamp: whoever calls puts it back when all went well."""
        with self._lock:
            found = self._kept.pop(session_id, None)
        return found if found is not None and found.stamp == stamp else None

    def put(self, session_id: str, kept: Kept) -> None:
        """Keep a state."""
        with self._lock:
            self._kept[session_id] = kept
            while len(self._kept) > self._most or (self._bytes() > self._largest and len(self._kept) > 1):
                self._kept.popitem(last=False)

    def _bytes(self) -> int:
        return sum(memory_of(kept.texts) for kept in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)


shelf = Shelf()


class OnState:
    """A function of the user's, called with the state of a session before its own arguments.

    Args:
        function: what is called; a coroutine function is awaited.
    """

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", None) or type(self.function).__name__)

    def __call__(
        self,
        session: tuple[str, str],
        stamps: tuple[str, str],
        entries: Mapping[str, str] | None,
        room: int,
        args: tuple[Any, ...],
    ) -> Any:
        """Call it and return an :class:`Answer`, or what is to be awaited for one.

        Args:
            session: its id and its name.
            stamps: that of the state to be called on, and that of what comes out.
            entries: the state, or None where the worker should have it.
            room: bytes that the state may have.
        """
        session_id, name = session
        kept = shelf.take(session_id, stamps[0])
        if entries is not None:
            values = {key: decode(text, f"state[{key!r}] of session {name!r}") for key, text in entries.items()}
            kept = Kept(stamps[0], values, dict(entries))
        if kept is None:
            return Answer(True)
        value = self.function(kept.values, *args)
        if inspect.isawaitable(value):
            return _later(value, session, stamps[1], kept, room)
        return _done(value, session, stamps[1], kept, room)


async def _later(value: Any, session: tuple[str, str], stamp: str, kept: Kept, room: int) -> Answer:
    return _done(await value, session, stamp, kept, room)


def _done(value: Any, session: tuple[str, str], stamp: str, kept: Kept, room: int) -> Answer:
    texts = texts_of(kept.values, session[1])
    check_room(texts, room, session[1])
    changed: dict[str, str | None] = {key: text for key, text in texts.items() if kept.texts.get(key) != text}
    changed.update(dict.fromkeys(kept.texts.keys() - texts.keys()))
    shelf.put(session[0], Kept(stamp, kept.values, texts))
    return Answer(False, value, changed)


def texts_of(values: Mapping[str, Any], name: str, what: str = "state") -> dict[str, str]:
    """Return values as texts.

    Raises:
        SessionError: a key is no text, or a part of a value cannot be kept; the error names it.
    """
    try:
        for key in values:
            checked_key(key, what)
        return {key: encode(value, f"{what}[{key!r}]") for key, value in values.items()}
    except SessionError as error:
        error.session = name
        raise


def checked_key(key: Any, what: str) -> str:
    """Return a key.

    Raises:
        SessionError: it is no text.
    """
    if type(key) is not str:
        raise SessionError(f"{what}[{key!r}] cannot be kept: its key is a {type(key).__name__}.", hint="Keys are texts (str).")
    return key


def check_room(entries: Mapping[str, str], room: int, name: str, beside: int = 0, what: str = "state") -> None:
    """Refuse a state that is too large.

    Raises:
        SessionError: it is; the error names the largest key. Nothing was lost: the state is the one before.
    """
    size = memory_of(entries) + beside
    if size > room:
        largest = max(entries, key=lambda key: len(entries[key]), default="")
        raise SessionError(
            f"The state of session {name!r} would be {size:,} bytes, and may be {room:,}; the largest is {what}[{largest!r}] "
            f"({len(entries.get(largest, '')):,} bytes).",
            session=name,
            hint="It is as it was before. Keep large values in a file and their path here, or raise lab.sessions.limits.",
        )
