"""A joined cluster that misbehaves: what is watched on, buried and given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pool_links import VALUE, Wire, job, on_loop, start, turn

from dspex_lab.errors import ConfigurationError, WorkerKilled
from dspex_lab.pools import MINIMUM_MEMORY, PoolSpec, _joined, _joined_fleet, make_certificates
from dspex_lab.pools._dispatch import Dispatcher
from dspex_lab.pools._joined import JoinedCluster
from dspex_lab.pools._joined_fleet import JoinedFleet

ADDRESS = "tls://10.0.0.2:4321"
ABOUT = {"resources": {"p": 1}, "nanny": "tls://10.0.0.2:4320", "name": "far", "local_directory": "/there"}


class Client:
    """Dask's: its nannies do as told."""

    def __init__(self, kill: Callable[[], Any] = lambda: None) -> None:
        self._kill = kill
        self.killed: list[str] = []
        self.closed = False
        self.status = "running"

    def rpc(self, address: str) -> Client:
        self._address = address
        return self

    async def kill(self, **_: Any) -> None:
        await asyncio.sleep(0)
        self.killed.append(self._address)
        self._kill()

    async def close(self) -> None:
        self.closed = True


class Link(Wire):
    """The wire to a worker on another machine."""

    released = False

    async def settle(self, *_: Any) -> dict[str, Any]:
        return {"missing": [], "machine": "another", "protection": "rlimits", "pid": 7}

    def release(self) -> None:
        self.released = True


@pytest.fixture
def cluster(tmp_path: Path) -> JoinedCluster:
    made = make_certificates(tmp_path / "tls")
    return JoinedCluster("tls://10.0.0.1:8786", tls_ca=str(made.ca), tls_cert=str(made.cert), tls_key=str(made.key))


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[Link]:
    made: list[Link] = []

    def link(*_: Any) -> Link:
        made.append(Link())
        return made[-1]

    async def fits(*_: Any) -> None: ...

    monkeypatch.setattr(_joined_fleet, "DaskLink", link)
    monkeypatch.setattr(_joined_fleet, "check_versions", fits)
    return made


async def joined(cluster: JoinedCluster, client: Client) -> tuple[JoinedFleet, Dispatcher]:
    """A fleet with one worker, which is far."""
    dispatcher = Dispatcher("p")
    fleet = cluster.fleet(PoolSpec("p", 1, MINIMUM_MEMORY), dispatcher)
    dispatcher.end = fleet.kill
    cluster.client, cluster.workers = client, {ADDRESS: ABOUT}
    cluster._started._task = asyncio.ensure_future(asyncio.sleep(0))
    await fleet.start()
    return fleet, dispatcher


def test_a_call_on_a_far_worker_that_cannot_be_ended_is_told_so_all_the_same(
    cluster: JoinedCluster, links: list[Link], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(_joined_fleet, "WORD", 0.01)

    def unreachable() -> None:
        raise OSError("no route to host")

    @on_loop
    async def check() -> None:
        fleet, dispatcher = await joined(cluster, Client(unreachable))
        [going] = start(dispatcher, job())
        await turn()
        dispatcher.restart()
        with pytest.raises(WorkerKilled, match="somebody restarted it"):
            await asyncio.wait_for(going, 60)
        assert links[0].released
        assert "worker far of pool 'p' could not be ended" in caplog.text
        await fleet.close()

    check()


def test_closing_ends_what_runs_on_other_machines(cluster: JoinedCluster, links: list[Link]) -> None:
    @on_loop
    async def check() -> None:
        client = Client()
        fleet, dispatcher = await joined(cluster, client)
        [going] = start(dispatcher, job())
        await turn()
        dispatcher.close()
        await fleet.close()
        assert client.killed == [ABOUT["nanny"]]
        await asyncio.gather(going, return_exceptions=True)
        idle, other = await joined(cluster, client)
        [done] = start(other, job())
        await turn()
        links[-1].answers[0].set_result(VALUE)
        await done
        other.close()
        await idle.close()
        assert len(client.killed) == 1  # who runs nothing lives on

    check()


def test_a_worker_that_is_refused_keeps_no_host(
    cluster: JoinedCluster, links: list[Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def settle(*_: Any) -> dict[str, Any]:
        return {"missing": ["torch"], "machine": "another", "protection": "", "pid": 7}

    monkeypatch.setattr(Link, "settle", settle)

    @on_loop
    async def check() -> None:
        with pytest.raises(ConfigurationError, match="torch could not be imported"):
            await joined(cluster, Client())
        assert links[0].released

    check()


def test_the_watch_goes_on_whatever_fails_in_it_and_says_so_once(
    cluster: JoinedCluster, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(_joined, "GLANCE", 0)

    @on_loop
    async def check() -> None:
        looked: list[int] = []
        enough = asyncio.Event()

        async def attend() -> None:
            looked.append(1)
            if len(looked) == 3:
                enough.set()
            raise KeyError("a word of the scheduler's that nobody knows")

        monkeypatch.setattr(cluster, "_attend", attend)
        cluster._watching = asyncio.ensure_future(cluster._watch())
        await asyncio.wait({cluster._watching, asyncio.ensure_future(enough.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert enough.is_set()
        await cluster.close()

    check()
    assert [r.levelno for r in caplog.records if "the watch over" in r.message and r.levelno > logging.DEBUG] == [logging.ERROR]


def test_a_word_of_the_scheduler_that_comes_together_with_the_close_does_not_outlive_it(cluster: JoinedCluster) -> None:
    cluster.client = client = Client()

    @on_loop
    async def check() -> None:
        cluster._watching = watching = asyncio.ensure_future(cluster._watch())
        await turn()
        cluster._changed.set()
        await asyncio.sleep(0)  # it has come, and whoever waits for it has not gone on yet
        await cluster.close()
        assert watching.cancelled()

    check()
    assert client.closed


def test_a_client_that_was_connecting_when_the_lab_was_closed_is_closed(
    cluster: JoinedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    connecting = asyncio.Event()

    class Hanging(Client):
        def __init__(self, *_: Any, **__: Any) -> None:
            super().__init__()
            made.append(self)

        def __await__(self) -> Any:
            connecting.set()
            return asyncio.Event().wait().__await__()

    made: list[Hanging] = []
    monkeypatch.setattr(_joined, "Client", Hanging)
    monkeypatch.setattr(_joined, "GLANCE", 0)
    lost = Client()
    lost.status, cluster.client = "closed", lost

    @on_loop
    async def check() -> None:
        cluster._watching = watching = asyncio.ensure_future(cluster._watch())
        await connecting.wait()
        await cluster.close()
        assert watching.cancelled()

    check()
    assert [client.closed for client in made] == [True]


def test_who_is_joining_a_scheduler_that_says_nothing_can_be_closed(
    cluster: JoinedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_joined, "CONNECT", 3600.0)

    @on_loop
    async def check() -> None:
        called, gone = asyncio.Event(), asyncio.Event()

        async def mute_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            called.set()
            await reader.read(-1)  # to the end
            writer.close()
            gone.set()

        mute = await asyncio.start_server(mute_one, "127.0.0.1", 0)
        cluster.address = f"tls://127.0.0.1:{mute.sockets[0].getsockname()[1]}"
        starting = asyncio.ensure_future(cluster.start())
        await called.wait()
        await asyncio.wait_for(cluster.close(), 60)
        with pytest.raises(asyncio.CancelledError):
            await starting
        await gone.wait()
        mute.close()

    check()
    assert cluster.client is None


def test_a_scheduler_that_is_refused_keeps_no_client(cluster: JoinedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()

    async def connect() -> None:
        cluster.client = client
        raise ConfigurationError("another Python", key="pools.address")

    monkeypatch.setattr(cluster, "_connect", connect)

    @on_loop
    async def check() -> None:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="another Python"):
                await cluster.start()
            assert client.closed
        await cluster.close()

    check()
