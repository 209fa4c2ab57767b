"""Calls on a host of this process, for tests of how a call sees itself in a worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from dspex_lab.pools._carry import decode, pack
from dspex_lab.pools._frames import unpack
from dspex_lab.pools._host import Host
from dspex_lab.pools._wire import Pulled, Reply

PLACE = {"pool": "p", "worker": "p-0", "label": "f"}
MB = 1_000_000

#: What the functions of a test share with it, though they are packed.
SHARED: dict[str, Any] = {}


def event(name: str) -> threading.Event:
    made: threading.Event = SHARED.setdefault(name, threading.Event())
    return made


class Going:
    """A call on a host, in a thread."""

    def __init__(self, host: Host, function: Callable[..., Any], *args: Any, streams: bool = True, name: str = "7") -> None:
        self.call = pack(function, args, pool="p").call(name, send=True, streams=streams)
        self.host, self.replies = host, []
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        self.replies.append(self.host.work(self.call))
        self.host.leave()

    def result(self) -> Any:
        return decode(self.reply(), **PLACE)

    def reply(self) -> Reply:
        self.thread.join()
        return self.replies[0]


def told(host: Host, name: str = "7") -> list[Any]:
    """All that a call tells, fetched as the kernel does."""

    async def pull() -> list[Any]:
        values: list[Any] = []
        while True:
            pulled = Pulled.from_wire(await host.pull(name, 10))
            values += map(unpack, pulled.chunks)
            if pulled.done:
                return values

    return asyncio.run(pull())
