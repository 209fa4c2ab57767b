"""Brings the commits of a space elsewhere to the observers here: each once, in the order of versions, none left out."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from dspex_lab.errors import DspexError
from dspex_lab.variables._observers import Observers
from dspex_lab.variables._protocols import Commit
from dspex_lab.variables._remote import Message
from dspex_lab.variables._remote_calls import Caller
from dspex_lab.variables._remote_wire import field

log = logging.getLogger("dspex_lab")

#: Commits that wait for the observers here; of more, the oldest are asked for again.
_WAITING = 10_000

#: How often the owner is asked for a commit that it should have, before it is given up.
_TRIES = 3


class Follower:
    """Follows a space from the first observer on, on a thread of its own. Thread-safe.

    Args:
        space: its name.
        caller: asks the owner.
        read: makes a commit of a message.
        every: seconds after which, where nothing was told, the owner is asked whether something was missed.
    """

    def __init__(self, space: str, caller: Caller, read: Callable[[Message], Commit], every: float) -> None:
        self.observers = Observers()
        self._space, self._caller, self._read, self._every = space, caller, read, every
        self._version: int | None = None
        self._tries = 0
        self._messages: deque[Message] = deque(maxlen=_WAITING)
        self._woken = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow, once: from the present version on."""
        with self._lock:
            if self._thread is None:
                self._version = field(self._caller.ask("hello"), "version", int)
                self._thread = threading.Thread(target=self._follow, name="dspex-remote-space", daemon=True)
                self._thread.start()

    def told(self, message: Message) -> None:
        """Take what the owner tells of a commit; returns at once."""
        if self._version is not None:
            self._messages.append(message)
            self._woken.set()

    def close(self) -> None:
        """Follow no longer. Idempotent."""
        self._closed.set()
        self._woken.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _follow(self) -> None:
        complained = False
        while not self._closed.is_set():
            told = self._woken.wait(self._every)
            self._woken.clear()
            try:
                while self._messages and not self._closed.is_set():
                    self._bring(self._messages.popleft())
                if not told:
                    self._catch_up()
                complained = False
            except DspexError as error:
                if not complained and not self._closed.is_set():
                    log.warning("the space %r cannot be followed now, and is tried again: %s", self._space, error)
                complained = True

    @property
    def _at(self) -> int:
        return self._version or 0

    def _bring(self, message: Message) -> None:
        commit = field(message, "commit", dict)
        version = field(commit, "version", int)
        if version == self._at + 1:
            self._deliver(commit)
        elif version > self._at:
            self._catch_up()

    def _catch_up(self) -> None:
        """Ask for what is missing until nothing is."""
        while True:
            before = self._at
            found = self._caller.ask("since", {"after": before})
            now = field(found, "version", int)
            for commit in field(found, "commits", list):
                if field(commit, "version", int) > self._at:
                    self._deliver(commit)
            if before <= now <= self._at:
                return
            if self._at > before:
                self._tries = 0
                continue
            self._tries += 1
            if now < before or self._tries >= _TRIES:  # the owner has begun anew, or its journal has lost something
                log.warning("the space %r went from version %d to %d, and nobody knows how", self._space, before, now)
                self._version, self._tries = now, 0
            return

    def _deliver(self, found: Any) -> None:
        commit = self._read(found)
        self._version = commit.version
        self.observers.put(commit)
        self.observers.tell()
