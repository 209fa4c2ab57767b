"""How a Lab begins and ends: files, processes, kernels, kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import dspex_lab as dx

HOLDER = """
import sys
import dspex_lab as dx
lab = dx.Lab(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""

#: Maps over many rows and reports each row's run id through the pipe as it is committed.
MAPPER = """
import sys
import dspex_lab as dx
from dspex_lab.events import RunRecord

lab = dx.Lab(sys.argv[1])

def report(records):
    print("".join(f"{r.run_id}\\n" for r in records if isinstance(r, RunRecord)), end="", flush=True)

lab.store.on_commit(report)
lab.map(lambda n: n + 1, [{"n": i} for i in range(1_000_000)], concurrency=8)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("wrong", [{"pools": {"address": "nowhere"}}, {"lm": "nonsense"}, {"budget": "much"}], ids=list)
def test_a_lab_that_cannot_be_made_holds_nothing(wrong: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before, told = set(threading.enumerate()), []
    for store in (":memory:", tmp_path / "lab.duckdb"):
        try:
            dx.Lab(store, dx.Config(**wrong))
        except dx.DspexError as error:
            told.append(error)  # as a notebook keeps it, and all that it has seen
    assert len(told) == 2
    assert set(threading.enumerate()) <= before
    assert list((tmp_path / "temporary").iterdir()) == []
    assert not [file for file in Path("/proc/self/fd").iterdir() if str(file.resolve()).endswith("lab.duckdb")]


def test_a_second_process_is_told_who_holds_the_file(tmp_path: Path) -> None:
    path = str(tmp_path / "x.duckdb")
    holder = start(HOLDER, path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(dx.StoreError) as caught:
            dx.Lab(path)
        assert str(holder.pid) in str(caught.value)
        assert caught.value.hint
    finally:
        holder.communicate("\n")
    dx.Lab(path).close()


@pytest.mark.parametrize("rows", [1, 2000])
def test_a_killed_map_loses_no_reported_row_and_the_next_start_says_so(tmp_path: Path, rows: int) -> None:
    path = str(tmp_path / "x.duckdb")
    child = start(MAPPER, path)
    assert child.stdout is not None
    reported = [child.stdout.readline().strip() for _ in range(rows)]
    os.kill(child.pid, signal.SIGKILL)
    reported += [line.strip() for line in child.stdout.read().splitlines() if len(line.strip()) == len(reported[0])]
    child.wait()
    child.stdin.close()  # type: ignore[union-attr]
    child.stdout.close()
    with dx.Lab(path) as lab:
        kept = set(lab.sql("SELECT run_id FROM runs WHERE kind = 'row'")["run_id"])
        assert set(reported) <= kept
        assert lab.store.recovery is not None
        assert "interrupted" in str(lab.store.recovery)
        assert list(lab.sql("SELECT status FROM runs WHERE kind = 'map'")["status"]) == ["interrupted"]
    with dx.Lab(path) as lab:
        assert lab.store.recovery is None


def test_the_kernels_lab_is_one_until_it_is_closed_or_another_file_is_asked_for(tmp_path: Path) -> None:
    first = dx.lab()
    assert dx.lab() is first
    assert (tmp_path / ".dspex" / "lab.duckdb").exists()
    other = dx.lab("other.duckdb")
    assert other is not first
    assert dx.lab("other.duckdb") is other, "the same file by the same name is the same Lab"
    assert first.closed
    other.close()
    again = dx.lab("other.duckdb")
    assert again is not other
    assert repr(again).startswith("Lab(")
    assert again.name == "other"
    again.close()
    assert repr(again).endswith("closed)")


def test_the_model_of_the_settings_is_taken_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(dx.LMError):
        dx.Lab(":memory:", dx.Config(lm="no-such-model"))
    monkeypatch.setenv("DSPEX_LM", "offline")
    with dx.Lab(":memory:") as lab:
        assert lab.lm.model == "offline/exemplar"


def test_an_unclosed_lab_ends_with_its_process(tmp_path: Path) -> None:
    code = "import dspex_lab as dx\nlab = dx.Lab('x.duckdb')\nprint(lab.run(lambda x: x, x=1).status)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "complete\n", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.duckdb"]


def test_a_kernel_that_is_shut_down_closes_its_lab_and_leaves_no_process(tmp_path: Path) -> None:
    import psutil
    from jupyter_client.manager import KernelManager

    # After half of its 5 s a kernel that closes its Lab would be killed.
    manager = KernelManager(kernel_name="python3", transport="ipc", shutdown_wait_time=120)
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    code = (
        "import dspex_lab as dx\nlab = dx.Lab('x.duckdb')\n"
        "print(lab.run(dx.pipeline('p', y=dx.step(lambda x: x, pool='general')), x=1).status)"
    )
    told: list[str] = []
    client.execute_interactive(code, timeout=120, output_hook=lambda m: told.append(m["content"].get("text", "")))
    assert "complete\n" in told
    family = psutil.Process(manager.provisioner.pid).children(recursive=True)
    assert family
    client.stop_channels()
    manager.shutdown_kernel(now=False)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("x.")] == ["x.duckdb"]


def test_an_interrupt_ends_a_run_keeps_what_was_done_and_records_it(tmp_path: Path) -> None:
    code = """
    import threading
    import dspex_lab as dx

    lab = dx.Lab("x.duckdb")

    def forever(w: int) -> int:
        print("running", flush=True)
        threading.Event().wait()
        return w

    def before(x: int) -> int:
        return x + 1

    for made in (dx.pipeline("here", w=before, y=forever), dx.pipeline("there", w=before, y=forever, z=lambda w: w)):
        try:
            lab.run(made, x=1)
        except KeyboardInterrupt as stop:
            kept = lab.last_result
            said = "last_result" in stop.__notes__[0]
            print("interrupted", kept.cancelled, kept.status, kept["w"], kept.steps["y"].status, said, flush=True)
    print(sorted(lab.sql("SELECT name, status FROM runs").itertuples(index=False, name=None)), flush=True)
    import os
    os._exit(0)  # the thread of the second one waits for ever
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert child.stdout is not None
    watch = threading.Timer(120, child.kill)  # what is not interrupted must not wait for ever
    watch.start()
    with child:
        try:
            for _ in range(2):
                assert child.stdout.readline() == "running\n"
                os.kill(child.pid, signal.SIGINT)
                assert child.stdout.readline() == "interrupted True partial 2 cancelled True\n"
            out, err = child.communicate()
        finally:
            watch.cancel()
            child.kill()
    assert out.strip() == "[('here', 'cancelled'), ('there', 'cancelled')]", err


def test_time_is_kept_between_runs(tmp_path: Path) -> None:
    before = time.time()
    with dx.Lab(str(tmp_path / "x.duckdb")) as lab:
        lab.run(lambda x: x, x=1)
    with dx.Lab(str(tmp_path / "x.duckdb")) as lab:
        started = lab.sql("SELECT epoch(started) AS s FROM runs")["s"][0]
    assert before - 1 <= started <= time.time() + 1


def test_an_exit_in_a_task_that_a_step_made_does_not_end_the_lab(lab: dx.Lab) -> None:
    async def leave(x: int) -> int:
        async def out() -> int:
            raise SystemExit(3)

        return await asyncio.ensure_future(out())

    result = lab.run(dx.pipeline("p", y=leave, z=lambda x: x), x=1)
    assert (result.status, result.outputs) == ("partial", {"z": 1})
    assert lab.run(dx.pipeline("p", y=lambda x: x, z=lambda x: x), x=2).outputs == {"y": 2, "z": 2}
