"""A pool on a cluster that somebody else has started: the same tests as on the kernel's own, and what is different."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from _dask_cli import Cluster, ready

from dspex_lab.errors import ConfigurationError, OutOfMemory, PoolBusy, PoolError, WorkerKilled
from dspex_lab.events import Event
from dspex_lab.pools import Pool, Pools, _joined_fleet, make_certificates
from dspex_lab.pools._joined import JoinedCluster
from dspex_lab.testing._pool_conformance import PoolConformance


def run(pool: Pool, function: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(pool.call(function, *args, **options))


HIDES = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'dspex_lab':
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Hide())
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler without our package, two workers for the pool ``general``, and others; one of these lacks it too."""
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "sitecustomize.py").write_text(HIDES)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), env={"PYTHONPATH": str(hidden)})
    patch = pytest.MonkeyPatch()
    patch.setattr(_joined_fleet, "FIRST", 300.0)  # nine processes import Dask at once
    try:
        cluster.worker("general=1", "--nworkers", "2")
        cluster.worker("blue=2", "--name", "first")
        cluster.worker("GPU=1,lonely=1", "--name", "other", "--no-nanny")
        cluster.worker("bare=1", env={"PYTHONPATH": str(hidden)})
        yield cluster
    finally:
        patch.undo()
        cluster.close()


@pytest.fixture(scope="module")
def said() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def pools(cluster: Cluster, said: list[Event]) -> Iterator[Pools]:
    pools = Pools(cluster.config(general={"preload": [], "environment": {"COLOUR": "red"}}), emit=said.append)
    try:
        ready_two(pools)
        yield pools
    finally:
        pools.close()


def ready_two(pools: Pools) -> list[dict[str, Any]]:
    pools.get("general").warm()
    return ready(pools, "general", 2)


class TestJoinedPool(PoolConformance):
    @pytest.fixture
    def pool(self, pools: Pools) -> Pool:
        ready_two(pools)
        return pools.get("general")

    @pytest.fixture
    def events(self, said: list[Event]) -> list[Event]:
        return said


# ---- workers that are not ours -------------------------------------------------------------------------------------


def test_only_workers_with_the_pools_tag_are_taken(pools: Pools) -> None:
    rows = ready_two(pools)
    assert {row["name"].split(":")[0] for row in rows} == {"127.0.0.1"}
    assert "other" not in {row["name"] for row in rows}
    assert pools.address.startswith("tls://")
    assert run(pools.get("general"), os.environ.get, "COLOUR") is None  # the kernel's own environment travels with its method
    assert run(pools.get("general"), lambda: os.environ.get("COLOUR")) == "red"


def test_a_death_is_known_by_its_nanny_and_the_replacement_has_the_name(pools: Pools) -> None:
    general = pools.get("general")
    names = {row["name"] for row in ready_two(pools)}
    with pytest.raises(WorkerKilled, match="was killed by SIGKILL"):
        run(general, lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(WorkerKilled, match="ended with status 3"):
        run(general, lambda: os._exit(3), long=True)
    assert {row["name"] for row in ready_two(pools)} == names


def test_what_a_nanny_ends_for_its_memory_is_called_out_of_memory(cluster: Cluster) -> None:
    # RLIMIT_DATA does not count what is mapped shared: only the nanny sees it.
    def swell() -> None:
        import mmap

        held = mmap.mmap(-1, 600_000_000)
        for start in range(0, 600_000_000, 4096):
            held[start] = 1
        threading.Event().wait()

    pools = Pools(cluster.config(general={"preload": []}))
    try:
        ready_two(pools)
        with pytest.raises(OutOfMemory):
            run(pools.get("general"), swell)
        ready_two(pools)
    finally:
        pools.close()


def test_a_workers_task_threads_are_confined_and_it_says_so(pools: Pools, tmp_path: Path) -> None:
    [level, _] = [row["protection"] for row in ready_two(pools)]
    assert level.endswith("(task threads)")
    general = pools.get("general")
    assert run(general, _temporary) > 0
    if "landlock" not in level:
        pytest.skip(f"this kernel has no Landlock: {level}")
    with pytest.raises(PermissionError):
        run(general, Path.touch, tmp_path / "file")
    with pytest.raises(PermissionError):
        run(general, Path.touch, tmp_path / "file", long=True)


def _temporary() -> int:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        return file.write(b"here")


def test_fewer_workers_can_be_used_and_no_more_than_there_are(pools: Pools) -> None:
    ready_two(pools)
    general = pools.get("general")
    general.resize(1)
    assert len(general.status()) == 1
    general.resize(2)
    ready_two(pools)
    with pytest.raises(ConfigurationError, match=r"has 2 worker\(s\) on the cluster .*, not 5.*Who started the cluster"):
        general.resize(5)


def test_workers_that_come_later_are_used_and_those_that_leave_are_not_missed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_joined_fleet, "BACK", 0.2)
    pools = Pools(cluster.config(blue={"workers": 1, "memory": "512MB", "preload": []}))
    try:
        blue = pools.get("blue").warm()
        [row] = blue.status()
        assert row["name"] == "first"
        unfit = cluster.worker("blue=1", "--name", "unfit", "--no-nanny")  # not before: alone with it, the pool would not start
        second = cluster.worker("blue=1", "--name", "second")
        ready(pools, "blue", 2)
        pid = row["pid"]
        psutil.Process(pid).parent().terminate()  # its nanny: somebody stops `dask worker`
        while [row["name"] for row in blue.status()] != ["second"]:
            threading.Event().wait(0.02)
        assert run(blue, abs, -1) == 1
        second.terminate()
        second.wait(60)
        while blue.status():
            threading.Event().wait(0.02)
        with pytest.raises(PoolBusy):
            run(blue, abs, -1, patience=0.2)
        while "worker unfit is not used by pool 'blue'" not in caplog.text:
            threading.Event().wait(0.02)
        unfit.terminate()
    finally:
        pools.close()


def test_two_kernels_share_a_worker_and_long_calls_wait_for_each_other(cluster: Cluster, pools: Pools, tmp_path: Path) -> None:
    ready_two(pools)
    others = Pools(cluster.config(general={"preload": []}))
    try:
        ready_two(others)
        mine = [row["pid"] for row in pools.get("general").status()]
        assert sorted(row["pid"] for row in others.get("general").status()) == sorted(mine)
        both = [pools.get("general"), others.get("general")]

        async def all_at_once() -> list[int]:
            return await asyncio.gather(*(pool.call(abs, -n, long=True) for n in range(6) for pool in both))

        assert sorted(asyncio.run(all_at_once())) == sorted([*range(6), *range(6)])
    finally:
        others.close()
    assert run(pools.get("general"), abs, -1) == 1


def test_leaving_ends_nobody(cluster: Cluster, pools: Pools) -> None:
    pids = [row["pid"] for row in ready_two(pools)]
    others = Pools(cluster.config(general={"preload": []}))
    ready_two(others)
    others.close()
    assert all(psutil.pid_exists(pid) for pid in pids)
    assert [row["pid"] for row in pools.get("general").status()] == pids


# ---- what does not fit ---------------------------------------------------------------------------------------------


def test_a_cluster_without_a_worker_for_the_pool_says_what_to_start(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_joined_fleet, "FIRST", 0.3)
    pools = Pools(cluster.config(neural={"preload": []}))
    try:
        with pytest.raises(ConfigurationError, match=r'is for pool .neural.*GPU.*--resources "neural=1"'):
            pools.get("neural").warm()
    finally:
        pools.close()


def test_a_worker_without_a_nanny_is_refused(cluster: Cluster) -> None:
    pools = Pools(cluster.config(lonely={"workers": 1, "memory": "512MB", "preload": []}))
    try:
        with pytest.raises(ConfigurationError, match=r"Worker other .* has no nanny.*--no-nanny"):
            pools.get("lonely").warm()
    finally:
        pools.close()


def test_a_worker_without_this_package_is_refused_by_that_name_and_lives_on(cluster: Cluster) -> None:
    pools = Pools(cluster.config(bare={"workers": 1, "memory": "512MB", "preload": []}))
    try:
        with pytest.raises(ConfigurationError, match=r"dspex_lab is not installed there.*pip install dspex-lab=="):
            pools.get("bare").warm()
        with pytest.raises(ConfigurationError, match="not installed there"):
            pools.get("bare").warm()
    finally:
        pools.close()


def test_a_preload_that_a_worker_cannot_import_is_named(cluster: Cluster) -> None:
    pools = Pools(cluster.config(general={"preload": ["no_such_module"]}))
    try:
        with pytest.raises(ConfigurationError, match=r"no_such_module could not be imported by worker"):
            pools.get("general").warm()
    finally:
        pools.close()


def test_other_certificates_are_refused(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.pools._joined.CONNECT", 2.0)
    others = make_certificates(tmp_path / "others")
    stranger = {**cluster.config(general={"preload": []})}
    stranger.update(tls_ca=str(others.ca), tls_cert=str(others.cert), tls_key=str(others.key))
    pools = Pools(stranger)
    try:
        with pytest.raises(PoolError, match="could not be joined"):
            pools.get("general").warm()
    finally:
        pools.close()


def test_an_address_without_tls_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="runs anybody's code"):
        JoinedCluster("tcp://127.0.0.1:8786")
    with pytest.raises(ConfigurationError, match=r"pools\.tls_ca is not set"):
        JoinedCluster("tls://127.0.0.1:8786")
    with pytest.raises(ConfigurationError, match=r"pools\.tls_ca is .*no such file"):
        JoinedCluster("tls://127.0.0.1:8786", tls_ca=str(tmp_path / "none.pem"))


def test_a_scheduler_that_goes_away_is_said_and_joined_again_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.CRITICAL, "distributed")
    cluster = Cluster(tmp_path)
    cluster.worker("red=1")
    pools = Pools(cluster.config(red={"workers": 1, "memory": "512MB", "preload": []}))
    try:
        red = pools.get("red").warm()
        monkeypatch.setattr("dspex_lab.pools._joined.CONNECT", 1.0)
        cluster.scheduler.kill()
        while [row["state"] for row in red.status()] != ["dead"]:
            threading.Event().wait(0.02)
        with pytest.raises(PoolError, match="has no worker left") as caught:
            run(red, abs, -1)
        assert "does not answer any more" in str(caught.value.__cause__)
        cluster.worker("red=1", "--name", "again")  # it waits for the scheduler
        cluster.start_scheduler(cluster.address.rpartition(":")[2])
        monkeypatch.setattr("dspex_lab.pools._joined.CONNECT", 60.0)  # a slow answer is no loss any more
        ready(pools, "red", 1)
        assert run(red, abs, -1) == 1
    finally:
        pools.close()
        cluster.close()


def test_the_interpreter_is_the_same_on_both_sides(pools: Pools) -> None:
    assert run(pools.get("general"), lambda: sys.version_info[:2]) == sys.version_info[:2]
