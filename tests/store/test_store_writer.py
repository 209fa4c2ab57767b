"""Batches, barriers, what is dropped and what waits, callbacks, and a disk that is full."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from store_records import START, Script, begin, end, span

from dspex_lab.errors import StoreError
from dspex_lab.events import Decision, Event, Record
from dspex_lab.store import Store, _writer
from dspex_lab.store._writer import BATCH, is_outcome


class Gate:
    """A callback that holds the writing thread until it is opened."""

    def __init__(self, store: Store) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self._store = store
        self._unsubscribe = store.on_commit(self)
        store.write(Event("lm.call", START))
        assert self.entered.wait(30)

    def __call__(self, records: list[Record]) -> None:
        self.entered.set()
        assert self.opened.wait(30)


def count(store: Store, table: str) -> int:
    return int(store.query(f"SELECT count(*) FROM {table}").iloc[0, 0])  # noqa: S608


def test_records_are_committed_without_a_flush(store: Store) -> None:
    seen = threading.Event()
    store.on_commit(lambda records: seen.set())
    store.write(span("a"))
    assert seen.wait(30)
    assert store.query("SELECT span_id FROM spans", flush=False)["span_id"].tolist() == ["a"]


@pytest.mark.parametrize("drowse", [0.0, 0.3, 3_600.0], ids=["asleep", "either", "awake"])
def test_an_idle_writer_sees_every_record_in_time(store: Store, monkeypatch: pytest.MonkeyPatch, drowse: float) -> None:
    monkeypatch.setattr(_writer, "DROWSE", drowse)
    told: list[Any] = []
    seen = threading.Semaphore(0)
    store.on_commit(lambda records: (told.extend(records), seen.release()))
    for n in range(3):
        store.write(span(f"s{n}"))
        while not any(r.span_id == f"s{n}" for r in told):
            assert seen.acquire(timeout=30)


def test_after_a_commit_nobody_wakes_the_thread_for_a_record_until_it_is_asleep(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writer, "DROWSE", 3_600.0)
    writer = store._core.writer
    wakes: list[str] = []
    wake = writer._wake
    monkeypatch.setattr(writer, "_wake", lambda: (wakes.append("woken"), wake()))
    committed = threading.Semaphore(0)
    store.on_commit(lambda records: committed.release())
    for n in range(3):
        store.write(span(f"s{n}"))
        assert committed.acquire(timeout=30)
    assert len(wakes) <= 1, "for the first record of all, where the thread had fallen asleep by then"
    store.flush()
    assert count(store, "spans") == 3


def test_what_comes_during_a_commit_waits_for_company(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(store)
    monkeypatch.setattr(_writer, "LINGER", 3_600.0)
    sizes: list[int] = []
    store.on_commit(lambda records: sizes.append(len(records)))
    store.write(span("during"))
    gate.opened.set()
    store.write(span("after"))
    store.flush()
    assert sizes[-1] == 2


def test_a_full_batch_and_a_flush_do_not_wait_for_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer, "LINGER", 3_600.0)
    with Store(path) as store:
        done = threading.Event()
        store.on_commit(lambda records: done.set())
        store.write_many(span(f"s{n}") for n in range(BATCH))
        assert done.wait(30)
        store.write(span("one more"))
        store.flush()
        assert count(store, "spans") == BATCH + 1
        store.write(span("and the last"))
    with Store(path) as again:
        assert count(again, "spans") == BATCH + 2


def test_what_comes_while_the_thread_is_at_work_goes_in_one_transaction(store: Store) -> None:
    gate = Gate(store)
    sizes: list[int] = []
    store.on_commit(lambda records: sizes.append(len(records)))
    store.write_many(span(f"s{n}") for n in range(3 * BATCH))
    gate.opened.set()
    store.flush()
    assert sizes == [3 * BATCH]


def test_flush_is_a_barrier_for_every_thread(store: Store) -> None:
    wrong: list[int] = []

    def work(k: int) -> None:
        for n in range(20):
            store.write(span(f"{k}-{n}"))
            store.flush()
            found = store.query("SELECT count(*) FROM spans WHERE span_id = ?", [f"{k}-{n}"], flush=False).iloc[0, 0]
            if found != 1:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert count(store, "spans") == 80


def test_many_threads_lose_nothing(store: Store) -> None:
    threads = [threading.Thread(target=lambda k=k: [store.write(end(f"{k}-{n}")) for n in range(2_000)]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.query("SELECT count(DISTINCT run_id) FROM runs").iloc[0, 0] == 8_000


def test_which_records_are_outcomes() -> None:
    decision = Decision("d", None, None, START, "o", "c", (), "s", "r")
    assert [is_outcome(r) for r in (end("r"), begin("r"), decision)] == [True] * 3
    assert [is_outcome(r) for r in (span("s"), Event("run.stop", START))] == [False] * 2


def test_a_full_queue_drops_detail_and_counts_it_and_makes_outcomes_wait(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store(path, lab_id="lab", capacity=10) as store:
        gate = Gate(store)
        with caplog.at_level(logging.WARNING):
            store.write_many(span(f"s{n}") for n in range(25))
        assert store.dropped == 15
        assert caplog.text.count("dropped and counted") == 1
        store.write(end("first"))  # a tenth of the capacity is for outcomes alone
        waiting = threading.Thread(target=store.write_many, args=([begin(f"r{n}") for n in range(30)],))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        gate.opened.set()
        waiting.join(30)
        assert not waiting.is_alive()
        assert count(store, "spans") == 10
        assert count(store, "runs") == 1
        assert count(store, "events") == 31
        assert store.query("SELECT value FROM meta WHERE key = 'dropped.lab'").iloc[0, 0] == "15"
    with Store(path) as again:
        assert again.dropped == 0


def test_an_outcome_that_waits_is_told_when_the_store_closes(path: Path) -> None:
    store = Store(path, capacity=1)
    gate = Gate(store)
    store.write_many([end("a"), end("b")])
    raised: list[BaseException] = []

    def write() -> None:
        try:
            store.write(end("c"))
        except StoreError as error:
            raised.append(error)

    waiting = threading.Thread(target=write)
    waiting.start()
    waiting.join(0.2)
    closing = threading.Thread(target=store.close)
    closing.start()
    waiting.join(30)
    gate.opened.set()
    closing.join(30)
    assert "closed" in str(raised[0])
    with Store(path) as again:
        assert again.query("SELECT run_id FROM runs ORDER BY 1")["run_id"].tolist() == ["a", "b"]


def test_callbacks_get_what_was_committed_after_its_commit(store: Store) -> None:
    told: list[tuple[list[Record], int]] = []
    # In the writing thread a query need not flush: what the callback is told of is there.
    unsubscribe = store.on_commit(lambda records: told.append((records, count(store, "spans"))))
    store.write_many([span("a"), end("r"), span("b")])
    store.flush()
    assert [record for records, _ in told for record in records] == [span("a"), end("r"), span("b")]
    assert told[-1][1] == 2
    unsubscribe()
    told.clear()
    store.write(span("c"))
    store.flush()
    assert told == []


def test_a_callback_that_raises_is_logged_and_stops_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Record] = []

    def bad(records: list[Record]) -> None:
        raise RuntimeError("from the callback")

    store.on_commit(bad)
    store.on_commit(told.extend)
    for n in range(2):
        store.write(span(f"s{n}"))
        store.flush()
    assert len(told) == 2
    assert caplog.text.count("RuntimeError: from the callback") == 2


def test_a_callback_may_write_and_may_not_wait_for_itself(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Store(path, capacity=1) as store:
        raised: list[str] = []

        def echo(records: list[Record]) -> None:
            if isinstance(records[0], Event):
                store.write_many(end(f"r{n}") for n in range(20))
                for wait in (store.flush, store.close):
                    try:
                        wait()
                    except StoreError as error:
                        raised.append(str(error))

        store.on_commit(echo)
        store.write(begin("r"))
        store.flush()
        assert count(store, "runs") == 20
        assert len(raised) == 2
        assert all("on_commit callback" in text for text in raised)


def test_a_full_disk_is_said_by_everything_that_follows_and_nothing_hangs(path: Path, script: Script) -> None:
    done = script(
        """
        import resource, sys
        from dspex_lab.errors import StoreError
        from dspex_lab.events import Event
        from dspex_lab.store import Store
        store = Store(sys.argv[1])
        for n in range(100):
            store.write(Event("run.start", float(n), str(n)))
        store.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        def said(call):
            try:
                call()
            except StoreError as error:
                return "StoreError " + str(error.__cause__ is not None) + " " + str(error)
            return "nothing"
        def fill():
            for n in range(100_000):
                store.write(Event("lm.call", float(n), data={"x": str(n) * 20}))
            store.flush()
        print(said(fill))
        print(said(lambda: store.write(Event("run.start", 1.0))))
        print(said(store.flush))
        print(len(store.query("SELECT * FROM events WHERE name = 'run.start'", flush=False)))
        print(said(store.close))
        print(said(store.close))
        print(said(lambda: store.write(Event("run.start", 1.0))))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        """,
        path,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 7, done
    for line in lines[:3] + lines[4:5]:
        assert line.startswith("StoreError True")
        assert "can no longer be written" in line
        assert "File too large" in line
        assert "Make room" in line
    assert lines[3] == "100"
    assert lines[5] == "nothing"
    assert lines[6].startswith("StoreError")
    with Store(path) as again:
        assert len(again.query("SELECT * FROM events WHERE name = 'run.start'")) == 100


def test_a_full_disk_is_said_at_the_interpreters_end_too(path: Path, script: Script) -> None:
    done = script(
        """
        import atexit, resource, sys
        from dspex_lab.events import Event
        from dspex_lab.store import Store
        # Runs after the store's own; what measures the tests can then write again.
        atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        store = Store(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        store.write(Event("run.start", 1.0, "r"))
        """,
        path,
    )
    assert done.returncode == 0
    assert "can no longer be written" in done.stderr


def test_a_lab_whose_end_cannot_be_noted_is_told(path: Path, script: Script) -> None:
    done = script(
        """
        import resource, sys
        from dspex_lab.errors import StoreError
        from dspex_lab.store import Store
        store = Store(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        try:
            store.close()
        except StoreError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        """,
        path,
    )
    assert "can no longer be written" in done.stdout, done
    with Store(path) as again:
        assert len(again.query("SELECT * FROM labs")) == 2
