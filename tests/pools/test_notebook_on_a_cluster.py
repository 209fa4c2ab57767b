"""The notebook about workers, as it is, on a cluster that was joined by address."""

from __future__ import annotations

from pathlib import Path

import pytest
from _dask_cli import Cluster

from dspex_lab import shipped
from dspex_lab.cli._notebook import execute


def test_the_notebook_runs_on_a_cluster_joined_by_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.worker("general=1", "--nworkers", "2")
        where = {f"DSPEX_POOLS_{key.upper()}": value for key, value in cluster.config().items()}
        made = execute(shipped("notebooks/02_workers.ipynb"), {"DSPEX_STORE": ":memory:", **where})
    finally:
        cluster.close()
    shown = "".join(str(output) for cell in made.cells for output in cell.get("outputs", ()))
    assert cluster.address in shown
