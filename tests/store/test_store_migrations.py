"""Stores of all ages open; a newer one and a stranger's database are refused and left alone."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from store_records import end

from dspex_lab.errors import StoreError
from dspex_lab.store import Store
from dspex_lab.store._schema import MIGRATIONS, TABLES, migrate, version_of


def columns(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str]]:
    return con.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index"
    ).fetchall()


def test_a_blank_file_gets_every_table() -> None:
    con = duckdb.connect()
    assert migrate(con, "x") == 0
    assert version_of(con, "x") == len(MIGRATIONS)
    found = columns(con)
    kept = "meta labs runs spans lm_calls events decisions checkpoints sessions session_names variables variable_definitions"
    kept += " variable_history jobs job_data trials programs datasets feedback"
    assert {t for t, _, _ in found} == set(kept.split())
    for table in TABLES.values():
        expected = {name for name, _ in table.columns} | ({"lab_id"} if table.of_lab else set())
        assert {c for t, c, _ in found if t == table.name} == expected
    assert ("runs", "tags", "VARCHAR[]") in found
    assert ("runs", "started", "TIMESTAMP") in found
    assert ("runs", "inputs", "JSON") in found


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_every_earlier_version_becomes_the_newest_one(version: int, path: Path) -> None:
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as con:
        migrate(con, str(path), MIGRATIONS[:version])
        assert version_of(con, str(path)) == version
    with Store(path) as store:
        store.write(end("r"))
        assert len(store.query("SELECT * FROM runs")) == 1
    with duckdb.connect(str(path)) as old, duckdb.connect() as blank:
        migrate(blank, "x")
        assert columns(old) == columns(blank)


def test_migrations_run_once_and_in_order() -> None:
    con = duckdb.connect()
    longer = (*MIGRATIONS, "ALTER TABLE runs ADD COLUMN mood VARCHAR", "UPDATE runs SET mood = 'calm'")
    migrate(con, "x")
    con.execute("INSERT INTO runs (run_id) VALUES ('r')")
    assert migrate(con, "x", longer) == len(MIGRATIONS)
    assert con.execute("SELECT mood FROM runs").fetchall() == [("calm",)]
    con.execute("UPDATE runs SET mood = 'glad'")
    assert migrate(con, "x", longer) == len(longer)
    assert con.execute("SELECT mood FROM runs").fetchall() == [("glad",)]


def test_a_migration_that_fails_leaves_the_version_before_it() -> None:
    con = duckdb.connect()
    migrate(con, "x")
    before = columns(con)
    with pytest.raises(duckdb.Error):
        migrate(con, "x", (*MIGRATIONS, "ALTER TABLE runs ADD COLUMN mood VARCHAR; SELECT * FROM nowhere"))
    assert columns(con) == before
    assert version_of(con, "x") == len(MIGRATIONS)


def test_a_store_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    Store(path).close()
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer dspex_lab: its version is 99, this one knows \d.*Upgrade") as caught:
        Store(path)
    assert caught.value.path == str(path)
    assert path.read_bytes() == before
    assert not path.with_name(path.name + ".lock").exists()


@pytest.mark.parametrize("table", ["runs(a INT)", "meta(a INT)", "meta(key VARCHAR, value VARCHAR)"])
def test_the_database_of_something_else_is_refused_and_left_alone(path: Path, table: str) -> None:
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as con:
        con.execute(f"CREATE TABLE {table}")
    with pytest.raises(StoreError, match="not a store of dspex_lab"):
        Store(path)
    with duckdb.connect(str(path)) as con:
        assert len(con.execute("SHOW TABLES").fetchall()) == 1
