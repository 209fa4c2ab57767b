"""The variables of a store: what is defined and committed is there again, whole, in order, after any end of the process."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from store_records import START, Script, end

from dspex_lab.errors import StoreError
from dspex_lab.events import VariableRecord
from dspex_lab.store import Store, VariableTable, variables_of_run
from dspex_lab.store._encode import LARGEST, LARGEST_WHOLE


@dataclass(frozen=True)
class Definition:
    """What a space hands over."""

    name: str
    domain: dict[str, Any] = field(default_factory=lambda: {"kind": "float", "low": 0.0, "high": 1.5})
    default: Any = 0.5
    derived: str | None = None
    active: str | None = None
    pinned: bool = False
    note: str | None = None


def record(name: str, version: int, value: Any = 0.5, **fields: Any) -> VariableRecord:
    given = {"space": "s", "parent": version - 1, "time": START + version, "who": "person", **fields}
    return VariableRecord(name=name, version=version, value=value, **given)


def names(table: VariableTable) -> list[str]:
    return [row.name for row in table.definitions("s")]


def test_every_field_comes_back_after_the_store_was_closed(path: Path) -> None:
    whole = Definition("t", {"kind": "choice", "options": [None, 1, "ü"]}, 1, "2 * x", "x > 1", True, "a note")
    one = record("t", 7, {"a": [1, None, "ü"]}, who="optimizer", author="gepa", why="clearer", score=0.75, fence=3, parent=4)
    with Store(path) as store:
        table = VariableTable(store)
        table.define("s", whole)
        table.write([one])
    with Store(path) as store:
        table = VariableTable(store)
        (row,) = table.definitions("s")
        assert {f: getattr(row, f) for f in vars(whole)} == vars(whole)
        assert table.history("s") == [one]
        assert table.latest("s") == {"t": one}
        assert table.definitions("other") == []
        assert table.latest("other") == {}


def test_definitions_keep_the_order_in_which_they_first_came(path: Path) -> None:
    with Store(path) as store:
        table = VariableTable(store)
        for name in "bca":
            table.define("s", Definition(name))
        table.define("s", Definition("b", note="changed"))
        table.drop("s", "c")
        table.drop("s", "never")
        assert names(table) == ["b", "a"]
    with Store(path) as store:
        table = VariableTable(store)
        assert names(table) == ["b", "a"]
        assert table.definitions("s")[0].note == "changed"
        table.define("s", Definition("c"))
        assert names(table) == ["b", "a", "c"], "what was dropped comes last when it comes back"
    with Store(path) as store:
        assert names(VariableTable(store)) == ["b", "a", "c"]
        assert list(store.query("SELECT name FROM variables ORDER BY position")["name"]) == ["b", "a", "c"]


def test_an_equal_definition_is_not_written_again(store: Store) -> None:
    table = VariableTable(store)
    for _ in range(3):
        table.define("s", Definition("a"))
    table.define("s", Definition("a", pinned=True))
    assert list(store.query("SELECT pinned FROM variable_definitions")["pinned"]) == [False, True]


def test_history_is_newest_first_by_name_and_up_to_a_limit(store: Store) -> None:
    table = VariableTable(store)
    table.write([record("a", 1), record("b", 1)])
    table.write([record("a", 2, 0.75)])
    table.write([record("b", 3, None)])
    assert [(r.name, r.version) for r in table.history("s")] == [("b", 3), ("a", 2), ("a", 1), ("b", 1)]
    assert [r.version for r in table.history("s", "a")] == [2, 1]
    assert [r.version for r in table.history("s", limit=2)] == [3, 2]
    assert table.history("s", limit=0) == []
    assert {n: r.version for n, r in table.latest("s").items()} == {"a": 2, "b": 3}
    assert table.latest("s")["b"].value is None


def test_the_view_shows_each_variable_with_its_value_and_no_constraint(store: Store) -> None:
    table = VariableTable(store)
    table.define("s", Definition("a"))
    table.define("s", Definition("new"))
    table.define("s", Definition("constraint\nfits", {"kind": "constraint"}, None, "a < 1"))
    table.write([record("a", 1)])
    table.write([record("a", 2, 0.75, who="job", author="j1")])
    found = store.query("SELECT name, value, version, who, author, domain->>'kind' AS kind FROM variables ORDER BY position")
    assert found.astype(object).where(found.notna(), None).to_numpy().tolist() == [
        ["a", "0.75", 2, "job", "j1", "float"],
        ["new", None, None, None, None, "float"],
    ]
    assert names(table) == ["a", "new", "constraint\nfits"]
    assert table.spaces() == ["s"]


def test_values_are_never_cut_and_what_is_too_large_is_refused_whole(store: Store) -> None:
    table = VariableTable(store)
    long = "ü" * (2 * LARGEST)
    many = [{"question": "q", "answer": n} for n in range(5_000)]
    table.write([record("text", 1, long), record("demos", 1, many)])
    assert table.latest("s")["text"].value == long
    assert table.latest("s")["demos"].value == many
    with pytest.raises(StoreError, match=r"Variable 'text' cannot be kept.*16 are the most"):
        table.write([record("demos", 2, []), record("text", 2, "x" * (LARGEST_WHOLE + 1))])
    with pytest.raises(StoreError, match="cannot be kept"):
        table.define("s", Definition("huge", default="x" * (LARGEST_WHOLE + 1)))
    assert [r.version for r in table.history("s")] == [1, 1]
    assert names(table) == []


def test_a_secret_is_masked_and_that_is_said_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    table = VariableTable(store)
    secret = "sk-proj-" + "a1B2c3D4" * 6
    table.define("s", Definition("key", {"kind": "text"}, f"use {secret}"))
    table.write([record("key", 1, f"use {secret}", why=f"because of {secret}")])
    store.flush()
    assert [r.message for r in caplog.records if "holds a secret" in r.message] == [
        "variable key holds a secret: it is kept masked in the store, and after a restart it has the masked value"
    ]
    kept = table.latest("s")["key"]
    assert "a1B2c3D4" not in str(kept)
    assert kept.value.startswith("use ")
    for name in ("variable_definitions", "variable_history"):
        assert "a1B2c3D4" not in store.query(f"SELECT * FROM {name}").to_string()  # noqa: S608


def test_one_lab_at_a_time_has_the_variables_of_a_file(path: Path) -> None:
    first, second = Store(path, lab_id="one"), Store(path, lab_id="two")
    table = VariableTable(first)
    table.define("s", Definition("a"))
    for does in (
        lambda other: other.definitions("s"),
        lambda other: other.latest("s"),
        lambda other: other.define("s", Definition("b")),
        lambda other: other.write([record("a", 1)]),
    ):
        with pytest.raises(StoreError, match=r"Another Lab of this process has the variables of .*: one"):
            does(VariableTable(second))
    VariableTable(second).define("another space", Definition("a"))
    first.close()
    assert names(VariableTable(second)) == ["a"]
    second.close()
    with Store(path) as third:
        assert names(VariableTable(third)) == ["a"]


def test_stores_in_memory_have_nothing_to_do_with_each_other() -> None:
    with Store(":memory:") as one, Store(":memory:") as two:
        VariableTable(one).define("s", Definition("a"))
        assert names(VariableTable(two)) == []


def test_a_closed_store_takes_nothing_more(path: Path) -> None:
    store = Store(path)
    table = VariableTable(store)
    table.define("s", Definition("a"))
    store.close()
    with pytest.raises(StoreError, match="closed"):
        table.write([record("a", 1)])
    with pytest.raises(StoreError, match="closed"):
        table.define("s", Definition("b"))


def test_commits_of_many_threads_come_whole_and_in_the_order_of_their_handing_over(store: Store) -> None:
    table, lock, version = VariableTable(store), threading.Lock(), [0]

    def work() -> None:
        for _ in range(40):
            with lock:
                version[0] += 1
                table.write([record(f"v{n}", version[0], n) for n in range(5)])

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = table.history("s")
    assert len(rows) == 1_000
    assert [r.version for r in rows] == sorted((r.version for r in rows), reverse=True)
    order = store.query("SELECT version FROM variable_history ORDER BY rowid")["version"]
    assert order.is_monotonic_increasing


def test_a_queue_that_is_full_makes_a_commit_wait_and_drops_none_of_it(path: Path) -> None:
    held, wait = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        wait.wait()

    with Store(path, capacity=4) as store:
        table = VariableTable(store)
        table.define("s", Definition("a"))
        stop = store.on_commit(hold)
        store.write(end("r"))
        assert held.wait(30)
        writers = [threading.Thread(target=table.write, args=([record("a", v), record("b", v)],)) for v in range(1, 13)]
        for writer in writers:
            writer.start()
        stop()
        wait.set()
        for writer in writers:
            writer.join(30)
        assert len(table.history("s")) == 24
        assert store.dropped == 0


KILLED = """
    import os, signal, sys
    from dspex_lab.events import VariableRecord
    from dspex_lab.store import DefinitionRow, Store, VariableTable
    store = Store(sys.argv[1])
    table = VariableTable(store)
    for n in range(5):
        table.define("s", DefinitionRow(f"v{n}", {"kind": "int"}, 0))
    for version in range(1, 301):
        table.write([VariableRecord("s", f"v{n}", version, version - 1, 1.7e9, version, "person") for n in range(5)])
        if version == 200:
            store.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_what_was_flushed_is_there_and_no_commit_is_half(path: Path, script: Script) -> None:
    done = script(KILLED, path)
    assert done.returncode == -9, done.stderr
    with Store(path) as store:
        table = VariableTable(store)
        assert names(table) == [f"v{n}" for n in range(5)]
        latest = table.latest("s")
        versions = {r.version for r in latest.values()}
        assert len(versions) == 1, "all variables of a commit or none"
        last = versions.pop()
        assert last >= 200
        assert len(table.history("s")) == 5 * last
        table.write([record("v0", last + 1)])
        assert table.latest("s")["v0"].version == last + 1


def test_a_child_of_the_process_can_keep_nothing(path: Path) -> None:
    with Store(path) as store:
        table = VariableTable(store)
        table.define("s", Definition("a"))
        store.flush()
        pid = os.fork()
        if pid == 0:  # pragma: no cover - in the child
            try:
                table.write([record("a", 1)])
            except StoreError:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert table.history("s") == []


def test_a_run_says_what_it_ran_with_and_its_rows_and_parts_by_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with_values = {"version": 4, "values": {"t": 0.5, "text": {"version": 2}}}
    store.write_many(
        [
            end("m", kind="map", variables=with_values),
            end("row", kind="row", parent_id="m", row_index=0),
            end("inner", kind="nested", parent_id="row"),
            end("other", kind="nested", parent_id="row", variables={"version": 5, "values": {}}),
            end("alone"),
        ]
    )
    assert variables_of_run(store, "m") == with_values
    assert variables_of_run(store, "row") == with_values
    assert variables_of_run(store, "inner") == with_values
    assert variables_of_run(store, "other") == {"version": 5, "values": {}}
    assert variables_of_run(store, "alone") is None
    assert variables_of_run(store, "nobody") is None
    assert store.query("SELECT count(*) AS n FROM runs WHERE variables IS NULL")["n"][0] == 3
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
