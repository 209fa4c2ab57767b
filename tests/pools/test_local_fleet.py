"""The kernel's own fleet, on a cluster without processes: starts that fail, and growing after workers were given up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pool_links import Wire, on_loop, turn

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools import MINIMUM_MEMORY, PoolSpec, _cluster_fleet
from dspex_lab.pools._cluster_fleet import LocalFleet
from dspex_lab.pools._dispatch import Dispatcher


class Dask:
    """Starts no processes: the fleet is told what its nannies would tell it."""

    def __init__(self) -> None:
        self.workers: dict[str, Any] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.refuses: set[str] = set()
        self.removed: list[str] = []

    async def add(self, name: str, options: dict[str, Any]) -> None:
        fleet = options["fleet"]
        self.workers[name] = SimpleNamespace(_fleet=fleet)
        if name in self.refuses:
            fleet.failed(name, OSError("no process"))
            raise OSError("no process")
        fleet.up(name, 1, f"tls://{name}")
        if name in self.gates:
            await self.gates[name].wait()

    async def remove(self, name: str, patience: float) -> None:
        self.removed.append(name)
        if f"end {name}" in self.gates:
            await self.gates[f"end {name}"].wait()
        self.workers.pop(name, None)


class Link(Wire):
    missing: list[str] = []  # noqa: RUF012

    async def settle(self, *_: Any) -> dict[str, Any]:
        return {"missing": self.missing, "protection": ""}

    def release(self) -> None: ...


@pytest.fixture
def dask(monkeypatch: pytest.MonkeyPatch) -> Dask:
    monkeypatch.setattr(_cluster_fleet, "DaskLink", lambda *_: Link())
    monkeypatch.setattr(_cluster_fleet, "PATIENCE", (0.0,))
    return Dask()


def fleet_of(dask: Dask, workers: int) -> tuple[LocalFleet, Dispatcher]:
    async def start() -> None: ...

    cluster: Any = SimpleNamespace(dask=dask, client=None, security=None, start=start, forget_path=lambda folder: None)
    dispatcher = Dispatcher("p")
    fleet = LocalFleet(cluster, PoolSpec("p", workers, MINIMUM_MEMORY), dispatcher)
    fleet.launcher = SimpleNamespace(start=lambda: None, stop=lambda: None, pid=None, preload=())  # type: ignore[assignment]
    return fleet, dispatcher


def test_a_worker_that_does_not_fit_fails_the_start_while_others_are_still_on_their_way(
    dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "missing", ["torch"])

    @on_loop
    async def check() -> None:
        fleet, dispatcher = fleet_of(dask, 2)
        dask.gates["p-1"] = asyncio.Event()
        starting = asyncio.ensure_future(fleet.start())
        while "p-1" not in dispatcher.workers:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await turn(20)
        dask.gates["p-1"].set()
        with pytest.raises(ConfigurationError, match="torch could not be imported"):
            await starting
        await fleet.close()

    check()


def test_a_pool_grows_to_its_number_though_a_worker_is_given_up_meanwhile(dask: Dask) -> None:
    @on_loop
    async def check() -> None:
        fleet, dispatcher = fleet_of(dask, 2)
        await fleet.start()
        fleet._attempts = {"p-0": 1, "p-1": 1}
        dask.gates |= {"end p-0": asyncio.Event(), "end p-1": asyncio.Event()}
        fleet.failed("p-0", OSError("for good"))
        growing = asyncio.ensure_future(fleet.resize(2))
        await turn()
        fleet.failed("p-1", OSError("for good, too"))  # while the nanny of the other one leaves
        await turn()
        dask.gates["end p-0"].set()
        await turn()
        dask.gates["end p-1"].set()
        await growing
        assert {name: worker.state for name, worker in dispatcher.workers.items()} == {"p-0": "ready", "p-1": "ready"}
        assert dispatcher.failures == {}
        assert sorted(dask.workers) == ["p-0", "p-1"]
        await fleet.close()

    check()
