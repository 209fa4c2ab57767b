"""``lab.pools`` as a person sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from dspex_lab.pools import Pools, PoolSpec, Recycle
from dspex_lab.pools._table import PoolRow, PoolsTable, pools_table
from dspex_lab.testing import FakePool

GB, MB = 10**9, 10**6
EVIL = "<img src=x onerror=alert(1)>\x1b[2J\u202e"


def worker(name: str = "general-0", state: str = "idle", **more: Any) -> dict[str, Any]:
    about = {"pid": 12, "calls": 1234, "pss": 62 * MB, "rss": 110 * MB, "age": 90.0, "device": None, "host": "127.0.0.1"}
    return {"name": name, "state": state, **about, "protection": "rlimits+landlock", "seen": 1.0, **more}


SPEC = PoolSpec("general", 3, 512 * MB, recycle=Recycle(memory=384 * MB, calls=1000), scaling="3 workers: as asked.")


def test_a_pool_has_a_row_and_its_workers_have_theirs() -> None:
    workers = (
        worker(),
        worker("general-1", "busy", pid=None, pss=None),
        worker("general-2", "dead", pss=None, rss=None, age=None),
    )
    table = PoolsTable((PoolRow(SPEC, waiting=7, workers=workers),), "tls://10.0.0.1:8786")
    assert dict(zip(table.POOLS, table.pools()[0], strict=True)) == {
        "pool": "general",
        "workers": "2/3",
        "state": "1 busy, 1 dead, 1 idle",
        "memory each": "512 MB",
        "device": "CPU",
        "protection": "rlimits+landlock",
        "waiting": "7 of 1,024",
        "recycled": "384 MB kept or 1,000 calls",
    }
    first, second, third = (dict(zip(table.WORKERS, row, strict=True)) for row in table.workers())
    assert first == {
        "worker": "general-0",
        "pid": "12",
        "state": "idle",
        "calls": "1,234",
        "memory": "62 MB of 512 MB",
        "age": "1 min",
        "device": "CPU",
        "host": "127.0.0.1",
        "protection": "rlimits+landlock",
        "last seen": "1 s ago",
    }
    assert (second["pid"], second["memory"]) == ("–", "110 MB of 512 MB")
    assert (third["memory"], third["age"]) == ("–", "–")
    assert table.memory() == [("general-0: 62 MB of 512 MB", 62 / 512), ("general-1: 110 MB of 512 MB", 110 / 512)]
    text = repr(table)
    assert text.startswith("Pools, on the cluster at tls://10.0.0.1:8786\npool     workers  state")
    assert text.endswith("general: 3 workers: as asked.")


def test_what_is_not_started_says_so() -> None:
    gpu = PoolSpec("neural", 2, 8 * GB, gpus=("0", "1", "2"), confine=False, scaling="2 workers.")
    table = PoolsTable((PoolRow(SPEC), PoolRow(gpu, starting=True)))
    assert [row[1:6] for row in table.pools()] == [
        ("0/3", "not started", "512 MB", "CPU", "when started"),
        ("0/2", "starting", "8 GB", "GPU 0, 1", "off"),
    ]
    assert table.workers() == []
    assert "worker " not in repr(table)
    assert "no cluster runs yet" in repr(table)


def test_the_numbers_of_a_cluster_that_was_joined_are_its_own() -> None:
    table = PoolsTable((PoolRow(SPEC, joined=True, workers=(worker(), worker("b"), worker("c"), worker("d"))),), "tls://far:1")
    assert table.pools()[0][1:4] == ("4/4", "4 idle", "the cluster's")
    assert table.workers()[0][4] == "62 MB"
    assert table.memory() == []


def test_a_gpu_is_shown_with_its_worker() -> None:
    table = PoolsTable((PoolRow(SPEC, workers=(worker(device="1"), worker(device="0"))),))
    assert table.pools()[0][4] == "GPU 1, 0"
    assert [row[6] for row in table.workers()] == ["GPU 1", "GPU 0"]


def test_what_others_wrote_is_shown_and_never_run() -> None:
    spec = PoolSpec("general", 1, GB, scaling=EVIL)
    row = PoolRow(spec, workers=(worker(EVIL, host=EVIL, protection=EVIL, device=EVIL, state=EVIL, pid=EVIL),))
    table = PoolsTable((row,), EVIL)
    html = table._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html
    assert "mathjax_ignore" in html
    for sign in ("\x1b", "\u202e"):
        assert sign not in html + repr(table)
    long = PoolsTable((PoolRow(SPEC, workers=(worker("w" * 10_000),)),))
    assert len(repr(long)) < 2_000


@dataclass
class Held:
    """Pools that are there already."""

    pools: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    joined: bool = False

    @property
    def names(self) -> list[str]:
        return list(self.pools)

    def get(self, name: str) -> Any:
        return self.pools[name]


def test_a_pool_with_workers_is_shown_as_it_is() -> None:
    pool = FakePool("general", workers=2)
    held = Held({"general": pool})
    assert pools_table(held).pools()[0][1:3] == ("0/2", "not started")
    pool.warm()
    try:
        table = pools_table(held)
        assert table.pools()[0][1:3] == ("2/2", "2 idle")
        assert len(table.workers()) == 2
    finally:
        pool.close()


def test_showing_the_pools_of_a_lab_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPEX_POOL_GENERAL_WORKERS", "2")
    pools = Pools({"mine": {"workers": 1, "memory": "1GB"}})
    try:
        table = pools.table()
        assert [row[0] for row in table.pools()] == ["general", "optimizer", "neural", "mine"]
        assert {row[2] for row in table.pools()} == {"not started"}
        assert "workers from DSPEX_POOL_GENERAL_WORKERS" in repr(table)
        assert pools._repr_html_() == table._repr_html_()
        assert pools.scaling["mine"] in repr(table)
    finally:
        pools.close()


def test_a_pool_that_was_stopped_starts_again_as_large_as_it_was() -> None:
    pools = Pools()
    try:
        first = pools.get("general")
        pools.resize("general", 5)
        pools.stop("general")
        assert pools.get("general") is not first
        assert pools.get("general").spec.workers == 5
        pools.stop()
        assert pools.names == ["general", "optimizer", "neural"]
    finally:
        pools.close()
