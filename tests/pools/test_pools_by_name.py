"""The pools of a Lab, by name, over workers that are threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from typing import Any

import pytest
from pool_links import Nowhere

from dspex_lab.errors import ConfigurationError, PoolError
from dspex_lab.events import Event
from dspex_lab.pools import MINIMUM_MEMORY, Pool, Pools, PoolsConfig, PoolSpec
from dspex_lab.pools._runtime import Runtime


def run(pool: Pool, function: Any, *args: Any, **options: Any) -> Any:
    return asyncio.run(pool.call(function, *args, **options))


def test_pools_share_one_thread_and_one_cluster_and_end_together(caplog: Any) -> None:
    made: list[Nowhere] = []

    def make() -> Nowhere:
        made.append(Nowhere())
        return made[-1]

    runtime = Runtime(make)
    first, second = (Pool(PoolSpec(name, 1, MINIMUM_MEMORY), None, runtime) for name in ("a", "b"))
    assert runtime.address == ""
    before = set(threading.enumerate())
    assert run(first, abs, -1) == run(second, abs, -1) == 1
    assert [t.name for t in threading.enumerate() if t not in before].count("dspex-pools") == 1
    assert (len(made), runtime.address) == (1, "tls://nowhere")
    first.close()
    assert run(second, abs, -1) == 1
    made[0].broken = True
    runtime.close()
    runtime.close()
    assert made[0].closed == 1
    assert "did not close in order" in caplog.text
    assert not second.started
    with pytest.raises(PoolError, match="closed"):
        run(second, abs, -1)


def test_pools_are_made_by_name_as_the_settings_say() -> None:
    pools = Pools(PoolsConfig(pools={"mine": {"workers": 2, "memory": "512MB"}, "general": SPEC_GENERAL}))
    assert pools.names == ["general", "optimizer", "neural", "mine"]
    assert pools.get("mine") is pools.get("mine")
    assert pools.get("mine").spec.workers == 2
    assert pools.get("general").spec is SPEC_GENERAL
    pools.resize("mine", 3)
    assert pools.scaling["mine"] == "3 workers of 512 MB, as asked."
    assert pools.address == ""
    assert pools.status() == []
    with pytest.raises(ConfigurationError, match="Did you mean 'mine'"):
        pools.get("mein")
    with pytest.raises(ConfigurationError, match="nobody"):
        pools.warm("nobody")
    assert repr(pools)
    pools.close()
    with pytest.raises(PoolError, match="closed"):
        run(pools.get("optimizer"), abs, -1)


def test_what_dask_leaves_unheard_when_the_loop_ends_is_not_told_to_the_user(caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> list[asyncio.Future[None]]:
        waits = asyncio.get_running_loop().create_future()
        waits.set_exception(TimeoutError("Timeout"))
        return [waits]

    runtime = Runtime(Nowhere)
    left = runtime.submit(leave()).result(30)
    runtime.close()
    left.clear()
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []


SPEC_GENERAL = PoolSpec("general", 1, MINIMUM_MEMORY)


def test_pools_are_warmed_side_by_side_by_name_or_all() -> None:
    told: list[Event] = []
    pools = Pools([PoolSpec(name, 1, MINIMUM_MEMORY) for name in "ab"], emit=told.append)
    pools._runtime = Runtime(Nowhere)
    pools.warm("a", wait=True)
    assert [row["pool"] for row in pools.status()] == ["a"]
    pools.warm(wait=True)
    assert sorted(row["pool"] for row in pools.status()) == ["a", "b"]
    assert (pools.address, pools.joined) == ("tls://nowhere", False)
    pools.resize("a", 2)
    pools.stop("a")
    assert [row["pool"] for row in pools.status()] == ["b"]
    with pytest.raises(ConfigurationError, match="There is no pool 'c'"):
        pools.stop("c")
    assert run(pools.get("a"), abs, -1) == 1
    assert len(pools.get("a").status()) == 2  # as many as there were
    assert "a" in repr(pools.table())
    assert "<" in pools._repr_html_()
    assert {e.data["pool"] for e in told if e.name == "pool.start" and e.data} == {"a", "b"}
    with pytest.raises(ConfigurationError, match="There is no pool 'c'"):
        pools.get("c")
    pools.close()
    pools.close()
    assert pools.status() == []


def test_an_address_joins_the_cluster_there(tmp_path: Any) -> None:
    files = {key: str(tmp_path / key) for key in ("tls_ca", "tls_cert", "tls_key")}
    for path in files.values():
        open(path, "w").close()
    pools = Pools(PoolsConfig(address="tls://127.0.0.1:9", **files))
    assert pools.address == "tls://127.0.0.1:9"
    with pytest.raises((PoolError, ConfigurationError)):
        pools.warm("general", wait=True)
    pools.close()
