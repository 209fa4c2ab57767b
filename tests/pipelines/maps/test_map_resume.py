"""Maps in the store: interrupted, resumed under the same run id, with one record of each row."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import logging
import os
import signal
import threading
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import dspex_lab as dx
from dspex_lab.pipelines import StepField
from dspex_lab.pipelines.maps import _maps
from dspex_lab.pipelines.maps._restore import Restorer

ROWS = [{"n": n} for n in range(400)]


go_on = threading.Event()


def stopping(at: int) -> dx.Pipeline:
    """Return a pipeline that interrupts the caller at row ``at``, once."""
    go_on.clear()

    def work(n: int) -> int:
        if n == at and not go_on.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            assert go_on.wait(30)
        if n % 10 == 7:
            raise ValueError("no")
        return n * n

    return dx.pipeline("squares", square=work)


def interrupted(lab: dx.Lab, p: dx.Pipeline, rows: Any = ROWS) -> str:
    with pytest.raises(KeyboardInterrupt):
        lab.map(p, rows, concurrency=1)
    go_on.set()
    assert lab.last_map is not None
    run_id = lab.last_map.run_id
    assert run_id is not None
    assert f"resume={run_id!r}" in lab.last_map.hint
    # The row under way ends in its thread, which nobody can stop.
    wait(list(lab._maps._left.get(run_id, ())), timeout=30)
    return run_id


def test_an_interrupted_map_is_resumed_under_its_own_id(lab: dx.Lab, caplog: pytest.LogCaptureFixture) -> None:
    p = stopping(150)
    run_id = interrupted(lab, p)
    assert lab.sql("SELECT run_id, status FROM runs WHERE kind = 'map'").values.tolist() == [[run_id, "cancelled"]]
    before = lab.sql("SELECT count(*) AS n FROM runs WHERE kind = 'row' AND status <> 'cancelled'")["n"][0]
    with caplog.at_level(logging.WARNING):
        frame = lab.map(p, ROWS, resume=True)
    assert f"continuing the map {run_id}: {before} of 400 rows are done" in caplog.text
    assert frame["square"].tolist()[:7] == [n * n for n in range(7)]
    assert frame["status"].tolist() == ["failed" if n % 10 == 7 else "complete" for n in range(400)]
    rows = lab.sql("SELECT * FROM runs WHERE kind = 'row' ORDER BY row_index")
    assert rows["row_index"].tolist() == list(range(400))
    assert set(rows["parent_id"]) == {run_id}
    assert rows["run_id"].tolist() == frame["run_id"].tolist()
    whole = lab.sql("SELECT * FROM runs WHERE kind = 'map'")
    assert whole[["run_id", "status"]].values.tolist() == [[run_id, "partial"]]
    assert json.loads(whole["outputs"][0]) == {
        "rows": 400, "done": 400, "complete": 360, "partial": 0, "failed": 40, "continued": int(before),
    }  # fmt: skip
    assert lab.last_map is not None
    assert lab.last_map.continued == before


def test_failed_rows_are_tried_again_and_have_one_record(lab: dx.Lab) -> None:
    broken = {7}

    def work(n: int) -> int:
        if n in broken:
            raise ValueError("down")
        return n

    p = dx.pipeline("p", work=work)
    first = lab.map(p, ROWS[:20])
    assert lab.last_map is not None
    broken.clear()
    again = lab.map(p, ROWS[:20], resume=lab.last_map.run_id, retry_failed=True)
    assert again["status"].tolist() == ["complete"] * 20
    assert (again["run_id"] != first["run_id"]).tolist() == [n == 7 for n in range(20)]
    assert lab.sql("SELECT count(*) AS n FROM runs WHERE kind = 'row'")["n"][0] == 20
    assert lab.sql("SELECT status FROM runs WHERE kind = 'map'")["status"].tolist() == ["complete"]
    assert lab.map(p, ROWS[:20], resume=lab.last_map.run_id)["work"].tolist() == list(range(20))


def test_what_was_spent_before_counts_in_the_resumed_map(lab: dx.Lab) -> None:
    data = [{"text": "a"}, {"text": "b"}]
    lab.map("text -> label: Literal['u', 'v']", data)
    spent = lab.sql("SELECT prompt_tokens, seconds FROM runs WHERE kind = 'map'").iloc[0]
    assert lab.last_map is not None
    lab.map("text -> label: Literal['u', 'v']", data, resume=lab.last_map.run_id)
    after = lab.sql("SELECT prompt_tokens, seconds FROM runs WHERE kind = 'map'")
    assert after["prompt_tokens"].tolist() == [spent["prompt_tokens"]]
    assert after["seconds"][0] > spent["seconds"]


def test_what_does_not_fit_is_refused_and_changes_nothing(lab: dx.Lab) -> None:
    p = stopping(30)
    with pytest.raises(dx.PipelineError, match="No map of 'squares' was interrupted"):
        lab.map(p, ROWS, resume=True)
    run_id = interrupted(lab, p)
    kept = lab.sql("SELECT * FROM runs ORDER BY run_id")
    with pytest.raises(dx.PipelineError, match="data rows: 400 before, 399 now"):
        lab.map(p, ROWS[1:], resume=True)
    with pytest.raises(dx.PipelineError, match="data hash"):
        lab.map(p, [*ROWS[1:], {"n": 5}], resume=True)
    with pytest.raises(dx.PipelineError, match="its pipeline was 'squares'"):
        lab.map(dx.pipeline("other", square=lambda n: n), ROWS, resume=run_id)
    with pytest.raises(dx.PipelineError, match="pipeline outputs: square: int before, square: int, more: any now"):
        lab.map(dx.pipeline("squares", square=p.steps["square"], more=lambda n: n), ROWS, resume=run_id)
    with pytest.raises(dx.StoreError, match="There is no map 'nope'"):
        lab.map(p, ROWS, resume="nope")
    with pytest.raises(dx.StoreError, match="is a row, not a map"):
        lab.map(p, ROWS, resume=str(lab.sql("SELECT run_id FROM runs WHERE kind = 'row' LIMIT 1")["run_id"][0]))
    assert lab.sql("SELECT * FROM runs ORDER BY run_id").equals(kept)
    lab.map(p, ROWS[:3], out="out.jsonl")
    assert lab.last_map is not None
    with pytest.raises(dx.PipelineError, match=r"wrote .*out\.jsonl"):
        lab.map(p, ROWS[:3], resume=lab.last_map.run_id)


def test_a_row_that_still_runs_in_its_thread_is_waited_for(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, ran = threading.Event(), []

    def work(n: int) -> int:
        ran.append(n)
        if n == 5 and not go_on.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            assert go_on.wait(30)
        return n

    p = dx.pipeline("p", work=work)
    with pytest.raises(KeyboardInterrupt):
        lab.map(p, ROWS[:20], concurrency=1)
    with monkeypatch.context() as patch:
        patch.setattr(_maps, "_PATIENCE", 0.01)
        with pytest.raises(dx.PipelineError, match=r"1 rows of the map .* still run in threads"):
            lab.map(p, ROWS[:20], resume=True)
    go_on.set()
    assert lab.map(p, ROWS[:20], resume=True)["work"].tolist() == list(range(20))
    assert sorted(ran) == list(range(20)), "its outcome counts, it is not run again"


def test_a_store_that_fails_does_not_lose_the_frame(lab: dx.Lab, caplog: pytest.LogCaptureFixture) -> None:
    failure = dx.StoreError("the disk is full", path="x")

    def flush() -> None:
        raise failure

    lab.store.flush = flush  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        out = lab.map(lambda n: n, pd.DataFrame({"n": range(3_000)}))
    del lab.store.flush
    assert len(out) == 3_000
    assert caplog.text.count("no longer recorded: the disk is full") == 1


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float


def test_outputs_come_back_in_their_declared_types() -> None:
    kinds = {
        "when": dt.datetime,
        "colour": Color,
        "at": Point,
        "pair": tuple[int, str],
        "tags": set[str],
        "any": Any,
        "x": float,
    }
    restorer = Restorer({n: StepField(n, kind) for n, kind in kinds.items()})
    kept = {
        "when": "2024-01-02T03:04:05",
        "colour": "red",
        "at": {"x": 1, "y": 2.5},
        "pair": [1, "a"],
        "tags": ["a", "b"],
        "any": [1, {"a": None}],
        "x": "NaN",
        "reasoning": "not a field",
    }
    made = restorer.outputs(kept)
    assert made.pop("x") != made.get("x")
    assert made == {
        "when": dt.datetime(2024, 1, 2, 3, 4, 5),
        "colour": Color.RED,
        "at": Point(1, 2.5),
        "pair": (1, "a"),
        "tags": {"a", "b"},
        "any": [1, {"a": None}],
    }
    assert restorer.said() is None
    assert restorer.outputs(None) == {}


class Opaque:
    """A class that no validator knows."""


def test_what_cannot_be_restored_is_said(lab: dx.Lab, caplog: pytest.LogCaptureFixture) -> None:
    restorer = Restorer({"o": StepField("o", Opaque), "s": StepField("s", str), "i": StepField("i", int)})
    made = restorer.outputs({"o": "<tests.Opaque object at 0x7f>", "s": "key [redacted]", "i": "many"})
    assert made == {"o": "<tests.Opaque object at 0x7f>", "s": "key [redacted]", "i": "many"}
    assert restorer.lost == {"o": 1, "s": 1, "i": 1}
    assert "'o' of 1 row" in str(restorer.said())

    def leak(n: int) -> str:
        return "sk-abcdefghijklmnop1234567890" if n == 1 else "x" * 100_000 if n == 2 else "fine"

    lab.map(leak, ROWS[:3])
    assert lab.last_map is not None
    with caplog.at_level(logging.WARNING):
        frame = lab.map(leak, ROWS[:3], resume=lab.last_map.run_id)
    assert "'leak' of 2 rows" in caplog.text
    assert frame["leak"][0] == "fine"
    assert "[redacted]" in frame["leak"][1]


def test_a_query_is_mapped_into_a_frame_too(lab: dx.Lab) -> None:
    query = "SELECT range::INT AS n FROM range(5) ORDER BY n"
    first = lab.map(lambda n: n, query)
    assert lab.last_map is not None
    assert lab.map(lambda n: n, query, resume=lab.last_map.run_id).equals(first)
    assert not Path("SELECT").exists()
