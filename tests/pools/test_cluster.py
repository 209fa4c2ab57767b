"""The cluster that a Lab's pools share: its sockets, its processes, their sizes and environments."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from distributed import Client
from distributed.security import Security
from pool_helpers import both_ready

from dspex_lab.errors import WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, Pools, PoolSpec


def spec(name: str, workers: int = 1, **options: Any) -> PoolSpec:
    return PoolSpec(name, workers, MINIMUM_MEMORY, **{"preload": (), **options})


def run(pool: Pool, function: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(pool.call(function, *args, **options))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def listening(pid: int | None = None) -> set[tuple[str, int]]:
    found = psutil.Process(pid).net_connections("inet")
    return {(c.laddr.ip, c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def said() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def sockets() -> dict[str, set[tuple[str, int]]]:
    """What the kernel listened on before the pools, and what it did more when they were up."""
    return {}


@pytest.fixture(scope="module")
def pools(said: list[Event], sockets: dict[str, set[tuple[str, int]]]) -> Iterator[Pools]:
    """Two pools of one Lab, two workers and one."""
    before = listening()
    pools = Pools([spec("red", 2), spec("blue")], emit=said.append)
    pools.warm(wait=True)
    sockets["kernel"] = listening() - before
    yield pools
    pools.close()


# ---- what listens --------------------------------------------------------------------------------------------------


def test_only_scheduler_nannies_and_workers_listen_and_only_on_the_loopback(
    pools: Pools, sockets: dict[str, set[tuple[str, int]]]
) -> None:
    kernel = sockets["kernel"]
    workers = [listening(row["pid"]) for row in pools.status()]
    assert len(kernel) == 1 + 3  # the scheduler, and a nanny for each worker
    assert [len(ports) for ports in workers] == [1, 1, 1]
    assert {ip for ports in (kernel, *workers) for ip, _ in ports} == {"127.0.0.1"}
    for name in ("red", "blue"):
        fleet = pools.get(name)._fleet
        assert listening(fleet.launcher.pid) == set()


def test_nobody_without_the_certificate_is_let_in(pools: Pools, sockets: dict[str, set[tuple[str, int]]]) -> None:
    for _, port in sockets["kernel"] | listening(pools.status()[0]["pid"]):
        assert _answer(socket.create_connection(("127.0.0.1", port)), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        blind = ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _greet(blind, port)

    async def other_authority() -> None:
        await Client(pools.address, security=Security.temporary(), asynchronous=True, timeout=2)

    with pytest.raises(OSError, match=r"(?i)certificate|timed out"):
        asyncio.run(other_authority())
    assert run(pools.get("blue"), abs, -3) == 3


def _greet(context: ssl.SSLContext, port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secret:
        # In TLS 1.3 the handshake is over for the client before the server has looked at its certificate.
        secret.sendall(b"hello")
        return secret.recv(100) or secret.unwrap().recv(1)


def _answer(connection: socket.socket, question: bytes) -> bytes:
    with connection:
        connection.sendall(question)
        connection.settimeout(60)
        try:
            found = connection.recv(100)
        except ConnectionError:
            return b""
        return b"" if found[:1] == b"\x15" else found  # a TLS alert says no more than no


# ---- one cluster, several pools ------------------------------------------------------------------------------------


def test_pools_share_a_scheduler_and_closing_one_ends_only_its_workers() -> None:
    pools = Pools([spec("red", 2), spec("blue")])
    pools.warm(wait=True)
    red, blue = pools.get("red"), pools.get("blue")
    assert red._fleet.cluster is blue._fleet.cluster
    assert pools.address.startswith("tls://127.0.0.1:")
    assert red._fleet.launcher.pid != blue._fleet.launcher.pid
    pids = [row["pid"] for row in red.status()]
    server, other = red._fleet.launcher.pid, blue.status()[0]["pid"]
    red.close()
    assert all(gone(pid) for pid in [*pids, server])
    assert run(blue, os.getpid) == other
    pools.close()
    assert gone(other)


def test_workers_are_tagged_with_their_pool(pools: Pools) -> None:
    scheduler = pools.get("red")._fleet.cluster.dask.scheduler
    tags = {str(worker.name): worker.resources for worker in scheduler.workers.values()}
    assert tags == {"red-0": {"red": 1}, "red-1": {"red": 1}, "blue-0": {"blue": 1}}
    assert run(pools.get("blue"), divmod, 7, 2, long=True) == (3, 1)


def test_no_server_of_dasks_wakes_fifty_times_a_second(pools: Pools) -> None:
    def tick() -> float:
        from distributed import Worker

        (worker,) = Worker._instances
        return float(worker.periodic_callbacks["tick"].callback_time)

    cluster = pools.get("red")._fleet.cluster.dask
    assert cluster.workers
    for server in (cluster.scheduler, *cluster.workers.values()):
        assert server.periodic_callbacks["tick"].callback_time >= 1_000
    assert run(pools.get("blue"), tick) >= 1_000


def test_a_long_call_whose_worker_dies_is_told_and_the_pool_goes_on(pools: Pools) -> None:
    blue = pools.get("blue")
    with pytest.raises(WorkerKilled):
        run(blue, lambda: os.kill(os.getpid(), signal.SIGKILL), long=True)
    assert run(blue, abs, -1, long=True) == 1


def test_a_long_call_that_is_cancelled_leaves_nothing_in_its_worker(pools: Pools) -> None:
    blue = pools.get("blue")

    async def cancelled() -> None:
        going = asyncio.ensure_future(blue.call(lambda: threading.Event().wait(), long=True))
        while blue.status()[0]["state"] != "busy":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going

    asyncio.run(cancelled())
    assert run(blue, abs, -1, long=True) == 1
    assert run(blue, _left_behind) == 0


def _left_behind() -> int:
    from distributed.worker import Worker

    return sum(len(actor._laid) for worker in Worker._instances for actor in worker.state.actors.values())


def test_large_values_go_by_files_in_memory_that_are_gone_at_once(pools: Pools) -> None:
    import numpy as np

    blue, told = pools.get("blue"), []
    for long in (False, True):
        back = run(blue, lambda values: values + 1, np.ones(2_000_000), long=long, told=told.append)
        assert back.sum() == 4_000_000
    assert [(o.sent.protocol, o.received.protocol) for o in told] == [("shared", "shared")] * 2
    assert run(blue, abs, -1, told=told.append) == 1
    assert told[-1].sent.protocol == "inline"
    assert os.listdir(blue._fleet._shared.folder) == []


def test_a_worker_that_is_gone_already_can_be_killed(pools: Pools) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    pools.get("blue")._fleet.kill(SimpleNamespace(pid=ended.pid, name="gone"))


# ---- size ----------------------------------------------------------------------------------------------------------


def test_a_pool_grows_and_shrinks_and_what_is_busy_leaves_when_it_is_free(pools: Pools, tmp_path: Path) -> None:
    blue = pools.get("blue")
    blue.resize(3)
    assert sorted(row["name"] for row in blue.status()) == ["blue-0", "blue-1", "blue-2"]
    pids = {row["name"]: row["pid"] for row in blue.status()}
    gate = tmp_path / "gate"

    async def busy_then_free() -> list[str]:
        going = [asyncio.ensure_future(blue.call(_until, str(gate))) for _ in range(2)]
        while [row["state"] for row in blue.status()].count("busy") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        shrinking = asyncio.ensure_future(asyncio.to_thread(blue.resize, 1))
        while len(blue.status()) == 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        states = sorted(row["state"] for row in blue.status())
        gate.touch()
        assert await asyncio.gather(*going) == ["done", "done"]
        await shrinking
        return states

    assert asyncio.run(busy_then_free()) == ["busy", "leaving"]
    [left] = blue.status()
    assert [name for name, pid in pids.items() if not gone(pid)] == [left["name"]]
    assert len(os.listdir(blue._fleet._folder)) == 1
    blue.resize(2)
    assert [row["state"] for row in blue.status()] == ["idle", "idle"]
    blue.resize(1)


def _until(path: str) -> str:
    event = threading.Event()
    while not os.path.exists(path):
        event.wait(0.01)
    return "done"


# ---- what a worker is born with ------------------------------------------------------------------------------------


def test_a_pools_environment_is_there_before_its_imports_and_seen_by_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "looks.py").write_text("import os\nseen = os.environ.get('COLOUR')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = Pool(spec("red", preload=("looks",), environment={"COLOUR": "secret red"})).warm()
    try:
        assert run(pool, lambda: __import__("looks").seen) == "secret red"
        assert "COLOUR" not in os.environ
        server = psutil.Process(pool._fleet.launcher.pid)
        assert "secret red" not in " ".join(server.cmdline())
    finally:
        pool.close()


def test_each_worker_sees_its_own_gpu_before_it_can_touch_one() -> None:
    pool = Pool(spec("neural", 3, gpus=("0", "GPU-1"))).warm()
    try:
        names = {row["name"]: row["device"] for row in pool.status()}
        assert names == {"neural-0": "0", "neural-1": "GPU-1", "neural-2": None}

        async def seen() -> set[str]:
            async with pool.reserve() as one, pool.reserve() as two, pool.reserve() as three:
                calls = [pool.call(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"), place=r.place) for r in (one, two, three)]
                return set(await asyncio.gather(*calls))

        assert asyncio.run(seen()) == {"0", "GPU-1", ""}
    finally:
        pool.close()


def test_a_worker_writes_into_its_workspace_which_is_empty_again_for_the_next_one(pools: Pools) -> None:
    blue = pools.get("blue")

    def leave() -> str:
        with tempfile.NamedTemporaryFile(delete=False) as file:
            return file.name

    file = Path(run(blue, leave))
    assert file.exists()
    assert file.is_relative_to(blue._fleet._folder)
    with pytest.raises(WorkerKilled):
        run(blue, lambda: os._exit(3))
    assert run(blue, abs, -1) == 1
    assert not file.exists()


def test_a_worker_writes_nowhere_else_where_the_kernel_has_landlock(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "other").mkdir()
    pools = Pools([spec("red", writable=(str(tmp_path / "allowed"),)), spec("blue", confine=False)])
    try:
        red, blue = pools.get("red").warm(), pools.get("blue").warm()
        [level], [free] = [[row["protection"] for row in pool.status()] for pool in (red, blue)]
        assert free == "rlimits"
        run(blue, Path.touch, tmp_path / "other" / "free")
        assert (tmp_path / "other" / "free").exists()
        run(red, Path.touch, tmp_path / "allowed" / "file")
        assert (tmp_path / "allowed" / "file").exists()
        assert run(red, lambda: open("/dev/null", "w").write("x")) == 1  # noqa: SIM115
        if "landlock" not in level:
            pytest.skip(f"this kernel has no Landlock: {level}")
        with pytest.raises(PermissionError):
            run(red, Path.touch, tmp_path / "other" / "file")
        assert run(red, os.listdir, tmp_path / "other") == ["free"]  # reading is free
    finally:
        pools.close()


def test_no_worker_dumps_its_core(pools: Pools) -> None:
    assert run(pools.get("blue"), _core_limit) == (0, 0)


def _core_limit() -> tuple[int, int]:
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)


# ---- what is shared ------------------------------------------------------------------------------------------------


def test_workers_are_born_with_their_imports_and_share_them_with_their_server(general: Pool) -> None:
    general.restart()  # what tests have done in them is no part of it
    asyncio.run(both_ready(general))
    server = psutil.Process(general._fleet.launcher.pid)
    assert server.num_threads() == 1
    assert run(general, _at_birth) == []
    for row in general.status():
        memory = psutil.Process(row["pid"]).memory_full_info()
        # Two workers and their server share what was imported: were it not so, all of rss would be the worker's own.
        assert memory.uss < memory.rss / 2
        assert memory.pss < 0.7 * memory.rss
        assert memory.rss - memory.uss > 40_000_000


def _at_birth() -> list[str]:
    from dspex_lab.pools._birth import Birth

    assert Birth.own is not None
    assert {"dspy", "litellm"} & set(Birth.own.preload)
    return [*Birth.missing, *(name for name in Birth.own.preload if name not in __import__("sys").modules)]


def test_a_restarted_worker_is_said_once_and_has_the_same_name(pools: Pools, said: list[Event]) -> None:
    blue = pools.get("blue")
    [before] = blue.status()
    said.clear()
    os.kill(before["pid"], signal.SIGKILL)
    while not any(e.name == "pool.restart" for e in said):
        threading.Event().wait(0.005)
    assert run(blue, os.getpid, idempotent=True) != before["pid"]
    assert blue.status()[0]["name"] == before["name"]
    assert [e.data["code"] for e in said if e.name == "pool.restart" and e.data] == [-signal.SIGKILL]
