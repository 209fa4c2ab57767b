"""The owner's end of a space that others see: it answers what it is asked, and tells of each commit."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as made
from typing import TYPE_CHECKING, Any

from dspex_lab._loop import LoopThread
from dspex_lab.errors import DspexError, Unserialisable, VariableError, did_you_mean
from dspex_lab.variables._protocols import Commit
from dspex_lab.variables._remote import PROTOCOL, Channel, Message, topics
from dspex_lab.variables._remote_calls import Caller, Silence
from dspex_lab.variables._remote_deeds import ENDS, READS, Deeds
from dspex_lab.variables._remote_wire import Malformed, error_to_json, field

if TYPE_CHECKING:
    from dspex_lab.variables._space import Space

log = logging.getLogger("dspex_lab")

#: Requests under way at once; one more is refused, unless it is of those that let others end.
MOST = 256

#: Askers whose requests are remembered; the one that was silent longest is forgotten first.
_ASKERS = 1000

#: Threads in which a space is read and written for others.
_THREADS = 4


@dataclass(slots=True)
class _Asker:
    """What one asker has under way, and the answers that it may ask for again."""

    low: int = 0
    tasks: dict[int, asyncio.Task[None]] = made(default_factory=dict)
    answers: dict[int, Message] = made(default_factory=dict)

    def forget(self, low: int) -> None:
        """Forget the answers to what it does not ask any more."""
        self.low = max(self.low, low)
        for number in [number for number in self.answers if number < self.low]:
            del self.answers[number]


@dataclass(frozen=True, slots=True)
class _Ask:
    asker: str
    number: int
    low: int
    epoch: str | None
    do: str
    args: Mapping[str, Any]

    @classmethod
    def read(cls, message: Message) -> _Ask:
        if message.get("protocol") != PROTOCOL:
            raise Malformed(f"its protocol is {message.get('protocol')!r}, not {PROTOCOL}.")
        asker, epoch = field(message, "from", str), field(message, "epoch", str, optional=True)
        number, low = field(message, "number", int), field(message, "low", int)
        return cls(asker, number, low, epoch, field(message, "do", str), field(message, "args", dict))


class NameTaken(VariableError):
    """Another kernel serves a space of that name."""


class Served:
    """A space that kernels joined to the same cluster see. Close it to end that; leases that they hold end in their time.

    Args:
        space: the space.
        channel: what carries messages.
        name: under which name it is served.
    """

    def __init__(self, space: Space, channel: Channel, name: str) -> None:
        self.name = name
        self.space = space
        #: Another one for each time that a space is served, so that nobody takes a new owner for the old one.
        self.epoch = os.urandom(8).hex()
        self._asks, self._tells = topics(name)
        self._channel = channel
        self._askers: OrderedDict[str, _Asker] = OrderedDict()
        self._under_way = 0
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dspex-space")
        self._thread = LoopThread("dspex-space")
        self._deeds = Deeds(space, self.epoch, self._cancel)
        self._closed = threading.Event()
        self._ends = [space.observe(self._tell), channel.subscribe(self._asks, self._receive)]

    def __repr__(self) -> str:
        return f"<Served {self.name!r}{', closed' if self._closed.is_set() else ''}>"

    def close(self) -> None:
        """Answer nobody any more. Idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        for end in self._ends:
            end()
        self._thread.close()
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *about: Any) -> None:
        self.close()

    # ---- telling ---------------------------------------------------------------------------------------------------

    def _tell(self, commit: Commit) -> None:
        message = self._deeds.keep(commit)
        try:
            self._channel.publish(self._tells, {"epoch": self.epoch, "commit": message})
        except Unserialisable as error:
            log.warning("version %d of the space %r could not be told to other kernels: %s", commit.version, self.name, error)
        except DspexError as error:
            # Who misses it asks for it.
            log.debug("version %d of the space %r could not be told now: %s", commit.version, self.name, error)

    # ---- being asked -----------------------------------------------------------------------------------------------

    def _receive(self, message: Message) -> None:
        try:
            ask = _Ask.read(message)
        except Malformed as error:
            log.warning("a message to the space %r is none and was left: %s", self.name, error)
            return
        if not self._closed.is_set():
            self._thread.loop.call_soon_threadsafe(self._begin, ask)

    def _begin(self, ask: _Ask) -> None:
        """Do it, unless it is under way or done. On the loop, as all that follows."""
        asker = self._askers.setdefault(ask.asker, _Asker())
        self._askers.move_to_end(ask.asker)
        asker.forget(ask.low)
        while len(self._askers) > _ASKERS:
            self._askers.popitem(last=False)
        if ask.number in asker.answers:
            self._send(ask, asker.answers[ask.number])
        elif ask.number in asker.tasks:
            self._send(ask, {"waiting": True})
        elif ask.number < asker.low:
            return  # it came late; who sent it has its answer, or wants none
        elif ask.epoch != self.epoch and ask.do != "hello":
            self._send(ask, {"restarted": True})
        elif self._under_way >= MOST and ask.do not in ENDS:
            error = VariableError(f"The owner of the space {self.name!r} has {MOST} requests under way.", hint="Ask later.")
            self._send(ask, {"error": error_to_json(error)})
        else:
            self._under_way += 1
            task = asyncio.ensure_future(self._answer(ask, asker))
            asker.tasks[ask.number] = task

    async def _answer(self, ask: _Ask, asker: _Asker) -> None:
        try:
            answer = {"ok": await self._do(ask)}
        except asyncio.CancelledError:
            why = "is not served any more" if self._closed.is_set() else "was asked to forget the request"
            answer = {"error": error_to_json(VariableError(f"The space {self.name!r} {why}."))}
        except Exception as error:
            if not isinstance(error, DspexError):
                log.warning("the space %r was asked for %r by %s, and failed", self.name, ask.do, ask.asker, exc_info=True)
            answer = {"error": error_to_json(error)}
        finally:
            self._under_way -= 1
            del asker.tasks[ask.number]
        if ask.do not in READS:
            asker.answers[ask.number] = answer
        self._send(ask, answer)

    def _send(self, ask: _Ask, answer: Mapping[str, Any]) -> None:
        to = {"to": ask.asker, "number": ask.number, "epoch": self.epoch}
        try:
            self._channel.publish(self._tells, {**answer, **to})
        except Unserialisable as error:
            self._channel.publish(self._tells, {"error": error_to_json(error), **to})
        except DspexError as error:
            # It is asked for again.
            log.debug("an answer of the space %r could not be sent: %s", self.name, error)

    async def _do(self, ask: _Ask) -> Any:
        if ask.do in self._deeds.waiting:
            return await self._deeds.waiting[ask.do](ask.asker, ask.args)
        deed = self._deeds.short.get(ask.do)
        if deed is None:
            known = [*self._deeds.short, *self._deeds.waiting]
            raise VariableError(
                f"A space cannot be asked for {ask.do[:100]!r}.{did_you_mean(ask.do[:100], known)}",
                hint=f"It knows {', '.join(known)}.",
            )
        return await self._thread.loop.run_in_executor(self._threads, deed, ask.args)

    def _cancel(self, who: str, number: int) -> Any:
        """Take back a request; return the answer where it was answered."""
        asker = self._askers[who]
        task = asker.tasks.get(number)
        if task is not None:
            task.cancel()
        return asker.answers.get(number, {}).get("ok")


def serve_space(
    space: Space,
    channel: Channel,
    *,
    name: str | None = None,
    probe: float = 0.5,
    patience: float = 60.0,
    over: threading.Event | None = None,
) -> Served:
    """Let kernels joined to the same cluster see a space, and ask for changes to it. Waits until the cluster is reached.

    Args:
        space: the space.
        channel: what carries messages; ``lab.pools.channel()``.
        name: under which name it is served; its own where None.
        probe: seconds to listen for another owner of that name.
        patience: seconds to wait for the cluster.
        over: when it is set, nobody waits any more.

    Raises:
        NameTaken: another kernel serves a space of that name there.
        VariableError: the cluster is not reached.
    """
    name = space.name if name is None else name
    caller = Caller(channel, name, probe, lambda message: None)
    echo = threading.Event()
    end = channel.subscribe(topics(name)[0], lambda message: echo.set() if message.get("from") == caller.me else None)
    until = time.monotonic() + patience
    try:
        while True:
            reached = echo.is_set()
            try:
                caller.ask("hello")
            except Silence as error:
                if reached:
                    return Served(space, channel, name)
                if time.monotonic() >= until or (over is not None and over.is_set()):
                    raise VariableError(
                        f"The space {name!r} cannot be served: the cluster was not reached in {patience:g} s."
                    ) from error.__cause__
            else:
                raise NameTaken(
                    f"Another kernel serves a space as {name!r} on this cluster.",
                    hint="serve_space(space, channel, name=...) takes another name.",
                )
    finally:
        end()
        caller.close()
