"""Who may open a file, and what is said to the others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import duckdb
import pytest
from store_records import KILLED, OPEN, Script, begin, end, span, wal

from dspex_lab.errors import StoreError
from dspex_lab.store import Store
from dspex_lab.store._guard import Guard, Held


def test_folders_are_made_and_the_path_is_told(tmp_path: Path) -> None:
    with Store("a/b/lab.duckdb") as store:
        assert store.path == str(tmp_path / "a" / "b" / "lab.duckdb")
        assert store.recovery is None
        assert repr(store) == f"Store({store.path!r})"
    assert repr(store).endswith("closed)")
    assert os.listdir(tmp_path / "a" / "b") == ["lab.duckdb"]


def test_a_store_in_memory_leaves_nothing_and_is_nobodys_else(tmp_path: Path) -> None:
    with Store(":memory:") as one, Store(":memory:") as other:
        one.write(end("r"))
        assert len(one.query("SELECT * FROM runs")) == 1
        assert len(other.query("SELECT * FROM runs")) == 0
    assert list(tmp_path.iterdir()) == []


MEMORY = "SELECT current_setting('memory_limit')"


def test_the_memory_for_a_file_is_bounded_and_can_be_chosen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def megabytes(store: Store) -> int:
        size, unit = str(store.query(MEMORY).iloc[0, 0]).split()
        return round(float(size) * {"MiB": 1 << 20, "GiB": 1 << 30}[unit] / 1e6)

    for processors, expected in ((2, 512), (64, 4096)):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        with Store(path) as store:
            assert abs(megabytes(store) - expected) < 60
    with Store(path, memory=100) as store, Store(path, memory=700) as second:
        assert abs(megabytes(store) - 100) <= 1
        assert abs(megabytes(second) - 100) <= 1, "they share the database"
    with Store(":memory:") as unbounded, duckdb.connect() as default:
        assert unbounded.query(MEMORY).iloc[0, 0] == default.execute(MEMORY).fetchall()[0][0]


def test_a_query_that_needs_more_than_the_memory_goes_to_the_disk(path: Path) -> None:
    with Store(path, memory=40) as store:
        found = store.query(
            "SELECT count(*) FROM (SELECT DISTINCT md5(i::VARCHAR) || repeat('x', 90) FROM range(600_000) q(i))"
        )
        assert found.iloc[0, 0] == 600_000
    assert not list(path.parent.glob("*.tmp"))


def test_a_checkpoint_that_is_too_large_for_the_memory_is_not_kept_and_says_so(path: Path) -> None:
    with Store(path, memory=40) as store:
        assert store.put_checkpoint("long", "a", "key", '"small"') is None
        why = store.put_checkpoint("long", "b", "key", "x" * (50 << 20))
        assert why == "its outputs, 50 million characters, are more than the store has memory for"
        assert store.checkpoint("long") == {"a": ("key", '"small"')}
        store.write(span("after"))
        store.flush()
        assert store.query("SELECT count(*) FROM spans").iloc[0, 0] == 1


def test_a_second_process_is_told_who_holds_the_file_and_what_to_do(store: Store, script: Script) -> None:
    said = script(OPEN, store.path).stdout
    assert f"{store.path} is in use by process {os.getpid()} (" in said
    assert "pytest" in said  # the command
    assert "lab.close()" in said
    assert ":memory:" in said


def test_the_file_stays_locked_when_this_process_opens_and_closes_it(store: Store, script: Script) -> None:
    # That lets go of DuckDB's own lock, which is a POSIX one.
    store.write(end("r"))
    store.flush()
    Path(store.path).read_bytes()
    assert "in use by process" in script(OPEN, store.path).stdout


def test_a_holder_without_our_lock_is_named_too(path: Path, script: Script) -> None:
    Store(path).close()
    with duckdb.connect(str(path)) as con:
        con.execute("SELECT 1")
        assert f"in use by process {os.getpid()}" in script(OPEN, path).stdout


def test_the_lock_is_free_after_a_kill(path: Path, script: Script) -> None:
    script(KILLED, path)
    assert path.with_name(path.name + ".lock").exists()
    assert script(OPEN, path).stdout.startswith("opened")
    assert not path.with_name(path.name + ".lock").exists()


def test_a_command_is_shown_without_its_secrets(path: Path) -> None:
    code = (
        "import sys; from dspex_lab.store import Store; "
        "store = Store(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path), "--api-key=hunter2hunter2", "x" * 300]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(StoreError, match=f"in use by process {holder.pid}") as caught:
            Store(path)
        assert "hunter2" not in str(caught.value)
        assert len(str(caught.value)) < 1_000
        assert holder.stdin is not None
        holder.stdin.close()


def test_a_second_store_in_the_same_process_shares_the_file(path: Path) -> None:
    with Store(path, lab_id="one") as one:
        one.write(begin("running"))
        one.flush()
        with Store(path, lab_id="two") as two:
            assert two.recovery is None
            two.write(end("b"))
            one.write(end("a"))
            for store in (one, two):
                store.flush()
            assert two.query("SELECT run_id, lab_id FROM runs ORDER BY 1").to_numpy().tolist() == [["a", "one"], ["b", "two"]]
        one.write(end("c"))
        assert len(one.query("SELECT * FROM runs")) == 3
        assert one.query("SELECT lab_id FROM labs WHERE ended IS NOT NULL")["lab_id"].tolist() == ["two"]
    assert not wal(path).exists()


def test_other_names_of_a_file_are_the_same_file(path: Path, tmp_path: Path) -> None:
    with Store(path) as one:
        (tmp_path / "link.duckdb").symlink_to(path)
        os.link(path, tmp_path / "hard.duckdb")
        for name in ("link.duckdb", "hard.duckdb"):
            with Store(tmp_path / name) as two:
                two.write(end(name))
        assert len(one.query("SELECT * FROM runs")) == 2


def test_running_a_cell_again_works(path: Path) -> None:
    for n in range(5):
        store = Store(path)  # the one before is forgotten, not closed
        store.write(end(f"r{n}"))
    assert sorted(store.query("SELECT run_id FROM runs")["run_id"]) == [f"r{n}" for n in range(5)]
    store.close()


def test_a_connection_of_ones_own_to_the_file_is_named_as_the_trouble(path: Path) -> None:
    Store(path).close()
    with duckdb.connect(str(path)), pytest.raises(StoreError, match=r"already open in this process by a duckdb.connect\(\)"):
        Store(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder, not a file"):
        Store(tmp_path)


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be opened for writing") as caught:
        Store(tmp_path / "file" / "lab.duckdb")
    assert isinstance(caught.value.__cause__, OSError)


def test_what_may_not_be_written_is_refused(path: Path) -> None:
    # Root may write anything, so the test puts that right off for a moment; others cannot reach into tmp_path.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held = folder / "lab.duckdb"
        Store(held).close()
        held.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        root = os.geteuid() == 0
        folder.chmod(0o777 if root else 0o700)
        try:
            if root:
                os.seteuid(65534)
            with pytest.raises(StoreError, match="cannot be opened for writing") as caught:
                Store(held)
            assert ":memory:" in str(caught.value)
            if not root:
                folder.chmod(0o500)
            with pytest.raises(StoreError, match="cannot be opened for writing"):
                Store((Path("/") if root else folder) / "other.duckdb")
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o700)
        with Store(held) as store:
            assert len(store.query("SELECT * FROM runs")) == 0


@pytest.mark.parametrize("content", [b"x", b"a,b\n1,2\n" * 1_000, bytes(20_000)])
def test_a_file_of_something_else_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is not a DuckDB file.*Move it elsewhere"):
        Store(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "new.duckdb").touch()
    with Store(tmp_path / "new.duckdb") as store:
        store.write(end("r"))
        assert len(store.query("SELECT * FROM runs")) == 1


def test_locks_exclude_each_other_however_often_they_change_hands(tmp_path: Path) -> None:
    holders, most, wrong = [0], 300, []

    def contend() -> None:
        taken = 0
        while taken < most:
            try:
                guard = Guard(tmp_path / "x")
            except Held:
                continue
            holders[0] += 1
            if holders[0] != 1:
                wrong.append(holders[0])
            holders[0] -= 1
            guard.release()
            taken += 1

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_the_start_is_said(path: Path, script: Script) -> None:
    Store(path).close()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))"
    for room, where in ((0, "new"), (0, ""), (20, ""), (20, "new")):
        source = "\n".join(["import resource", limit.format(room), OPEN, limit.format("resource.RLIM_INFINITY")])
        done = script(source, f"{path}{where}")
        assert "cannot be opened for writing" in done.stdout, done
        assert "File too large" in done.stdout
        assert not list(path.parent.glob("*.lock"))
    with Store(path) as store:
        assert store.recovery is None
