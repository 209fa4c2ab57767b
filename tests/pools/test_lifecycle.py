"""A pool's start and end, and the ends of those around it."""

from __future__ import annotations

import asyncio
import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from traitlets.config import Config

from dspex_lab.errors import ConfigurationError, PoolError, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, Pools, PoolSpec, _cluster, _cluster_fleet, _runtime

LIGHT = PoolSpec("light", 1, MINIMUM_MEMORY, preload=(), environment={"DSPEX_TEST_COLOUR": "green"})


def run(pool: Pool, function: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(pool.call(function, *args, **options))


def gone(process: psutil.Process) -> bool:
    """Ended, or only not yet reaped by whoever inherited it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # reaped between the two looks
        return True


def gone_by_pid(pid: int) -> bool:
    try:
        return gone(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


def family_of(pool: Pool) -> list[psutil.Process]:
    """The pool's forkserver and its workers."""
    assert pool._fleet is not None
    server = psutil.Process(pool._fleet.launcher.pid)
    return [server, *server.children(recursive=True)]


def test_a_pool_starts_at_its_first_call_and_leaves_nothing_behind(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(multiprocessing.util.get_temp_dir())  # multiprocessing's own; it goes when the interpreter does
    files = set(folder.iterdir())
    monkeypatch.setattr("tempfile.tempdir", str(short))
    environment, path, threads = dict(os.environ), list(sys.path), threading.enumerate()
    pool = Pool(LIGHT)
    assert not pool.started
    assert pool.status() == []
    assert "not started" in repr(pool)
    assert run(pool, lambda: os.environ.get("DSPEX_TEST_COLOUR")) == "green"
    assert pool.started
    [row] = pool.status()
    assert (row["name"], row["state"], row["calls"]) == ("light-0", "idle", 1)
    assert 0 < row["pss"] < row["rss"]
    assert dict(os.environ) == environment
    family = family_of(pool)
    assert len(family) == 2
    pool.close()
    pool.close()
    assert all(gone(process) for process in family)
    assert list(short.glob("*")) == []
    assert set(folder.iterdir()) == files
    assert sys.path == path
    assert [t.name for t in threading.enumerate() if t not in threads and t.name.startswith("dspex")] == []
    assert pool.status() == []
    with pytest.raises(PoolError, match="closed"):
        run(pool, abs, -1)


def test_closing_ends_what_runs_and_what_waits() -> None:
    told: list[Event] = []
    pool = Pool(LIGHT, emit=told.append).warm()

    async def closed() -> list[Any]:
        going = [asyncio.ensure_future(pool.call(lambda: threading.Event().wait())) for _ in range(2)]
        while not any(e.name == "pool.checkout" for e in told):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.to_thread(pool.close)
        return await asyncio.gather(*going, return_exceptions=True)

    first, second = asyncio.run(closed())
    assert isinstance(first, PoolError)
    assert "was closed while" in str(first)
    assert isinstance(second, PoolError)


def test_the_workers_come_back_when_their_server_is_killed_and_the_environment_stays() -> None:
    told: list[Event] = []
    pool = Pool(LIGHT, emit=told.append).warm()
    environment = dict(os.environ)
    try:
        before = pool.status()[0]["pid"]
        assert pool._fleet is not None
        os.kill(pool._fleet.launcher.pid or 0, signal.SIGKILL)
        while not any(e.name == "pool.restart" for e in told):
            threading.Event().wait(0.01)
        after = run(pool, os.getpid, idempotent=True)
        assert after != before
        assert dict(os.environ) == environment
    finally:
        pool.close()


def test_when_no_worker_can_be_started_again_callers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(_cluster_fleet, "PATIENCE", (0.05,))
    (tmp_path / "crashes.py").write_text("raise RuntimeError('not today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = Pool(LIGHT).warm()
    try:
        assert pool._fleet is not None
        pool._fleet.launcher.server.set_forkserver_preload(["crashes"])

        async def doomed() -> list[Any]:
            going = [asyncio.ensure_future(pool.call(_wait)) for _ in range(2)]
            while pool.status()[0]["state"] != "busy":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            os.kill(pool._fleet.launcher.pid, signal.SIGKILL)  # type: ignore[union-attr, arg-type]
            return await asyncio.gather(*going, return_exceptions=True)

        first, second = asyncio.run(doomed())
        assert isinstance(first, WorkerKilled)
        assert "has no worker left" in str(second)
        with pytest.raises(PoolError, match="has no worker left"):
            run(pool, abs, -1)
        assert "could not be replaced" in caplog.text
    finally:
        pool.close()


def _wait() -> None:
    threading.Event().wait()


def test_a_preload_that_is_not_there_is_refused_by_name_and_nothing_stays() -> None:
    pool = Pool(PoolSpec("light", 1, MINIMUM_MEMORY, preload=("no_such_module",)))
    for _ in range(2):  # a failed start is tried anew
        with pytest.raises(ConfigurationError, match="no_such_module could not be imported"):
            pool.warm()
        assert pool._fleet is not None
        assert pool._fleet.launcher.pid is None
    servers = [p.cmdline() for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    assert not any("no_such_module" in "".join(command) for command in servers)
    pool.close()


def test_a_worker_that_comes_back_without_its_imports_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster_fleet, "PATIENCE", (0.05,))
    pool = Pool(LIGHT).warm()
    try:
        assert pool._fleet is not None
        pool._fleet.launcher.preload = ("no_such_module",)
        with pytest.raises(WorkerKilled):
            run(pool, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with pytest.raises(PoolError, match="has no worker left") as caught:
            run(pool, abs, -1)
        assert isinstance(caught.value.__cause__, ConfigurationError)
        assert [row["state"] for row in pool.status()] == ["dead"]
        pool._fleet.launcher.preload = ()
        pool.resize(1)  # what was given up is tried again
        assert run(pool, abs, -1) == 1
    finally:
        pool.close()


def test_a_pool_that_cannot_be_started_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(_cluster.tempfile, "mkdtemp", full)
    pool = Pool(LIGHT)
    with pytest.raises(PoolError, match="Pool 'light' could not be started: OSError: No space left on device") as caught:
        run(pool, abs, -1)
    assert isinstance(caught.value.__cause__, OSError)
    pool.close()


def test_a_cluster_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no entropy")

    pool = Pool(LIGHT)
    with monkeypatch.context() as patch:
        patch.setattr(_cluster.Security, "temporary", broken)
        with pytest.raises(PoolError, match="could not be started: OSError: no entropy"):
            pool.warm()
    assert run(pool, abs, -1) == 1
    pool.close()


def test_a_pool_that_is_closed_while_it_starts_is_closed() -> None:
    pool = Pool(LIGHT).warm(wait=False)
    pool.close()
    assert pool._fleet is not None
    assert pool._fleet.launcher.pid is None


def test_a_pool_whose_imports_hang_can_be_closed_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = Pool(PoolSpec("light", 1, MINIMUM_MEMORY, preload=("hangs",))).warm(wait=False)
    while pool._fleet is None or pool._fleet.cluster.dask is None or not pool._fleet.cluster.dask.workers:
        threading.Event().wait(0.01)
    [server] = family_of(pool)
    folders = [pool._fleet._shared.folder, pool._fleet._folder]
    pool.close()
    assert gone(server)
    assert not any(os.path.exists(folder) for folder in folders)


def test_all_open_pools_are_closed_at_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(LIGHT).warm()
    monkeypatch.setattr(_runtime, "_open", {pool._runtime})
    family = family_of(pool)
    _runtime.close_all()
    assert all(gone(process) for process in family)


def test_pools_are_made_by_name_and_closed_together() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'light'"):
        Pools([LIGHT]).get("ligth")
    pools = Pools([LIGHT])
    assert pools.names == ["light"]
    assert pools.get("light") is pools.get("light")
    assert pools.status() == []
    pools.get("light").warm()
    assert [(row["pool"], row["name"]) for row in pools.status()] == [("light", "light-0")]
    pools.close()
    pools.close()
    assert pools.status() == []
    late = Pools()
    late.close()
    with pytest.raises(PoolError, match="closed"):
        run(late.get("general"), abs, -1)


# ---- other processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files; pytest's own may be too long for a socket's path."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def child(code: str, *flags: str, **options: Any) -> subprocess.Popen[str]:
    head = """
    import asyncio, os, sys, threading
    from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec
    pool = Pool(PoolSpec("light", 2, MINIMUM_MEMORY, preload=()))
    """
    source = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, *flags, "-c", source], text=True, stdout=subprocess.PIPE, **options)


def test_all_descendants_end_with_a_kernel_that_is_killed_even_one_that_hangs(short: Path) -> None:
    kernel = child(
        """
        pool.warm()
        async def main():
            await pool.call(len, bytearray(30_000_000))  # by a file in memory
            print(pool._fleet._shared.folder, flush=True)
            hanging = asyncio.ensure_future(pool.call(sum, range(10**13)))  # never lets go of the interpreter's lock
            while [w["state"] for w in pool.status()].count("busy") < 1:
                await asyncio.sleep(0.01)
            print("ready", flush=True)
            await hanging
        asyncio.run(main())
        """,
        env={**os.environ, "TMPDIR": str(short)},
    )
    with kernel:
        assert kernel.stdout is not None
        shared = Path(kernel.stdout.readline().strip())
        assert shared.is_dir()
        assert kernel.stdout.readline().strip() == "ready"
        family = psutil.Process(kernel.pid).children(recursive=True)
        assert len(family) == 4  # resource tracker, forkserver, two workers
        kernel.kill()
        kernel.wait()
        while not all(gone(process) for process in family):
            threading.Event().wait(0.01)
    assert not shared.exists()
    assert list(short.glob("*")) == []


def test_an_interpreter_that_ends_without_closing_ends_its_pool_silently(short: Path) -> None:
    kernel = child(
        """
        print(asyncio.run(pool.call(lambda: 6 * 7)), flush=True)
        print(*[w["pid"] for w in pool.status()], pool._fleet.launcher.pid)
        """,
        "-W",
        "error",
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(short)},
    )
    out, err = kernel.communicate(timeout=60)
    assert err == ""
    answer, pids = out.splitlines()
    assert answer == "42"
    assert all(gone_by_pid(int(pid)) for pid in pids.split())
    assert list(short.glob("*")) == []
    assert kernel.returncode == 0


def test_a_script_without_a_guard_is_not_run_again_by_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio
            from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec
            print("top")
            def double(x): return 2 * x
            pool = Pool(PoolSpec("light", 1, MINIMUM_MEMORY, preload=()))
            print(asyncio.run(pool.call(double, 21)))
            pool.close()
            """
        )
    )
    done = subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("top\n42\n", "")


def test_the_room_is_imported_without_its_heavy_packages() -> None:
    heavy = ("distributed", "dask", "dspy", "numpy", "psutil")
    code = f"import sys, dspex_lab.pools; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_notebook_can_await_calls_of_its_own_functions_shows_no_noise_and_ends_in_order(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    config = Config()
    config.KernelManager.shutdown_wait_time = 120  # after half of its 5 s a kernel that closes its pool would be killed
    cells = [
        "from dspex_lab.pools import MINIMUM_MEMORY, Pool, PoolSpec\n"
        "pool = Pool(PoolSpec('light', 1, MINIMUM_MEMORY, preload=()))\n"
        "class Order:\n    def __init__(self, n): self.n = n\n"
        "def double(order): return Order(order.n * 2)",
        "(await pool.call(double, Order(21))).n",
        "import os, signal\nfrom dspex_lab.errors import WorkerKilled\n"
        "try:\n    await pool.call(lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        "except WorkerKilled as error:\n    name = type(error).__name__\nname",
        "await pool.call(abs, -7)",
        "import atexit, pathlib\n_ = atexit.register(pathlib.Path('ended in order').touch)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}, config=config
    ).execute()
    outputs = [[o.get("data", {}).get("text/plain") or dict(o) for o in cell.outputs] for cell in notebook.cells]
    assert outputs == [[], ["42"], ["'WorkerKilled'"], ["7"], []]
    assert (tmp_path / "ended in order").exists()
    assert list(short.glob("pymp-*")) == []
