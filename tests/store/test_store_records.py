"""What is written is what is read, whatever is in it."""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_records import START, begin, call, end, span

from dspex_lab.events import Decision, Event, LMCall, RunRecord, Span
from dspex_lab.store import Store


def test_every_field_of_every_record_comes_back(store: Store) -> None:
    run = RunRecord(
        "r", "p", "row", "n", "partial", START, 0.5, {"a": [1]}, {"b": "ü"},
        "err", "st", "m", True, 1, 2, 0.5, 7, "s", ("t", "u"),
    )  # fmt: skip
    one = Span("s", "p", "r", "step", "n", START, 0.5, "failed", "dspy", "w", "err", {"k": 1})
    lm = LMCall(
        "c", "s", "r", "st", "m", START, 0.5, 1, 2, 0.5, True, True, "err", [{"role": "user"}], ["out"], 2, True, "other", 0.25
    )
    event = Event("lm.call", START, "r", "s", "st", {"x": None})
    decision = Decision("d", "r", "s", START, "predict", "a", ("a", "b"), "fixed", "because")
    store.write_many([run, one, lm, event, decision])
    for table, record in {"runs": run, "spans": one, "lm_calls": lm, "events": event, "decisions": decision}.items():
        row = store.query(f"SELECT * FROM {table}").iloc[0].to_dict()  # noqa: S608
        assert row.pop("lab_id", "lab") == "lab"
        assert list(row) == list(record._fields)
        for field, value in record._asdict().items():
            found = row[field]
            if field in {"started", "time"}:
                assert found.timestamp() == START
            elif isinstance(value, tuple):
                assert tuple(found) == value
            elif isinstance(value, (dict, list)):
                assert json.loads(found) == value
            else:
                assert found == value


def test_what_is_none_is_null(store: Store) -> None:
    store.write_many([end("r", inputs=None, outputs=None), call("c", seconds=None, cost=None), Event("lm.call", 1.0)])
    for table, columns in {
        "runs": "inputs outputs error row_index",
        "lm_calls": "seconds cost messages error",
        "events": "run_id data",
    }.items():
        row = store.query(f"SELECT * FROM {table}").iloc[0]  # noqa: S608
        assert row[columns.split()].isna().all(), table


def test_order_is_kept_and_json_can_be_searched(store: Store) -> None:
    store.write_many(Event("lm.call", START, data={"n": n}) for n in range(2_500))
    assert list(store.query("SELECT (data->>'n')::INT AS n FROM events")["n"]) == list(range(2_500))


@pytest.mark.parametrize(
    "bad",
    [
        span("bad", seconds=math.nan),
        span("bad", seconds=math.inf),
        span("bad", started="yesterday"),
        span("bad", started=1e30),
        span("bad", started=None),
        span("bad", name=None),
        span("bad", name=17),
        span("bad", error=ValueError("x")),
        span("bad", error="lone \ud800"),
        span("bad", error="e" * 1_000_000),
        span("bad", data={("a",): math.nan, "o": object()}),
        call("bad", prompt_tokens=1.5),
        call("bad", prompt_tokens="12"),
        call("bad", prompt_tokens=10**30),
        call("bad", prompt_tokens=math.nan),
        call("bad", prompt_tokens=object()),
        call("bad", cost="dear"),
        call("bad", cache_hit="yes"),
        call("bad", messages=object()),
        end("bad", tags=None),
        end("bad", tags=[1, 2]),
        end("bad", tags=3),
        end("bad", seconds=10**400),
    ],
)
def test_a_record_with_a_wrong_value_is_kept_with_its_neighbours(store: Store, bad: Any) -> None:
    store.write_many([span("a"), call("a"), end("a"), bad, span("z"), call("z"), end("z")])
    found = store.query("SELECT span_id FROM spans UNION ALL SELECT call_id FROM lm_calls UNION ALL SELECT run_id FROM runs")
    assert sorted(found.iloc[:, 0]) == sorted(["a", "z"] * 3 + ["bad"])
    assert store.dropped == 0


def test_a_wrong_value_becomes_null_or_text_and_no_sum_is_spoilt(store: Store) -> None:
    store.write_many([call("a", cost=math.nan), call("b", cost=1.0), call("c", cost="2.5")])
    store.write(call("d", prompt_tokens="7", step=3))
    frame = store.query("SELECT sum(cost) AS cost, sum(prompt_tokens) AS tokens FROM lm_calls")
    assert frame.iloc[0].tolist() == [3.501, 37]
    assert store.query("SELECT step FROM lm_calls WHERE call_id = 'd'").iloc[0, 0] == "3"
    assert store.query("SELECT cost FROM lm_calls WHERE call_id = 'a' AND cost IS NULL").shape[0] == 1


def test_a_datetime_is_taken_for_its_moment(store: Store) -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    store.write_many([span("a", started=moment), span("b", started=dt.datetime(2024, 1, 2, 1, 4, 5))])
    assert store.query("SELECT DISTINCT started FROM spans")["started"].tolist() == [dt.datetime(2024, 1, 2, 1, 4, 5)]


def test_only_a_record_that_nothing_can_store_is_lost_and_that_is_counted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A hook can turn JSON into text that Python reads and DuckDB does not.
    with Store(path, redact=lambda text: text.replace("poison", "\\ud800")) as store, caplog.at_level(logging.ERROR):
        told: list[Any] = []
        store.on_commit(told.extend)
        store.write_many([span(f"s{n}", data={"x": "poison" if n == 41 else "fine"}) for n in range(100)])
        store.flush()
        assert store.query("SELECT count(*) FROM spans").iloc[0, 0] == 99
        assert [s.span_id for s in told] == [f"s{n}" for n in range(100) if n != 41]
        assert store.dropped == 1
    assert "s41" in caplog.text


def test_secrets_are_masked_before_they_are_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-" + "a1B2" * 8
    with Store(path) as store:
        monkeypatch.setenv("ACME_TOKEN", "orange-juice")
        store.write_many(
            [
                end("r", inputs={"m": f"key {key}", "api_key": "hunter2hunter2"}, error=f"401 for {key}", tags=(key, "t")),
                call("c", messages=[{"content": "orange-juice"}], step=None),
                span("clean", data={"note": "nothing here"}),
            ]
        )
    held = path.read_bytes()
    for secret in (key, "hunter2hunter2", "orange-juice"):
        assert secret.encode() not in held
    with Store(path) as store:
        assert store.query("SELECT error FROM runs").iloc[0, 0] == "401 for [redacted]"
        assert list(store.query("SELECT tags FROM runs").iloc[0, 0]) == ["[redacted]", "t"]
        assert json.loads(store.query("SELECT data FROM spans").iloc[0, 0]) == {"note": "nothing here"}


def test_a_hook_of_ones_own_sees_every_text_and_none_means_none(path: Path) -> None:
    with Store(path, redact=lambda text: text.replace("Anna", "***")) as store:
        decision = Decision("d", "Anna", "s", 1.0, "o", "Anna", ("Anna",), "s", "Anna")
        store.write_many([end("Anna", inputs={"who": "Anna"}, error="Anna"), decision])
        row = store.query(
            "SELECT run_id, inputs->>'who', error, chosen, candidates[1], reason FROM runs JOIN decisions USING (run_id)"
        ).iloc[0]
        assert row.tolist() == ["Anna", "***", "***", "***", "***", "***"]  # ids are kept
    with Store(path, redact=None) as store:
        store.write(end("b", error="password=hunter2"))
        assert store.query("SELECT error FROM runs WHERE run_id = 'b'").iloc[0, 0] == "password=hunter2"


def test_a_value_beyond_the_limit_is_cut_and_says_so(store: Store) -> None:
    store.write(end("r", inputs={"text": "x" * 500_000, "label": "card"}, error="y" * 500_000))
    row = store.query("SELECT inputs->>'label' AS l, length(inputs::VARCHAR) AS n, inputs->>'text' AS t, error FROM runs").iloc[
        0
    ]
    assert row["l"] == "card"
    assert row["n"] <= 65_536
    assert "[cut: " in row["t"]
    assert row["error"].endswith("[cut: 434464 more characters]")


def test_only_records_are_taken(store: Store) -> None:
    with pytest.raises(TypeError, match="not tuple"):
        store.write(("run.start", 1.0))  # type: ignore[arg-type]


def test_importing_the_room_loads_no_heavy_package() -> None:
    code = "import sys, dspex_lab.store; print(sorted({'dspy', 'duckdb', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_beginnings_have_their_data(store: Store) -> None:
    store.write(begin("r", "map", "rows"))
    row = store.query("SELECT data->>'kind' AS k, data->>'name' AS n, lab_id FROM events").iloc[0]
    assert row.tolist() == ["map", "rows", "lab"]
