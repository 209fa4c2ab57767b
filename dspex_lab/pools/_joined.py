"""A Dask cluster that somebody else has started, joined by its address.

Workers are taken whose resources carry the pool's name (``dask worker … --resources "general=1"``): the number is that of the
calls that a worker runs at once. The cluster stays its owner's: nothing is started, resized or ended here but the processes of
workers that a call has to be stopped in, which their nannies start anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client
from distributed.security import Security

from dspex_lab.errors import ConfigurationError, PoolError
from dspex_lab.pools import _undertaker
from dspex_lab.pools._joined_fit import compare_versions
from dspex_lab.pools._joined_fleet import JoinedFleet
from dspex_lab.pools._loops import Once, end

if TYPE_CHECKING:
    from dspex_lab.pools._dispatch import Dispatcher
    from dspex_lab.pools._spec import PoolSpec

log = logging.getLogger("dspex_lab")

#: Seconds until the scheduler must have answered.
CONNECT = 15.0

#: Seconds between two looks at who is there, besides those at each word of the scheduler's.
LOOK = 5.0

#: Seconds between two looks at whether the scheduler is.
GLANCE = 0.5

#: Seconds that Dask's client may take to close in peace.
PARTING = 10.0

#: Where Dask's scheduler says that workers came and went.
EVENTS = "all"


class JoinedCluster:
    """A :class:`~dspex_lab.pools._protocols.Cluster` that is somebody else's.

    Args:
        address: the scheduler's, ``tls://host:port``.
        tls_ca: file of the certificate authority.
        tls_cert: file of the certificate to show.
        tls_key: file of its key. What is None is taken from Dask's own configuration (``distributed.comm.tls``).

    Raises:
        ConfigurationError: an address without TLS, or a file that is not there.
    """

    def __init__(
        self, address: str, *, tls_ca: str | None = None, tls_cert: str | None = None, tls_key: str | None = None
    ) -> None:
        if not address.startswith("tls://"):
            raise ConfigurationError(
                f"The pools' address {address!r} is not one of a cluster with TLS.",
                key="pools.address",
                expected="tls://host:port",
                actual=address,
                hint="A scheduler without TLS runs anybody's code. `dspex-lab certificate FOLDER` makes what is needed.",
            )
        self.address = address
        self.security = _security(tls_ca, tls_cert, tls_key)
        self.client: Any = None
        self.workers: dict[str, dict[str, Any]] = {}
        self.fleets: set[JoinedFleet] = set()
        self._started = Once(self._start)
        self._watching: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Join, once.

        Raises:
            PoolError: the scheduler does not answer, or does not take the certificate.
        """
        await self._started.done()

    async def _start(self) -> None:
        try:
            await self._connect()
        except BaseException:
            await self._part()  # it may have been refused when the client was there already
            raise
        self._watching = asyncio.ensure_future(self._watch())

    async def _connect(self) -> None:
        try:
            # Known before it is connected: whoever is cancelled meanwhile leaves it to be closed.
            self.client = Client(
                self.address,
                security=self.security,
                asynchronous=True,
                set_as_default=False,
                direct_to_workers=True,
                timeout=CONNECT,
            )
            await self.client
        except (OSError, ValueError) as error:
            raise PoolError(
                f"The cluster at {self.address} could not be joined: {type(error).__name__}: {error}.",
                hint="Is the scheduler there, and are the certificates (pools.tls_ca, tls_cert, tls_key) of its authority?",
            ) from error
        versions = await self.client.scheduler.versions(packages=[])
        compare_versions(versions["packages"], f"The scheduler at {self.address}", "pools.address")
        self.client.subscribe_topic(_undertaker.TOPIC, self._died)
        self.client.subscribe_topic(EVENTS, lambda event: self._changed.set())
        await self._engage_undertaker()
        await self._look()

    async def _engage_undertaker(self) -> None:
        try:
            await self.client.scheduler.register_nanny_plugin(
                plugin=_undertaker.packed(), name=_undertaker.Undertaker.name, idempotent=True
            )
        except Exception as error:
            log.warning("the nannies of %s will not tell how their workers end: %s", self.address, error)

    async def _watch(self) -> None:
        """Attend to the cluster for ever; when it is lost, say so, and join it anew when it is back."""
        said = False
        while True:
            try:
                try:
                    await self._attend()
                except OSError as error:
                    self.workers = {}
                    for fleet in self.fleets:
                        fleet.lost(error)
                    await self._rejoin()
            except Exception:  # whoever ended here would miss every worker from now on that comes or goes
                log.log(logging.DEBUG if said else logging.ERROR, "the watch over %s failed", self.address, exc_info=True)
                said = True
                await asyncio.sleep(GLANCE)

    async def _attend(self) -> None:
        looked = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GLANCE):
                    await self._changed.wait()
            if self.client.status != "running":
                raise ConnectionError("its scheduler has closed the connection")
            if self._changed.is_set() or time.monotonic() - looked > LOOK:
                self._changed.clear()
                async with asyncio.timeout(CONNECT):
                    await self._look()
                looked = time.monotonic()

    async def _rejoin(self) -> None:
        # Its own reconnection would not bring the hosts back: the scheduler forgets what a client had when it goes.
        await self._part()
        pause = GLANCE
        while True:
            await asyncio.sleep(pause)
            try:
                await self._connect()
                return
            except Exception as error:
                log.debug("%s is not back: %s", self.address, error)
                await self._part()
                pause = min(2 * pause, LOOK)

    async def _look(self) -> None:
        """Tell the fleets which workers came and went."""
        found = (await self.client.scheduler.identity())["workers"]
        gone = [address for address in self.workers if address not in found]
        come = {address: about for address, about in found.items() if address not in self.workers}
        self.workers = dict(found)
        for fleet in self.fleets:
            for address in gone:
                fleet.left(address)
            for address, about in come.items():
                fleet.arrived(address, about)

    def _died(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, death = event
        for fleet in self.fleets:
            fleet.ended(death["address"], death["code"], terminated=death["terminated"])

    def fleet(self, spec: PoolSpec, dispatcher: Dispatcher) -> JoinedFleet:
        """Return the workers of a pool, not yet taken."""
        return JoinedFleet(self, spec, dispatcher)

    async def close(self) -> None:
        """Leave the cluster. Idempotent."""
        await self._started.ended()
        if self._watching is not None:
            await end(self._watching)
        await self._part()
        self._watching = None

    async def _part(self) -> None:
        if self.client is not None:
            try:
                async with asyncio.timeout(PARTING):
                    await self.client.close()
            except Exception:
                log.debug("the client of %s did not close in peace", self.address, exc_info=True)
            self.client = None


def _security(ca: str | None, cert: str | None, key: str | None) -> Security:
    files = {"tls_ca_file": ca, "tls_client_cert": cert, "tls_client_key": key}
    given = {name: str(Path(file).expanduser()) for name, file in files.items() if file}
    security = Security(require_encryption=True, **given)
    for (name, _), setting in zip(files.items(), ("tls_ca", "tls_cert", "tls_key"), strict=True):
        file = getattr(security, name)
        # Dask takes a certificate's own text for a file's name too.
        if file is None or ("\n" not in file and not Path(file).is_file()):
            raise ConfigurationError(
                f"pools.{setting} is {file!r}: no such file." if file else f"pools.{setting} is not set.",
                key=f"pools.{setting}",
                expected="a PEM file",
                actual=file,
                hint="`dspex-lab certificate FOLDER` makes all three; the cluster must have been started with the same ones.",
            )
    return security
