"""A session on real workers: its process is killed and the state goes to another one; the kernel is killed and all is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.errors import SessionError, WorkerKilled
from dspex_lab.events import Bus
from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec
from dspex_lab.sessions import Sessions
from dspex_lab.store import Store

SCRIPT = Path(__file__).parent / "session_process.py"


@pytest.fixture(scope="module")
def bus() -> Bus:
    return Bus()


@pytest.fixture(scope="module")
def pool(bus: Bus) -> Iterator[Pool]:
    made = Pool(PoolSpec("general", 2, MINIMUM_MEMORY), emit=bus.emit)
    yield made.warm()
    made.close()


@pytest.fixture
def real(pool: Pool, bus: Bus) -> Iterator[Sessions]:
    with Store(":memory:") as store:
        made = Sessions(store, {"general": pool}.__getitem__, bus.emit)
        unsubscribe = bus.subscribe(made.observe)
        yield made
        made.close()
        unsubscribe()


def count(state: dict[str, Any]) -> tuple[int, int]:
    state["n"] = state.get("n", 0) + 1
    return state["n"], os.getpid()


def die(state: dict[str, Any]) -> None:
    state["n"] = -1
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_state_lives_in_the_workers_process(real: Sessions) -> None:
    made = real.open("s")
    pids = {made.call(count)[1] for _ in range(5)}
    assert len(pids) == 1, "it goes to the same worker"
    assert os.getpid() not in pids
    assert pids == {made.pid}
    assert (made.state["n"], made.calls, made.moves) == (5, 5, 0)


def test_a_session_outlives_its_worker(real: Sessions) -> None:
    made = real.open("s", affinity="strict-queue")
    made.state["frame"] = [1, 2, 3]
    _, before = made.call(count)
    os.kill(before, signal.SIGKILL)
    # Whether the pool has seen the death yet or not: a call on the dead worker is refused or sent to what replaces it.
    n, after = made.call(count, idempotent=True)
    assert (n, made.state["n"], made.state["frame"]) == (2, 2, [1, 2, 3])
    assert after != before
    assert (made.pid, made.version, made.calls) == (after, 3, 2)


def test_a_call_that_kills_its_worker_changes_nothing(real: Sessions) -> None:
    made = real.open("s")
    _, before = made.call(count)
    with pytest.raises(WorkerKilled):
        made.call(die)
    assert (dict(made.state), made.version) == ({"n": 1}, 1)
    n, after = made.call(count)
    assert (n, made.version) == (2, 2)
    assert after != before
    assert made.moves == 1


def test_strict_fail_says_that_the_process_is_gone(real: Sessions, pool: Pool) -> None:
    made = real.open("s", affinity="strict-fail")
    made.call(count)
    with pytest.raises(WorkerKilled):
        made.call(die)
    with pytest.raises(SessionError, match="is gone"):
        made.call(count)
    made.release()
    assert made.call(count)[0] == 2


def test_a_worker_that_is_checked_out_is_the_holders_alone(real: Sessions) -> None:
    with real.checkout("general") as mine, real.checkout("general") as other:
        assert mine.call(os.getpid) == mine.pid
        assert other.call(os.getpid) == other.pid
        assert mine.pid != other.pid


def test_what_was_open_when_the_kernel_was_killed_is_there_again(tmp_path: Path) -> None:
    def run(what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPT), str(tmp_path / "lab.duckdb"), what],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
        )

    killed = run("first")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    after = run("second")
    assert after.returncode == 0, after.stderr
    lines = after.stdout.splitlines()
    assert lines == [
        f"{killed.stdout.strip()} help suspended 3600.0 strict-queue",
        "{'n': 40, 'rows': [1, 2]} open 3 {'prompt': 'p'}",
        "3 3 3",
        "4",
    ]
