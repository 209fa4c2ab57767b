"""The Lab's own event loop."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from dspex_lab import _loop
from dspex_lab._loop import LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()


@pytest.mark.parametrize("files", [1024, 0])
def test_timers_and_sockets_are_served_also_beyond_what_select_can_wait_for(
    loop: LoopThread, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loop, "_MOST_FILES", files)

    async def work() -> bytes:
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            waiting = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(here, 4))
            for _ in range(3):
                await asyncio.sleep(0.001)
            threading.Thread(target=there.send, args=(b"ping",)).start()
            return await asyncio.wait_for(waiting, 30)

    assert loop.run(work()) == b"ping"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the selector is fine as it is")
def test_a_wait_never_ends_before_its_time(loop: LoopThread) -> None:
    async def waits() -> list[float]:
        clock = asyncio.get_running_loop().time
        out = []
        for seconds in (0.0004, 0.002, 0.06):
            begun = clock()
            await asyncio.sleep(seconds)
            # asyncio itself takes what is due within the clock's resolution.
            out.append(clock() - begun - seconds)
        return out

    assert min(loop.run(waits())) >= -1e-6


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signal to a thread")
def test_an_interrupt_that_does_not_end_the_wait_is_seen_all_the_same(loop: LoopThread) -> None:
    rescued = threading.Event()

    def rescue() -> None:
        rescued.set()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    async def waits() -> None:
        signal.raise_signal(signal.SIGINT)  # it reaches this thread, and wakes nobody
        await asyncio.Event().wait()

    watch = threading.Timer(60, rescue)
    watch.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run(waits())
    watch.cancel()
    assert not rescued.is_set()
