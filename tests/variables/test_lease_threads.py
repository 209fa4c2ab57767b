"""Threads that write under leases while these expire: no update is lost, and nothing is written late."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dspex_lab.errors import LeaseError
from dspex_lab.variables import MemoryJournal, Space, _lease
from dspex_lab.variables._lease import Lease, held_here

ROUNDS = 30


def test_whatever_threads_do_when_leases_expire_no_update_is_lost_and_none_comes_late() -> None:
    """A value that was read under a lease which is alive at the commit cannot be stale: each commit counts one up."""
    clock, done = [0.0], threading.Event()
    journal = MemoryJournal()
    space = Space(journal=journal, clock=lambda: clock[0])
    space.int("k", 0, 10**6, default=0)
    space.derive("double", "k * 2")
    told: list[int] = []
    space.observe(lambda commit: told.append(commit.version))

    def tick() -> None:
        while not done.wait(0.001):
            clock[0] += 0.5
            space.leases()

    def optimize(owner: str) -> tuple[int, int]:
        written = refused = 0
        for number in range(ROUNDS):
            try:
                lease = space.lease("k", owner=f"{owner}, {number}", ttl=3)
            except LeaseError:  # its turn came and went before this thread was run again
                refused += 1
                continue
            try:
                for _ in range(3):
                    seen = space.get("k")
                    if number % 5 == 4:
                        clock[0] += 3  # it hangs for longer than it may, and comes late
                    lease.commit({"k": seen + 1})
                    written += 1
            except LeaseError:
                refused += 1
            if number % 3:  # some never give theirs back
                lease.release()
        return written, refused

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            found = [job.result(120) for job in [pool.submit(optimize, f"o{n}") for n in range(4)]]
    finally:
        done.set()
        ticker.join()
    written, refused = (sum(each) for each in zip(*found, strict=True))
    assert space.get("k") == written > 0
    assert refused >= 4 * (ROUNDS // 5)
    history = list(reversed(space.history("k")))
    assert [record.value for record in history] == list(range(written + 1))
    fences = [record.fence for record in history[1:]]
    assert fences == sorted(fences)  # type: ignore[type-var]
    assert told == list(range(3, 3 + written))
    again = Space(journal=journal, clock=lambda: 0.0)
    assert (again.get("k"), again.get("double")) == (written, 2 * written)
    assert again.lease("k", owner="o").fence > fences[-1]  # type: ignore[operator]


class Watched(weakref.WeakSet[Lease]):
    """A set to which another thread would like to add while it is gone through."""

    def __iter__(self) -> Iterator[Lease]:
        for each in super().__iter__():
            if not self.others:
                self.others.append(threading.Thread(target=self.begin))
                self.others[0].start()
                self.others[0].join(0.2)  # nothing would keep it from adding but the lock, for which it waits longer
            yield each

    begin: Callable[[], Any]
    others: list[threading.Thread]


def test_a_block_may_begin_in_another_thread_while_those_that_are_open_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space()
    for name in "abc":
        space.int(name, 0, 9)
    one, two, three = (space.lease(name, owner=name) for name in "abc")
    every = Watched([one, two])
    every.begin, every.others = three.__enter__, []
    monkeypatch.setattr(_lease, "_open", every)
    assert held_here() == []
    every.others[0].join(60)
    assert len(every) == 3
    three.release()
