"""The wire to one worker of a Dask cluster, and its end there."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_lab.errors import PoolError
from dspex_lab.pools._birth import Birth
from dspex_lab.pools._by_value import by_value, packed, perform, unpacked
from dspex_lab.pools._direct import Door, Lines
from dspex_lab.pools._host import Host
from dspex_lab.pools._loops import Tasks, hush, in_thread
from dspex_lab.pools._shared import Share
from dspex_lab.pools._wire import Call, Pulled, Pulse, Reply, Wire

log = logging.getLogger("dspex_lab")


class Resident(Host):
    """A :class:`Host` as it lives in a Dask worker.

    Long calls are laid down here, performed by a Dask task that only names them, and their answers fetched: neither goes by the
    scheduler, which keeps the count of the pool's resources.

    Args:
        threads: calls at once.
        worker: this worker's name.
        folder: its workspace.
        share: where large values are, for a worker on the kernel's ``machine``.
        machine: the kernel's; see :func:`machine_identity`.
        birth: for a worker that was not born for a pool: what it is given now, as far as it can be.
    """

    def __init__(
        self, threads: int, *, worker: str, folder: str, share: Share | None, machine: str, birth: Birth | None = None
    ) -> None:
        share = share if machine == machine_identity() else None
        super().__init__(threads, worker=worker, folder=folder, share=share)
        self._laid: dict[str, Any] = {}
        self._door: Door | None = None
        if birth is not None:
            if share is not None and birth.writable is not None:
                birth = dataclasses.replace(birth, writable=(*birth.writable, share.folder))
            birth.adopt()
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix="dspex-task", initializer=birth.confine_thread)
            self._threads.submit(int).result()

    async def open_door(self) -> tuple[str, bytes] | None:
        """Let the kernel, which is on this machine, send small calls by a short way (:mod:`_direct`); return where that is and
        its secret, or None where there can be none."""
        try:
            self._door = Door(lambda wire: self.work(Call.from_wire(wire)).wire(), self._folder)
        except OSError:  # no sockets here, or the folder's path is too long for one
            log.debug("there is no short way to this worker", exc_info=True)
            return None
        return self._door.path, self._door.secret

    async def lay(self, call_id: str, wire: Any) -> None:
        """Keep a call until it is performed."""
        self._laid[call_id] = wire

    def perform(self, call_id: str) -> None:
        """Run a call that was laid down, in one of the host's own threads, and keep its answer if it is still wanted; in
        a thread of Dask's."""
        if (wire := self._laid.get(call_id)) is not None:
            reply = self._threads.submit(self.work, Call.from_wire(wire)).result()
            if call_id in self._laid:
                self._laid[call_id] = reply

    async def fetch(self, call_id: str) -> Any:
        """Return the answer of a call that was performed."""
        return self._laid.pop(call_id).wire()

    async def forget(self, call_id: str) -> None:
        """Drop a call, or its answer, that nobody waits for any more."""
        self._laid.pop(call_id, None)

    async def describe(self) -> dict[str, Any]:
        """Return what this worker is: its ``pid``, ``machine`` (:func:`machine_identity`), ``missing`` preloads, and the
        level of ``protection``."""
        return {
            "pid": os.getpid(),
            "machine": machine_identity(),
            "missing": list(Birth.missing),
            "protection": Birth.protection,
        }


def machine_identity() -> str:
    """Return what two processes have in common that see the same files, processes and loopback: the start of the machine, and
    the namespaces and the user that they are in (Linux; elsewhere the machine's name)."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid")]
    except OSError:
        return socket.gethostname()
    return " ".join([boot, *spaces, str(os.geteuid())])


class DaskLink:
    """A :class:`~dspex_lab.pools._protocols.Link` by Dask's Actor and task messages, straight from kernel to worker.

    Args:
        client: of the cluster.
        address: the worker's.
        pool: the pool's name, which is that of the resource.
        worker: the worker's name.
        share: where large values are put for it, if it is on this machine.
    """

    def __init__(self, client: Any, address: str, pool: str, worker: str, share: Share | None = None) -> None:
        self._client, self._address, self._pool, self._worker = client, address, pool, worker
        self._share = share
        self._rpc = client.rpc(address)
        self._key = f"dspex-host-{worker}-{uuid.uuid4().hex}"
        self._actor: Any = None
        self._lines: Lines | None = None
        self._tasks = Tasks()

    async def settle(
        self, threads: int, end: asyncio.Future[Any], folder: str, birth: Birth | None = None
    ) -> dict[str, Any] | None:
        """Put a host into the worker; return what it says of itself (:meth:`Resident.describe`), or None if ``end``
        is done before.

        Args:
            threads: calls at once.
            end: done when the worker is.
            folder: its workspace.
            birth: for a worker that was not born for a pool.
        """
        host = {
            "worker": self._worker,
            "folder": folder,
            "share": self._share,
            "machine": machine_identity(),
            "birth": birth,
        }
        self._actor = self._client.submit(
            by_value(unpacked),
            packed((Resident, (threads,), host)),
            actor=True,
            workers=[self._address],
            allow_other_workers=False,
            key=self._key,
        )
        made = asyncio.ensure_future(self._actor.result())
        try:
            await asyncio.wait({made, end}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            made.add_done_callback(hush)
            if not made.done():
                made.cancel()
        if end.done():
            return None
        made.result()
        described: dict[str, Any] = await self._ask("describe")
        if described["machine"] != machine_identity():
            self._share = None
        elif birth is None and (door := await self._ask("open_door")) is not None:
            path, secret = door
            self._lines = await Lines.open(path, secret, threads)
        return described

    def release(self) -> None:
        """Give the host up: it goes, if its worker still lives."""
        if self._actor is not None:
            self._actor.release()
        if self._lines is not None:
            self._lines.close()

    async def call(self, call: Call) -> Reply:
        async with self._lent(call) as lent:
            return self._taken(call, await self._run(lent.wire()))

    async def _run(self, wire: Any) -> Wire:
        if self._lines is not None and isinstance(wire, bytes) and (answer := self._lines.ask(wire)) is not None:
            return await answer
        answered: Wire = await self._ask("run", wire)
        return answered

    async def task(self, call: Call) -> Reply:
        # Its own name each time: a call that is tried again is another task.
        name = f"{call.id}-{uuid.uuid4().hex}"
        async with self._lent(call) as lent:
            await self._ask("lay", name, lent.wire())
            future = self._submit(name)
            try:
                await future.result()
                wire = await self._ask("fetch", name)
            except asyncio.CancelledError:
                self._forget(name)
                raise
            except OSError:
                raise
            except Exception as error:
                raise self._lost(error) from error
            finally:
                future.release()
            return self._taken(call, wire)

    def _submit(self, name: str) -> Any:
        return self._client.submit(
            by_value(perform),
            self._key,
            name,
            workers=[self._address],
            allow_other_workers=False,
            resources={self._pool: 1},
            key=f"dspex-task-{name}",
            pure=False,
            retries=0,
        )

    @contextlib.asynccontextmanager
    async def _lent(self, call: Call) -> AsyncIterator[Call]:
        """Give a call as it is to be sent: with its arguments in a file, if they are large and the worker is here."""
        if self._share is None or call.arguments.size < self._share.above:
            if call.arguments.protocol == "shared":  # on its way to another worker, which had to be tried before
                call.arguments.protocol = "buffers" if call.arguments.buffers else "inline"
            try:
                yield call
            except BaseException:
                if self._share is not None:
                    self._share.forget(call.id)  # its answer may be large
                raise
            return
        with contextlib.ExitStack() as lending:
            # In a thread: it is as long as the copying of a large value.
            lent = await in_thread(lending.enter_context, self._share.lend(call))
            call.arguments.protocol = lent.arguments.protocol  # whoever tells how it travelled looks there
            yield lent

    def _taken(self, call: Call, wire: Any) -> Reply:
        reply = Reply.from_wire(wire)
        if self._share is not None:
            try:
                reply.body = self._share.take(reply.body)
            except (OSError, MemoryError) as error:
                raise self._unread(call, error) from error
        return reply

    def _unread(self, call: Call, error: OSError | MemoryError) -> PoolError:
        """Return the error for an answer that has come and cannot be had; its worker is well."""
        return PoolError(
            f"The answer of {call.label} from worker {self._worker} of pool {self._pool!r} is large, came by a file in memory, "
            f"and could not be read: {type(error).__name__}: {error}.",
            pool=self._pool,
            worker=self._worker,
            task=call.label,
            hint="Is this process at a limit: open files (ulimit -n), memory? Let go of large values, or return smaller ones.",
        )

    async def pull(self, call_id: str, patience: float) -> Pulled:
        return Pulled.from_wire(await self._ask("pull", call_id, patience))

    async def cancel(self, call_id: str) -> None:
        await self._ask("cancel", call_id)

    async def ping(self) -> Pulse:
        return Pulse.from_wire(await self._ask("ping"))

    def _forget(self, name: str) -> None:
        async def forget() -> None:
            with contextlib.suppress(OSError):  # its worker is gone, and the call with it
                await self._ask("forget", name)

        self._tasks.begin(forget())

    async def _ask(self, method: str, *args: Any) -> Any:
        # Not through the Actor's own methods: they send a call again when its worker is lost.
        try:
            answer = await self._rpc.actor_execute(actor=self._key, function=method, args=args)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise self._lost(error) from error
        if answer["status"] != "OK":
            raise self._lost(answer["exception"])
        return answer["result"]

    def _lost(self, error: BaseException) -> OSError:
        return OSError(f"the host of worker {self._worker} failed: {type(error).__name__}: {error}")
