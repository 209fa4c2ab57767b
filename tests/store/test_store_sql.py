"""SQL reads and never writes, points at its errors, and can be stopped."""

from __future__ import annotations

import datetime as dt
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from store_records import START, Script, end, held_up, span

from dspex_lab.errors import StoreError
from dspex_lab.store import Store, _sql

PICK = "SELECT"
LONG = ", ".join(f"name AS n{i}" for i in range(60))
ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range * b.range % 7 = 3"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM runs",
        "  -- a comment\n/* and another */ select * from runs;",
        "WITH x AS (SELECT * FROM runs) SELECT * FROM x",
        "FROM runs",
        "VALUES (1)",
        "EXPLAIN SELECT * FROM runs",
        "EXPLAIN ANALYZE SELECT * FROM runs",
        "DESCRIBE runs",
        "SHOW TABLES",
        "SUMMARIZE runs",
        "PIVOT runs ON status USING count(*)",
        "SELECT * FROM (PIVOT runs ON status USING count(*))",
        "SELECT 1; SELECT * FROM runs",
    ],
)
def test_queries_give_a_dataframe(store: Store, sql: str) -> None:
    store.write(end("r"))
    frame = store.query(sql)
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) >= 1


WRITES = [
    "INSERT INTO runs (run_id) VALUES ('x')",
    "UPDATE runs SET name = 'x'",
    "DELETE FROM runs",
    "DROP TABLE runs",
    "TRUNCATE runs",
    "ALTER TABLE runs ADD COLUMN x INT",
    "CREATE TABLE x (a INT)",
    "CREATE TEMP TABLE x (a INT)",
    "CREATE OR REPLACE MACRO x() AS 1",
    "MERGE INTO runs USING runs r ON r.run_id = runs.run_id WHEN MATCHED THEN DELETE",
    "WITH x AS (INSERT INTO runs (run_id) VALUES ('x') RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM runs RETURNING *) SELECT * FROM x",
    "EXPLAIN ANALYZE DELETE FROM runs",
    "SELECT * FROM query('DELETE FROM runs')",
    "SELECT 1; DELETE FROM runs",
    "COMMIT; DELETE FROM runs",
    "BEGIN",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL force_checkpoint()",
    "CHECKPOINT",
    "VACUUM",
    "ATTACH ':memory:' AS x",
    "INSTALL httpfs",
    "LOAD httpfs",
    "USE memory",
    "PREPARE x AS DELETE FROM runs",
    "EXECUTE x",
    "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'",
    "COPY runs TO 'x.csv'",
    "COPY runs TO 'exports/x.csv'",
]


@pytest.mark.parametrize("sql", WRITES)
def test_everything_else_is_refused_and_changes_nothing(store: Store, sql: str, tmp_path: Path) -> None:
    store.write(end("r"))
    with pytest.raises(StoreError) as caught:
        store.query(sql)
    assert caught.value.path == store.path
    found = store.query("SELECT run_id, name FROM runs")
    assert found.to_numpy().tolist() == [["r", "support"]]
    assert len(store.query("SHOW TABLES")) == 19
    assert not (tmp_path / "x.csv").exists()
    store.write(end("s"))
    store.flush()


@pytest.mark.parametrize("sql", ["DELETE FROM runs", "EXPLAIN ANALYZE DELETE FROM runs"])
def test_a_write_is_told_that_the_tables_are_read_only(store: Store, sql: str) -> None:
    with pytest.raises(StoreError, match=r"read-only here.*Records are written by runs"):
        store.query(sql)


def test_a_refusal_points_at_its_statement(store: Store) -> None:
    with pytest.raises(StoreError, match="DROP is not a query") as caught:
        store.query("SELECT 1;\n\n  DROP TABLE runs")
    assert (caught.value.line, caught.value.column) == (3, 3)


def test_files_outside_are_out_of_reach_and_exports_are_not(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    beside = Path(store.path).parent / "beside.csv"
    beside.write_text("a\n1\n")
    for path in (
        secret,
        beside,
        "/etc/passwd",
        "https://127.0.0.1:1/x.csv",
        f"{Path(store.path).parent}/exports/../beside.csv",
    ):
        for source in (f"read_csv('{path}')", f"read_text('{path}')", f"'{path}'"):
            with pytest.raises(StoreError):
                store.query(f"FROM {source}")
    with pytest.raises(StoreError, match=r"file system operations are disabled.*exports"):
        store.query(f"FROM read_csv('{secret}')")
    exports = Path(store.path).parent / "exports"
    exports.mkdir()
    (exports / "mine.csv").write_text("a\n7\n")
    assert store.query(f"FROM read_csv('{exports / 'mine.csv'}')").iloc[0, 0] == 7


def test_names_of_python_variables_mean_nothing(store: Store) -> None:
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(StoreError, match="frame does not exist"):
        store.query("SELECT * FROM frame")
    assert len(frame) == 1


def at(error: StoreError) -> str:
    """Return what the caret of an error points at, to the end of the line."""
    line, caret = error.excerpt()
    return line[caret.index("^") :]


@pytest.mark.parametrize(
    ("sql", "message", "pointed"),
    [
        ("SELECT * FROM run", 'Did you mean "runs"', "run"),
        ("SELECT nam FROM runs", "not found in FROM clause", "nam FROM runs"),
        ("SELECT\n  name,\n\tnam\nFROM runs", "not found in FROM clause", "nam"),
        ("SELECT 1; SELECT nam FROM runs", "not found in FROM clause", "nam FROM runs"),
        ("SELECT 1;\n-- x\nSELECT 2,\n nam FROM runs", "not found in FROM clause", "nam FROM runs"),
        ("SELEC 1", "syntax error", "SELEC 1"),
        ("SELECT 1;\nSELECT 1 +* FROM runs", "syntax error", "FROM runs"),
        ("SELECT 'äöü', nam FROM runs", "not found in FROM clause", "nam FROM runs"),
        (f"{PICK} {LONG}, nam FROM runs", "not found", "nam FROM runs"),
        (f"{PICK} {LONG.replace('name AS ', '')}", "not found", "n0, n1"),
        ("SELECT foo(1)", "does not exist", "foo(1)"),
        ("SELECT '日本', nam FROM runs", "not found in FROM clause", "nam FROM runs"),
        ("SELECT 'e\u0301', nam FROM runs", "not found in FROM clause", "nam FROM runs"),
        ("SELECT 1 +", "syntax error", "+"),
    ],
)
def test_errors_point_at_their_place(store: Store, sql: str, message: str, pointed: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        store.query(sql)
    assert at(caught.value).startswith(pointed)
    assert "LINE" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_an_unknown_table_is_answered_with_those_there_are(store: Store) -> None:
    with pytest.raises(
        StoreError,
        match="The tables are checkpoints, datasets, decisions, events, feedback, job_data, jobs, labs, lm_calls, meta, "
        "programs, runs, session_names, sessions, spans, trials, variable_definitions, variable_history, variables",
    ) as caught:
        store.query("SELECT * FROM run")
    assert 'Did you mean "runs"' in str(caught.value)


def test_a_suggestion_of_duckdbs_inner_tables_is_replaced(store: Store) -> None:
    for name in ("dfx", "decision_s", "pg_dpend", "x"):
        with pytest.raises(StoreError, match="The tables are") as caught:
            store.query(f"FROM {name}")
        assert "pg_" not in str(caught.value).replace(name, "")


def test_the_column_of_a_moment_needs_no_quotes(store: Store) -> None:
    assert len(store.query("SELECT time, e.time AS again FROM events e ORDER BY time")) == 0


@pytest.mark.parametrize("sql", ["", "  \n", "-- nothing", ";"])
def test_no_statement_is_said(store: Store, sql: str) -> None:
    with pytest.raises(StoreError, match="no SQL statement"):
        store.query(sql)


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("SELECT ? + ?", [1, 2], 3),
        ("SELECT $a + $b", {"a": 1, "b": 2}, 3),
        ("SELECT $a; SELECT $b; SELECT $a + $b", {"a": 1, "b": 2}, 3),
        ("SELECT 1; SELECT ?", [5], 5),
        ("SELECT ?; SELECT 6", [5], 6),
        ("SELECT ?::VARCHAR", ["'; DROP TABLE runs; --"], "'; DROP TABLE runs; --"),
    ],
)
def test_parameters(store: Store, sql: str, parameters: Any, expected: object) -> None:
    assert store.query(sql, parameters).iloc[0, 0] == expected


@pytest.mark.parametrize(
    ("sql", "parameters"), [("SELECT ?", None), ("SELECT ?", [1, 2]), ("SELECT $a", {"b": 1}), ("SELECT 1", [1])]
)
def test_wrong_parameters_are_an_error(store: Store, sql: str, parameters: Any) -> None:
    with pytest.raises(StoreError):
        store.query(sql, parameters)


def test_a_value_that_fails_at_work_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError, match="Could not convert"):
        store.query("SELECT 'x'::INT")


def test_times_are_utc_wherever_the_kernel_is(path: Path, script: Script) -> None:
    with Store(path) as store:
        store.write(span("s", started=START))
        expected = dt.datetime.fromtimestamp(START, dt.UTC).replace(tzinfo=None)
        assert store.query("SELECT started FROM spans")["started"].tolist() == [expected]
    code = """
        import sys, time, warnings
        warnings.simplefilter("error")
        from dspex_lab.events import Event
        from dspex_lab.store import Store, running
        with Store(sys.argv[1]) as store:
            print(store.query("SELECT started FROM spans").iloc[0, 0])
            store.write(Event("run.start", time.time(), "r", data={"kind": "run", "name": "n"}))
            print(len(store.query('SELECT * FROM events WHERE time > now() - INTERVAL 1 MINUTE AND time <= now()')))
            print(store.query("SELECT now() AS n").dtypes["n"])
            print(running(store)["seconds"][0] < 60)
        """
    done = script(code, path, env={**os.environ, "TZ": "America/New_York"})
    assert done.stdout.splitlines() == [str(pd.Timestamp(expected)), "1", "datetime64[us, UTC]", "True"], done.stderr


def test_a_time_limit_stops_a_query_and_the_store_goes_on(store: Store) -> None:
    with pytest.raises(StoreError, match=r"took longer than 0.1 s and was stopped.*LIMIT"):
        store.query(ENDLESS, timeout=0.1)
    assert store.query("SELECT 1", timeout=30).iloc[0, 0] == 1


def test_the_rest_is_not_begun_after_the_time_limit(store: Store) -> None:
    with pytest.raises(StoreError, match="took longer"):
        store.query(f"{ENDLESS}; {ENDLESS}; SELECT 1", timeout=0.1)


def test_ctrl_c_stops_a_query(store: Store) -> None:
    before = set(threading.enumerate())

    def press() -> None:
        # Once the query is at work, so that the signal cannot come before it.
        while not any(t.name == "dspex-store-query" and t.is_alive() for t in set(threading.enumerate()) - before):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        store.query(ENDLESS)
    for thread in threading.enumerate():
        if thread.name == "dspex-store-query":
            thread.join(30)
            assert not thread.is_alive()
    assert store.query("SELECT 1").iloc[0, 0] == 1


def test_ctrl_c_while_the_thread_of_a_query_starts_stops_the_query(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "dspex-store-query":
            begun.append(thread)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.query(ENDLESS)
    begun[0].join(60)
    assert not begun[0].is_alive()


def test_a_query_that_does_not_end_at_once_when_it_is_stopped_is_still_said_to_be_stopped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = _sql._Work.interrupt
    late: list[_sql._Work] = []
    # As on a machine so busy that five seconds are not enough.
    monkeypatch.setattr(_sql._Work, "interrupt", lambda work: late.append(work))
    with pytest.raises(StoreError, match=r"took longer than 0.05 s and was stopped"):
        store.query(ENDLESS, timeout=0.05)
    stop(late[0])
    assert late[0].done.wait(60)
    assert store.query("SELECT 1").iloc[0, 0] == 1


def test_closing_stops_queries_of_other_threads(path: Path) -> None:
    store = Store(path)
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            store.query(ENDLESS)
        except StoreError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not any(t.name == "dspex-store-query" for t in threading.enumerate()):
        time.sleep(0.01)
    store.close()
    asking.join(30)
    assert "closed" in str(raised[0])
    Store(path).close()


def test_threads_may_query_at_once(store: Store) -> None:
    store.write_many(span(f"s{n}") for n in range(1_000))
    store.flush()
    found: list[int] = []

    def ask() -> None:
        found.extend(int(store.query("SELECT count(*) FROM spans").iloc[0, 0]) for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1_000] * 60


def test_without_flush_only_what_is_committed_is_seen(store: Store) -> None:
    held, free = held_up(store)
    store.write(span("a"))
    assert held.wait(30)
    store.write(span("b"))
    assert len(store.query("SELECT * FROM spans", flush=False)) == 1
    free.set()
    assert len(store.query("SELECT * FROM spans")) == 2
