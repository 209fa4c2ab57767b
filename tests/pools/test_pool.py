"""The real pool: how its workers are made, who runs what, and what they can load."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from pool_helpers import both_ready, pids, run

from dspex_lab.errors import TaskImportError
from dspex_lab.events import Event
from dspex_lab.pools import Pool
from dspex_lab.pools._preload import THREAD_LIMITS

# ---- how the workers are made --------------------------------------------------------------------------------------


def test_workers_have_their_imports_before_any_task_and_share_their_memory(general: Pool) -> None:
    def born_with() -> tuple[list[str], list[str]]:
        from dspex_lab.pools._birth import Birth

        return list(Birth.own.preload if Birth.own else ()), list(Birth.missing)

    general.restart()  # what tests have done in them is no part of it
    asyncio.run(both_ready(general))
    preload, missing = run(general, born_with)
    assert {"dspy", "dspex_lab.pipelines._remote", "dspex_lab.pools._link"} <= set(preload)
    assert missing == []
    for row in general.status():
        assert row["pss"] < 0.75 * row["rss"]


def test_the_forkserver_has_one_thread_and_is_the_workers_parent(general: Pool) -> None:
    server = psutil.Process(general._fleet.launcher.pid)
    assert server.num_threads() == 1
    assert {psutil.Process(pid).ppid() for pid in pids(general).values()} == {server.pid}


def test_a_worker_limits_its_threads_and_the_kernels_environment_stays_as_it_was(general: Pool) -> None:
    limits = run(general, lambda: {name: os.environ.get(name) for name in THREAD_LIMITS})
    assert limits == dict.fromkeys(THREAD_LIMITS, "1")
    assert "PYTHONHASHSEED" not in os.environ or os.environ["PYTHONHASHSEED"] != "6640"
    assert "__DASK_PARENT_PID" not in os.environ
    assert not [entry for entry in sys.path if "dask-scratch-space" in entry]


def test_only_loopback_listens_and_a_client_without_the_certificate_is_refused(general: Pool) -> None:
    ports = []
    for pid in [os.getpid(), *pids(general).values()]:
        addresses = [c.laddr for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert {a.ip for a in addresses} <= {"127.0.0.1"}
        ports += [a.port for a in addresses]
    assert len(ports) == 5  # the scheduler, two nannies, two workers, and no web server
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for port in ports:
        assert _is_refused(port, context)


def _is_refused(port: int, context: ssl.SSLContext) -> bool:
    """Whether the other side ends the connection without a word of its own (TLS 1.3 says so only at the first read)."""
    try:
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as wrapped:
            wrapped.sendall(b"\0" * 64)
            return wrapped.recv(1) == b""
    except OSError as error:
        return isinstance(error, ssl.SSLError | ConnectionError)


def test_an_interrupt_of_the_kernels_group_does_not_reach_the_workers(general: Pool) -> None:
    assert general._fleet is not None
    groups = {os.getpgid(pid) for pid in pids(general).values()}
    assert groups == {general._fleet.launcher.pid}
    assert os.getpgrp() not in groups


# ---- who runs what -------------------------------------------------------------------------------------------------


def test_calls_at_once_run_on_both_workers_and_each_runs_one_at_a_time(general: Pool, tmp_path: Path) -> None:
    def alone(folder: str) -> tuple[int, bool]:
        mark = Path(folder, str(os.getpid()))
        mark.touch(exist_ok=False)
        os.sched_yield()
        mark.unlink()
        return os.getpid(), True

    async def many() -> list[tuple[int, bool]]:
        await both_ready(general)
        return await asyncio.gather(*(general.call(alone, str(tmp_path)) for _ in range(40)))

    answers = asyncio.run(many())
    assert {pid for pid, _ in answers} == set(pids(general).values())


def test_calls_may_come_from_several_loops_at_once(general: Pool) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda i: run(general, abs, -i), range(30))) == list(range(30))


def test_a_hot_call_sends_the_function_once_to_each_worker(general: Pool) -> None:
    ballast = os.urandom(3_000_000)

    def size() -> int:
        return len(ballast)

    async def many() -> None:
        await both_ready(general)
        sent = list(general._started.result().workers.values())  # type: ignore[union-attr]
        for _ in range(4):
            await general.call(size)
        assert sum(_digest(size) in w.known for w in sent) <= 2

    before = _received(general)
    asyncio.run(many())
    assert _received(general) - before < 2.5 * len(ballast)


def _digest(function: Any) -> str:
    from dspex_lab.pools._carry import pack

    return pack(function, (), pool="x").digest


def _received(pool: Pool) -> int:
    return sum(psutil.Process(pid).io_counters().read_chars for pid in pids(pool).values())


def test_each_call_has_a_context_of_its_own(general: Pool) -> None:
    def count() -> int:
        import builtins
        import contextvars

        variable = builtins.__dict__.setdefault("_dspex_test", contextvars.ContextVar("n", default=0))
        variable.set(variable.get() + 1)
        return int(variable.get())

    assert [run(general, count) for _ in range(4)] == [1, 1, 1, 1]


def test_a_module_found_on_the_kernels_path_is_found_by_the_worker(
    general: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "helpers_of_mine.py").write_text("def f(): return 41\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import helpers_of_mine  # type: ignore[import-not-found]

    assert run(general, helpers_of_mine.f) == 41


def test_what_a_worker_cannot_load_is_said(general: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here_only.py").write_text(f"import os\nif os.getpid() != {os.getpid()}: import no_such\ndef f(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import here_only  # type: ignore[import-not-found]

    with pytest.raises(TaskImportError, match=r"f needs module 'no_such' that worker") as caught:
        run(general, here_only.f)
    assert "ModuleNotFoundError" in str(caught.value.traceback)


def test_a_listener_that_raises_does_not_break_a_call(general: Pool, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(general._started.result().notes, "emit", broken)  # type: ignore[union-attr]
    assert run(general, abs, -1) == 1
    assert "raised at pool.checkout" in caplog.text
