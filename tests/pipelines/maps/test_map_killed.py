"""A map whose process is killed goes on: every row has one outcome, and few rows run twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.pipelines.maps import _journal, _keeps

ROWS, WIDTH = 2_000, 8

#: Each execution is noted in a file that outlives the process; after STOP of them the rest hold still, to be killed.
MAPPER = """
import json, os, sys, threading
import dspex_lab as dx

how = json.loads(sys.argv[1])
noted = os.open("executed", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
stop, count, lock = how["stop"], 0, threading.Lock()

def work(n: int) -> int:
    global count
    os.write(noted, b"%d\\n" % n)
    with lock:
        count += 1
        over = stop and count >= stop
        if count == 1:
            lab.store.flush()  # that the map began is in the store: else there is nothing to go on with
    if over:
        threading.Event().wait()
    if n % 10 == 7:
        raise ValueError(f"{n} is odd")
    return n * n

pipeline = dx.pipeline("squares", square=work, twice=lambda square: 2 * square)
with dx.Lab("lab.duckdb") as lab:
    given = {"out": how["out"]} if how["out"] else {"resume": True} if how["resume"] else {}
    made = lab.map(pipeline, how["data"], concurrency=how["width"], **given)
    frame = made.frame() if how["out"] else made
    stored = lab.sql("SELECT row_index, parent_id FROM runs WHERE kind = 'row'")
    maps = lab.sql("SELECT run_id, status, outputs FROM runs WHERE kind = 'map'")
    print(json.dumps({
        "n": frame["n"].tolist(),
        "status": frame["status"].tolist(),
        "square": [None if v != v else int(v) for v in frame["square"].astype(float)],
        "stored": stored.astype(object).values.tolist(),
        "maps": maps.astype(object).values.tolist(),
    }))
"""


def start(folder: Path, **how: Any) -> subprocess.Popen[str]:
    given = {"stop": 0, "out": None, "resume": False, "data": "rows.parquet", "width": WIDTH, **how}
    return subprocess.Popen(
        [sys.executable, "-c", MAPPER, json.dumps(given)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def executed(folder: Path) -> Counter[int]:
    path = folder / "executed"
    return Counter(int(line) for line in path.read_text().splitlines()) if path.exists() else Counter()


def killed_after(folder: Path, stop: int, **how: Any) -> None:
    """Run the map until ``stop`` executions are noted, and kill it then."""
    before = executed(folder).total()
    child = start(folder, stop=stop, **how)
    while executed(folder).total() - before < stop:
        assert child.poll() is None, child.communicate()
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()


def finished(folder: Path, **how: Any) -> tuple[dict[str, Any], str]:
    done, told = start(folder, **how).communicate(timeout=120)
    assert done, told
    return json.loads(done), told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import pandas as pd

    pd.DataFrame({"n": range(ROWS)}).to_parquet(tmp_path / "rows.parquet")
    return tmp_path


def right(made: dict[str, Any]) -> None:
    assert made["n"] == list(range(ROWS))
    assert made["status"] == ["failed" if n % 10 == 7 else "complete" for n in range(ROWS)]
    assert made["square"] == [None if n % 10 == 7 else n * n for n in range(ROWS)]


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet", "out.csv"])
def test_a_map_into_a_file_goes_on_after_kill_9(folder: Path, out: str) -> None:
    killed_after(folder, 700, out=out)
    assert not (folder / out).exists(), "the file is there when it is whole, and not before"
    killed_after(folder, 600, out=out)
    made, told = finished(folder, out=out)
    right(made)
    assert "continuing: " in told
    assert "of 2,000 rows are done" in told
    runs = executed(folder)
    assert set(runs) == set(range(ROWS))
    extra = runs.total() - ROWS
    assert extra <= 2 * (WIDTH + _journal.BATCH), extra
    print(f"{out}: {extra} extra executions after two kills")
    again, told = finished(folder, out=out)
    right(again)
    assert executed(folder) == runs, "what is done is not run again"


def test_a_map_in_the_store_goes_on_after_kill_9(folder: Path) -> None:
    killed_after(folder, 1_300)
    made, told = finished(folder, resume=True)
    right(made)
    assert "of 2,000 rows are done" in told
    extra = executed(folder).total() - ROWS
    assert set(executed(folder)) == set(range(ROWS))
    assert extra <= WIDTH + _keeps.STORE_BATCH, extra
    (run_id, status, outputs), *others = made["maps"]
    assert not others, "one map, one record"
    assert status == "partial"
    assert json.loads(outputs) == {"rows": ROWS, "done": ROWS, "complete": 1800, "partial": 0, "failed": 200} | {
        "continued": json.loads(outputs)["continued"]
    }
    assert Counter(index for index, _ in made["stored"]) == Counter(range(ROWS)), "one record of each row"
    assert {parent for _, parent in made["stored"]} == {run_id}


def test_a_map_in_the_store_may_be_killed_twice(folder: Path) -> None:
    killed_after(folder, 900)
    killed_after(folder, 300, resume=True)
    made, _ = finished(folder, resume=True)
    right(made)
    assert len(made["maps"]) == 1
    assert Counter(index for index, _ in made["stored"]) == Counter(range(ROWS))
    assert executed(folder).total() - ROWS <= 2 * (WIDTH + _keeps.STORE_BATCH)


def test_the_rows_of_a_query_are_those_it_had_when_the_map_began(folder: Path) -> None:
    query = "SELECT range::INT AS n FROM range(2000)"
    killed_after(folder, 500, out="out.parquet", data=query)
    made, told = finished(folder, out="out.parquet", data=query)
    right(made)
    assert "continuing" in told
