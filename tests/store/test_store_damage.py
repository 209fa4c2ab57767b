"""Damaged databases and logs: said, set aside, and never written over."""

from __future__ import annotations

import os
import random
from pathlib import Path

import duckdb
import pytest
from store_records import KILLED, OPEN, Script, end, span, wal

from dspex_lab.errors import StoreError
from dspex_lab.store import Store


def test_a_damaged_database_is_refused_and_left_alone(path: Path) -> None:
    with Store(path) as store:
        store.write_many(span(f"s{n}") for n in range(5_000))
    held = bytearray(path.read_bytes())
    held[4096 * 3 :] = random.Random(1).randbytes(len(held) - 4096 * 3)
    path.write_bytes(held)
    with pytest.raises(StoreError, match=r"is damaged: .*Move it"):
        Store(path)
    assert path.read_bytes() == held


@pytest.mark.parametrize("seed", range(4))
def test_a_garbled_log_is_set_aside_and_what_stood_before_the_damage_is_kept(path: Path, script: Script, seed: int) -> None:
    script(KILLED, path)
    held = bytearray(wal(path).read_bytes())
    # Within a text, whose checksum then differs; an entry with another length looks like the end of what was written.
    at = held.index(b"x" * 400, random.Random(seed).randrange(len(held) // 4, len(held) - 4_000)) + 100
    held[at : at + 64] = random.Random(seed).randbytes(64)
    wal(path).write_bytes(held)
    with Store(path) as store:
        recovery = store.recovery
        assert recovery is not None
        assert recovery.salvaged
        assert recovery.damaged_wal is not None
        assert Path(recovery.damaged_wal).read_bytes() == held
        assert Path(recovery.damaged_wal).name.startswith("lab.duckdb.wal.damaged-20")
        assert recovery.damaged_wal in str(recovery)
        assert "could not be read past its damage" in str(recovery)
        kept = store.query("SELECT run_id FROM runs ORDER BY started, length(run_id), run_id")["run_id"].tolist()
        assert kept == [f"r{n}" for n in range(len(kept))]
        assert 0 < len(kept) < 40
        store.write(end("new"))
    with Store(path) as again:
        assert again.recovery is None
        assert len(again.query("SELECT * FROM runs")) == len(kept) + 1


def test_a_log_garbled_from_its_first_entry_on_is_set_aside_whole(path: Path, script: Script) -> None:
    Store(path).close()
    script(KILLED, path)
    held = bytearray(wal(path).read_bytes())
    held[100:] = random.Random(3).randbytes(len(held) - 100)
    wal(path).write_bytes(held)
    with Store(path) as store:
        assert store.recovery is not None
        assert store.recovery.damaged_wal is not None
        assert len(store.query("SELECT * FROM runs")) == 0


@pytest.mark.parametrize("head", [bytes(64), b"hello" * 20])
def test_a_log_that_is_none_is_not_passed_over_in_silence(path: Path, script: Script, head: bytes) -> None:
    Store(path).close()
    script(KILLED, path)
    held = head + wal(path).read_bytes()[len(head) :]
    wal(path).write_bytes(held)
    with Store(path) as store:
        assert store.recovery is not None
        assert store.recovery.damaged_wal is not None
        assert not store.recovery.salvaged
        assert Path(store.recovery.damaged_wal).read_bytes() == held
        assert "could not be read: what it held, at most" in str(store.recovery)


def test_a_log_that_is_none_beside_a_file_in_use_is_left_alone(path: Path, script: Script) -> None:
    Store(path).close()
    with duckdb.connect(str(path)) as con:
        con.execute("INSERT INTO meta VALUES ('a', 'b')")
        before = sorted(os.listdir(path.parent))
        # The other program's log is not of our format.
        wal(path).write_bytes(b"other" * 10)
        assert "in use by process" in script(OPEN, path).stdout
        assert sorted(os.listdir(path.parent)) == before


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_truncated_log_opens(path: Path, script: Script, part: float) -> None:
    script(KILLED, path)
    size = wal(path).stat().st_size
    os.truncate(wal(path), int(size * part))
    with Store(path) as store:
        assert store.recovery is None or store.recovery.damaged_wal is None
        kept = store.query("SELECT run_id FROM runs ORDER BY length(run_id), run_id")["run_id"].tolist()
        assert kept == [f"r{n}" for n in range(len(kept))]
        assert len(kept) < 40


def test_logs_set_aside_in_one_second_do_not_overwrite_each_other(path: Path, script: Script) -> None:
    Store(path).close()
    for n in range(3):
        wal(path).write_bytes(b"x%d" % n * 20)
        with Store(path) as store:
            assert store.recovery is not None
    aside = list(path.parent.glob("*.damaged-*"))
    assert sorted(a.read_bytes() for a in aside) == [b"x%d" % n * 20 for n in range(3)]


def test_the_log_of_another_file_is_set_aside(path: Path, script: Script) -> None:
    other = path.with_name("other.duckdb")
    for each in (path, other):
        Store(each).close()
        script(KILLED, each)
    held = wal(other).read_bytes()
    wal(path).write_bytes(held)
    with Store(path) as store:
        assert store.recovery is not None
        assert not store.recovery.salvaged
        assert Path(str(store.recovery.damaged_wal)).read_bytes() == held
        assert len(store.query("SELECT * FROM runs")) == 0
    with Store(other) as store:
        assert store.recovery is None
        assert len(store.query("SELECT * FROM runs")) == 40


def test_the_log_of_an_earlier_state_is_set_aside(path: Path, script: Script) -> None:
    Store(path).close()
    script(KILLED, path)
    held = wal(path).read_bytes()
    Store(path).close()
    wal(path).write_bytes(held)
    with Store(path) as store:
        assert store.recovery is not None
        assert Path(str(store.recovery.damaged_wal)).read_bytes() == held
        assert len(store.query("SELECT * FROM runs")) == 40


def test_a_log_whose_database_is_gone_is_not_deleted(path: Path, script: Script) -> None:
    script(KILLED, path)
    held = wal(path).read_bytes()
    path.unlink()
    with Store(path) as store:
        assert store.recovery is not None
        assert Path(str(store.recovery.damaged_wal)).read_bytes() == held


def test_damage_to_both_is_said_and_the_log_stays(path: Path, script: Script) -> None:
    with Store(path) as store:
        store.write_many(span(f"s{n}") for n in range(5_000))
    script(KILLED, path)
    held = bytearray(wal(path).read_bytes())
    held[500:600] = bytes(range(100))
    wal(path).write_bytes(held)
    database = path.read_bytes()
    path.write_bytes(database[:4096] + b"\0" * 8192 + database[4096 + 8192 :])
    with pytest.raises(StoreError):
        Store(path)
    assert wal(path).read_bytes() == held
    assert list(path.parent.glob("*.damaged-*")) == []
