"""Asking the owner of a space: a request is sent until it is answered, and the owner does it once."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_lab.errors import DspexError, Unserialisable, VariableError
from dspex_lab.variables._remote import PROTOCOL, Channel, Message, topics
from dspex_lab.variables._remote_wire import error_from_json

log = logging.getLogger("dspex_lab")

#: Seconds until a request is sent again, at first and at most.
_AGAIN, _LONGEST_AGAIN = 0.2, 5.0


@dataclass(slots=True, eq=False)
class Call:
    """A request under way.

    Args:
        writes: it changes something, so that whoever does not get its answer must be told that it may have been done.
    """

    number: int
    do: str
    args: Mapping[str, Any]
    writes: bool
    sent: int = 0
    heard: bool = False
    given_up: bool = False
    answer: Message | None = None
    woken: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, seconds: float) -> None:
        """Wait until something is heard of it, or it is given up."""
        with self.woken:
            self.woken.wait_for(lambda: self.heard or self.given_up or self.answer is not None, seconds)

    def hear(self, answer: Message | None) -> None:
        """Take its answer, or None for a word that it is under way."""
        with self.woken:
            self.heard = True
            self.answer = self.answer or answer
            self.woken.notify_all()

    def give_up(self) -> None:
        """Wait no longer."""
        with self.woken:
            self.given_up = True
            self.woken.notify_all()


class GivenUp(VariableError):
    """Who asked does not want the answer any more."""


class Silence(VariableError):
    """The owner does not answer."""


class Caller:
    """Asks the owner of a space. Thread-safe; never on the channel's own thread, which brings the answers.

    Args:
        channel: what carries messages.
        space: the name under which the space is served.
        timeout: seconds without a word from the owner after which it counts as gone.
        told: given each message that tells of a commit.
    """

    def __init__(self, channel: Channel, space: str, timeout: float, told: Callable[[Message], None]) -> None:
        self.me = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self.space = space
        self.timeout = timeout
        self._channel = channel
        self._told = told
        self._asks, tells = topics(space)
        self._epoch: str | None = None
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._unsubscribe = channel.subscribe(tells, self._hear)

    def ask(self, do: str, args: Mapping[str, Any] | None = None, *, writes: bool = False, timeout: float | None = None) -> Any:
        """Return what the owner answers.

        Args:
            writes: it changes something.

        Raises:
            VariableError: the owner refused, by the error it was refused with; or it does not answer.
        """
        return self.finish(self.begin(do, args or {}, writes=writes), timeout)

    def begin(self, do: str, args: Mapping[str, Any], *, writes: bool = False) -> Call:
        """Return a request, not yet sent."""
        with self._lock:
            call = Call(next(self._numbers), do, args, writes, given_up=self._closed)
            self._calls[call.number] = call
        return call

    def finish(self, call: Call, timeout: float | None = None) -> Any:
        """Send a request until it is answered, and return the answer; raises as :meth:`ask` does."""
        try:
            if self._epoch is None and call.do != "hello":
                self.ask("hello", timeout=timeout)
            while True:
                answer = self._answer(call, self.timeout if timeout is None else timeout)
                if not self._restarted(call, answer):
                    break
        finally:
            with self._lock:
                del self._calls[call.number]
        if "error" in answer:
            raise error_from_json(answer["error"])
        return answer.get("ok")

    def take_back(self, call: Call) -> None:
        """Say once that a request is not wanted any more: what it gets would end by itself later."""
        end = self.begin("cancel", {"number": call.number})
        with self._lock:
            self._calls[call.number] = call  # so that its answer is not forgotten there before this is read
        try:
            self._send(end)
        finally:
            with self._lock:
                del self._calls[end.number], self._calls[call.number]

    def close(self) -> None:
        """Hear nothing any more; who waits gives up, and who asks later does so at once."""
        self._unsubscribe()
        with self._lock:
            self._closed = True
            calls = list(self._calls.values())
        for call in calls:
            call.give_up()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _answer(self, call: Call, timeout: float) -> Message:
        deadline, pause = time.monotonic() + timeout, min(_AGAIN, timeout / 3)
        while True:
            failure = self._send(call)
            again = time.monotonic() + pause
            while call.answer is None and (now := time.monotonic()) < min(again, deadline):
                call.wait(min(again, deadline) - now)
                if call.given_up:
                    why = ": it was closed here" if self._closed else ""
                    raise GivenUp(f"The request {call.do!r} to the space {self.space!r} was given up{why}.")
                if call.heard:  # it is under way there
                    call.heard, deadline = False, time.monotonic() + timeout
            if call.answer is not None:
                return call.answer
            if time.monotonic() >= deadline:
                raise self._silence(call, timeout) from failure
            pause = min(2 * pause, _LONGEST_AGAIN, timeout / 3)

    def _send(self, call: Call) -> DspexError | None:
        """Send it; what the channel cannot do now, it may later."""
        with self._lock:
            low = min(self._calls, default=call.number)
        ask = {"from": self.me, "number": call.number, "low": low, "epoch": self._epoch, "do": call.do, "args": call.args}
        call.sent += 1
        try:
            self._channel.publish(self._asks, {"protocol": PROTOCOL, **ask})
        except Unserialisable as error:
            raise VariableError(f"The space {self.space!r} cannot be asked for {call.do!r}: {error}") from error
        except DspexError as error:
            return error
        return None

    def _silence(self, call: Call, timeout: float) -> Silence:
        known = " Whether it was done is not known: see the history." if call.writes else ""
        return Silence(
            f"The owner of the space {self.space!r} does not answer: nothing was heard of it for {timeout:g} s.{known}",
            hint="Does its kernel run, is it joined to the same cluster, and does it serve the space?",
        )

    def _restarted(self, call: Call, answer: Message) -> bool:
        """Say whether the request is to be sent anew, because the owner is another one than before."""
        epoch = answer.get("epoch")
        anew = bool(answer.get("restarted"))
        if isinstance(epoch, str):
            self._epoch = epoch
        if anew and call.writes and call.sent > 1:
            raise VariableError(
                f"The owner of the space {self.space!r} was restarted while it was asked. Whether it was done is not known.",
                hint="Look at the history, and ask again if need be.",
            )
        call.answer, call.sent = (None, 0) if anew else (answer, call.sent)
        return anew

    def _hear(self, message: Message) -> None:
        if message.get("to") == self.me:
            with self._lock:
                call = self._calls.get(message.get("number", 0))
            if call is not None:
                call.hear(None if message.get("waiting") else message)
        elif "commit" in message:
            self._told(message)
