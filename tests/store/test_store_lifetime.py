"""A store ends well: closed, forgotten, at the interpreter's end, and in a forked child."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest
from store_records import Script, end, held_up

from dspex_lab.errors import StoreError
from dspex_lab.store import Store


def test_close_commits_what_waits_and_notes_the_end(path: Path) -> None:
    store = Store(path, lab_id="lab")
    store.write(end("r"))
    store.close()
    store.close()
    assert not path.with_name(path.name + ".wal").exists()
    with Store(path) as again:
        assert again.query("SELECT run_id FROM runs")["run_id"].tolist() == ["r"]
        row = again.query("SELECT pid, started <= ended AS ordered FROM labs WHERE lab_id = 'lab'").iloc[0]
        assert row.tolist() == [os.getpid(), True]
        assert again.query("SELECT count(*) FROM labs WHERE ended IS NULL").iloc[0, 0] == 1


def test_a_closed_store_refuses_everything(path: Path) -> None:
    store = Store(path)
    store.close()
    for attempt in (
        lambda: store.write(end("r")),
        lambda: store.write_many([end("r")]),
        store.flush,
        lambda: store.query("SELECT 1"),
        lambda: store.query("SELECT 1", flush=False),
    ):
        with pytest.raises(StoreError, match=r"is closed. Open it again"):
            attempt()


def test_two_threads_may_close_at_once(path: Path) -> None:
    store = Store(path)
    store.write(end("r"))
    threads = [threading.Thread(target=store.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    with Store(path) as again:
        assert len(again.query("SELECT * FROM runs")) == 1


def test_what_is_written_while_it_closes_is_kept_or_refused(path: Path) -> None:
    kept: list[str] = []
    store = Store(path)

    def write(k: int) -> None:
        for n in range(100_000):
            try:
                store.write(end(f"{k}-{n}"))
            except StoreError:
                return
            kept.append(f"{k}-{n}")

    threads = [threading.Thread(target=write, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    while len(kept) < 500:
        store.flush()
    store.close()
    for thread in threads:
        thread.join(30)
    with Store(path) as again:
        assert set(again.query("SELECT run_id FROM runs")["run_id"]) == set(kept)


def test_a_forgotten_store_closes_itself(path: Path) -> None:
    store = Store(path)
    store.write(end("r"))
    del store
    gc.collect()
    assert not path.with_name(path.name + ".lock").exists()
    with Store(path) as again:
        assert len(again.query("SELECT * FROM runs")) == 1


def test_a_store_forgotten_in_its_own_writing_thread_closes_itself(path: Path) -> None:
    holder = [Store(path)]
    dropped = threading.Event()

    def forget(records: object) -> None:
        holder.clear()
        gc.collect()
        dropped.set()

    holder[0].on_commit(forget)
    holder[0].write(end("r"))
    assert dropped.wait(30)
    for thread in threading.enumerate():
        if thread.name.startswith("dspex-store-"):
            thread.join(30)
    assert not path.with_name(path.name + ".lock").exists()


def test_the_interpreters_end_commits_what_waits(path: Path, script: Script) -> None:
    done = script(
        """
        import sys
        from dspex_lab.events import RunRecord
        from dspex_lab.store import Store
        store = Store(sys.argv[1])
        for n in range(3000):
            store.write(RunRecord(str(n), None, "run", "n", "complete", 1.0, 0.1))
        """,
        path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(path.parent) == [path.name]
    with Store(path) as again:
        assert len(again.query("SELECT * FROM runs")) == 3_000
        assert len(again.query("SELECT * FROM labs WHERE ended IS NOT NULL")) == 1


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_touches_nothing(path: Path, script: Script, leave: str) -> None:
    done = script(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from dspex_lab.errors import StoreError
        from dspex_lab.events import RunRecord
        from dspex_lab.store import Store
        store = Store(sys.argv[1])
        def end(run_id):
            return RunRecord(run_id, None, "run", "n", "complete", 1.0, 0.1)
        store.write(end("before"))
        store.flush()
        store.write(end("waiting"))
        pid = os.fork()
        if not pid:
            for attempt in (lambda: store.write(end("child")), store.flush, lambda: store.query("SELECT 1", flush=False),
                            lambda: Store(sys.argv[1])):
                try:
                    attempt()
                except StoreError as error:
                    print("forked" in str(error), flush=True)
            store.close()
            with Store(sys.argv[1] + ".child") as own:
                own.write(end("own"))
                print(len(own.query("SELECT * FROM runs")), flush=True)
            LEAVE
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        store.write(end("after"))
        print(sorted(store.query("SELECT run_id FROM runs")["run_id"]))
        store.close()
        """.replace("LEAVE", leave),
        path,
    )
    assert done.stdout.splitlines() == [*["True"] * 4, "1", "0", "['after', 'before', 'waiting']"], done.stderr
    with Store(path) as again:
        assert again.recovery is None
        assert len(again.query("SELECT * FROM runs")) == 3


def test_a_child_that_outlives_its_parent_does_not_hold_the_file(path: Path, script: Script) -> None:
    done = script(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        from dspex_lab.store import Store
        store = Store(sys.argv[1])
        read, write = os.pipe()
        if not os.fork():
            os.close(write)
            os.close(1)
            os.close(2)
            os.read(read, 1)  # until the parent is gone
            os._exit(0)
        store.close()
        Store(sys.argv[1]).close()
        print("reopened")
        """,
        path,
    )
    assert done.stdout == "reopened\n", done.stderr


def test_a_callback_that_never_returns_does_not_hold_up_closing_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.store._store.CLOSING", 0.1)
    store = Store(path)
    entered, free = held_up(store)
    store.write(end("r"))
    assert entered.wait(30)
    with pytest.raises(StoreError, match="callback does not return"):
        store.close()
    free.set()
    with Store(path) as again:
        assert len(again.query("SELECT * FROM runs")) == 1
