"""Leases from elsewhere: one queue for all kernels, and nothing is left behind by who goes."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from remote_helpers import TOLD, Hub, until

from dspex_lab.errors import LeaseError
from dspex_lab.variables import Author, RemoteSpace, Space


def test_a_lease_from_elsewhere_holds_writes_and_ends(space: Space, remote: RemoteSpace) -> None:
    with remote.lease("k", "temperature", owner="gepa") as lease:
        assert lease.owner.startswith("gepa@")
        assert lease.names == ("k", "temperature")
        assert lease.alive
        assert [status.owner for status in remote.leases()] == [lease.owner]
        assert remote.leases() == space.leases()
        with pytest.raises(LeaseError, match="'k' is leased to 'gepa@") as caught:
            space.commit({"k": 1})
        assert caught.value.holder == lease.owner
        commit = lease.commit({"k": 2}, why="better", score=0.5)
        assert commit.fence == lease.fence
        assert commit.author == Author("optimizer", lease.owner, "better", 0.5)
        assert remote.rollback(1, ["temperature"], lease=lease).changes == {}
        lease.renew()
        with pytest.raises(LeaseError, match="is not in the lease"):
            lease.commit({"adapter": "json"})
    assert space.leases() == ()
    assert not lease.alive
    with pytest.raises(LeaseError, match="was released"):
        lease.commit({"k": 3})
    with pytest.raises(LeaseError, match="was released"):
        lease.renew()


def test_who_waits_elsewhere_is_in_the_same_queue(space: Space, remote: RemoteSpace) -> None:
    held = space.lease("k", owner="optuna")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(remote.lease, "k", "adapter", owner="gepa")
        until(lambda: any(status.state == "waiting" for status in remote.leases()))
        with pytest.raises(LeaseError, match="waited 0 s") as caught:
            space.lease("adapter", owner="third", patience=0)  # no overtaking
        assert str(caught.value.holder).startswith("gepa@")
        held.release()
        lease = waits.result(60)
    assert lease.alive
    lease.release()
    assert space.leases() == ()


def test_patience_and_interrupts_leave_the_queue_clean(
    space: Space, remote: RemoteSpace, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    space.lease("k", owner="optuna")
    with pytest.raises(LeaseError, match=r"'gepa@.* waited .* for 'k', which 'optuna' has") as caught:
        remote.lease("k", owner="gepa", patience=0.01)
    assert caught.value.holder == "optuna"

    def interrupted(self: Any, seconds: float) -> None:
        until(lambda: len(space.leases()) == 2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dspex_lab.variables._remote_calls.Call.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remote.lease("k", owner="gepa")
    remote.values()
    assert [status.owner for status in space.leases()] == ["optuna"]


def test_tasks_wait_for_a_lease_and_can_be_cancelled(space: Space, remote: RemoteSpace) -> None:
    async def main() -> None:
        async with remote.alease("k", owner="first") as first:
            assert (await asyncio.to_thread(first.commit, {"k": 7})).changes["k"].value == 7
            waits = asyncio.ensure_future(remote.alease("k", owner="second"))
            await asyncio.to_thread(until, lambda: len(space.leases()) == 2)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
            await asyncio.to_thread(until, lambda: len(space.leases()) == 1)
        assert space.leases() == ()
        lease = await remote.alease("k", owner="third")
        lease.release()

    asyncio.run(main())


def test_a_lease_that_comes_after_nobody_wants_it_any_more_is_given_back(space: Space, remote: RemoteSpace, hub: Hub) -> None:
    """The owner has granted it, and the answer is on its way when who asked is interrupted."""
    arrived = threading.Event()

    def hold(topic: str, message: dict[str, Any]) -> bool:
        if topic == TOLD and "fence" in str(message.get("ok")):
            arrived.set()
            return True
        return False

    async def main() -> None:
        hub.lose = hold
        waits = asyncio.ensure_future(remote.alease("k", owner="gone", ttl=1_000_000))
        await asyncio.to_thread(arrived.wait, 60)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        hub.lose = lambda topic, message: False
        await asyncio.to_thread(until, lambda: not space.leases())

    asyncio.run(main())


def test_who_holds_a_lease_here_does_not_wait_for_one_elsewhere(space: Space, remote: RemoteSpace) -> None:
    other = Space("other")
    other.int("x", 0, 9)
    space.lease("k", owner="optuna")
    with other.lease("x", owner="me"), pytest.raises(LeaseError, match="which 'optuna' has"):
        remote.lease("k", owner="me")


def test_a_person_elsewhere_breaks_a_lease(space: Space, remote: RemoteSpace) -> None:
    lease = space.lease("k", owner="stuck")
    remote.break_lease("k", "it hangs")
    assert not lease.alive
    with pytest.raises(LeaseError, match="it hangs"):
        lease.commit({"k": 1})
    with pytest.raises(LeaseError, match="not leased"):
        remote.break_lease("k")


def test_a_lease_of_another_space_holds_nothing_elsewhere_either(space: Space, remote: RemoteSpace) -> None:
    other = Space("other", clock=lambda: 1.0)
    other.int("k", 0, 9)
    with other.lease("k", owner="me") as foreign, remote.lease("k", owner="gepa") as mine:
        for write in (lambda: remote.commit({"k": 1}, lease=foreign), lambda: remote.rollback(1, "k", lease=foreign)):
            with pytest.raises(LeaseError, match="is none of the space 'default'"):
                write()
        with pytest.raises(LeaseError, match="is none of the space 'default'"):
            space.commit({"k": 1}, lease=mine)  # a handle belongs to the kernel that it was given to
        assert mine.commit({"k": 1}).changes["k"].value == 1
