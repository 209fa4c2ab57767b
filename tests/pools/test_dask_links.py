"""The wire to a Dask worker, without Dask: what is left of a call that failed, and what its failure is called."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pool_links import on_loop, ready, turn

from dspex_lab.errors import PoolError
from dspex_lab.pools._carry import pack
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._host import Host
from dspex_lab.pools._job import Job
from dspex_lab.pools._link import DaskLink
from dspex_lab.pools._shared import SharedFolder
from dspex_lab.pools._wire import Call

ABOVE = 100_000


class Worker:
    """Dask's client and its one worker: calls run in a host of this process."""

    def __init__(self, folder: SharedFolder) -> None:
        self.host = Host(share=folder.share)
        self.answered: Callable[[], Any] = lambda: None
        self.laid: dict[str, Any] = {}
        self.made: asyncio.Future[Any] | None = None

    def rpc(self, address: str) -> Worker:
        return self

    def submit(self, *_: Any, **__: Any) -> Worker:
        return self

    async def result(self) -> Any:
        return await self.made if self.made is not None else None

    def release(self) -> None: ...

    async def actor_execute(self, *, actor: str, function: str, args: tuple[Any, ...]) -> dict[str, Any]:
        if function == "lay":
            self.laid[args[0]] = args[1]
        else:
            wire = self.laid[args[0]] if function == "fetch" else args[0]
            answer = self.host.work(Call.from_wire(wire)).wire()
            self.answered()
            return {"status": "OK", "result": answer}
        return {"status": "OK", "result": None}


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    folder = SharedFolder(ABOVE, str(tmp_path))
    yield folder
    folder.close()


@pytest.mark.parametrize("long", [False, True])
def test_an_answer_that_cannot_be_read_is_named_and_its_worker_is_well(folder: SharedFolder, long: bool) -> None:
    @on_loop
    async def check() -> None:
        there = Worker(folder)
        dispatcher = Dispatcher("p")
        worker, _ = ready(dispatcher)
        worker.link = DaskLink(there, "tcp://w", "p", "w0", folder.share)
        there.answered = lambda: [os.unlink(file) for file in Path(folder.folder).iterdir()]
        with pytest.raises(PoolError, match=r"answer of zeros .*could not be read: FileNotFoundError") as caught:
            await asyncio.wait_for(dispatcher.run(Job(pack(np.zeros, (ABOVE,), pool="p"), long=long, idempotent=True)), 60)
        assert (caught.value.pool, caught.value.worker, caught.value.task) == ("p", "w0", "zeros")
        assert isinstance(caught.value.__cause__, FileNotFoundError)
        assert (worker.lost, worker.free) == (False, True)
        there.answered = lambda: None
        assert (await dispatcher.run(Job(pack(abs, (-1,), pool="p"), long=long))).kind == "value"

    check()


@pytest.mark.parametrize("long", [False, True])
def test_a_small_call_that_fails_leaves_no_large_answer(folder: SharedFolder, long: bool) -> None:
    @on_loop
    async def check() -> None:
        def breaks() -> None:
            assert os.listdir(folder.folder)
            raise ConnectionResetError

        there = Worker(folder)
        there.answered = breaks
        link = DaskLink(there, "tcp://w", "p", "w0", folder.share)
        call = pack(np.zeros, (ABOVE,), pool="p").call("7", send=True)
        with pytest.raises(OSError, match="ConnectionResetError"):
            await (link.task(call) if long else link.call(call))
        assert os.listdir(folder.folder) == []

    check()


@on_loop
async def test_a_host_that_fails_while_nobody_waits_any_more_is_not_complained_of(folder: SharedFolder) -> None:
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    there = Worker(folder)
    there.made, end = loop.create_future(), loop.create_future()
    settling = asyncio.ensure_future(DaskLink(there, "tcp://w", "p", "w0").settle(1, end, ""))
    await turn()
    there.made.set_exception(LookupError())
    settling.cancel()
    with contextlib.suppress(asyncio.CancelledError, LookupError):
        await settling
    del settling, there
    await turn()
    gc.collect()
    assert complaints == []


@on_loop
async def test_a_worker_that_ends_has_no_host_even_if_that_failed_in_the_same_moment(folder: SharedFolder) -> None:
    loop = asyncio.get_running_loop()
    there = Worker(folder)
    there.made, end = loop.create_future(), loop.create_future()
    settling = asyncio.ensure_future(DaskLink(there, "tcp://w", "p", "w0").settle(1, end, ""))
    await turn()
    there.made.set_exception(LookupError())
    end.set_result(None)
    assert await settling is None
