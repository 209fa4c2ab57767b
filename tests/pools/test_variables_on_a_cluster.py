"""A Lab's variables are seen, observed and changed by another kernel that has joined the same cluster."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _dask_cli import Cluster

from dspex_lab import Config, Lab
from dspex_lab.errors import ConfigurationError, VariableError
from dspex_lab.workbench._sharing import name_for

#: Another kernel: it sees what there is, changes it under a lease, and tells what it heard.
OTHER = """
import json, sys
from dspex_lab import Config, Lab
from dspex_lab.errors import VariableError

with Lab(":memory:", Config(pools=json.loads(sys.argv[1]))) as lab:
    owners = lab.variables_of(sys.argv[2], timeout=60)
    assert lab.variables_of(sys.argv[2]) is owners
    print(json.dumps(owners.values()), flush=True)
    heard = []
    owners.observe(lambda commit: heard.append(commit.changes["k"].value), "k")
    with owners.lease("k", owner="gepa") as lease:
        lease.commit({"k": 7}, why="better", who="optimizer")
    for line in sys.stdin:
        break
    while heard != [7, 8]:
        pass
    try:
        owners.commit({"k": 700})
    except VariableError as error:
        print(json.dumps([str(error), heard]), flush=True)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


def joined(cluster: Cluster, store: str | Path = ":memory:") -> Lab:
    return Lab(store, Config(pools=cluster.config()))


def test_another_kernel_sees_observes_and_changes_a_labs_variables_through_it(cluster: Cluster, tmp_path: Path) -> None:
    with joined(cluster, tmp_path / "my notes.duckdb") as lab:
        lab.variables.int("k", 0, 100, default=1)
        name = lab.share_variables()
        assert name == "my-notes"
        changed = threading.Event()
        lab.variables.observe(lambda commit: changed.set(), "k")
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER, json.dumps(cluster.config()), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        first = other.stdout.readline()
        assert first, other.communicate()[1]
        assert json.loads(first) == {"k": 1}
        assert changed.wait(60)
        assert lab.variables.get("k") == 7
        last = lab.variables.history("k", 1)[0]
        assert (last.who, last.why) == ("optimizer", "better")
        lab.variables.commit({"k": 8})
        told, errors = other.communicate("go on\n", timeout=120)
        assert other.returncode == 0, errors
        refused, heard = json.loads(told)
        assert "700" in refused
        assert heard == [7, 8]


def test_a_name_that_another_kernel_has_is_not_taken_twice(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "dspex_lab")
    with joined(cluster, tmp_path / "a" / "same.duckdb") as one, joined(cluster, tmp_path / "b" / "same.duckdb") as two:
        one.variables.int("one", 0, 9)
        assert one.share_variables() == "same"
        two.variables.int("two", 0, 9)
        name = two.share_variables()
        assert name == f"same-{two.id[-8:]}"
        assert f"are served as {name!r}" in caplog.text
        assert list(one.variables_of(name)) == ["two"]
        assert list(two.variables_of("same")) == ["one"]
        owners = two.variables_of("same")
        one.close()
        with pytest.raises(VariableError, match=r"does not answer|not served any more"):
            owners.commit({"one": 1})
    assert owners.closed


def test_without_a_cluster_or_an_owner_that_is_said(cluster: Cluster) -> None:
    with Lab(":memory:") as lab:
        for asked in (lambda: lab.variables_of("x"), lab.share_variables):
            with pytest.raises(ConfigurationError, match="none was joined"):
                asked()
    with joined(cluster) as lab, pytest.raises(VariableError, match="'nobody' does not answer"):
        lab.variables_of("nobody", timeout=0.5)


def test_a_lab_whose_cluster_is_not_there_is_closed_at_once_and_leaves_no_thread(cluster: Cluster, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**cluster.config(), "address": "tls://127.0.0.1:1"}
    with Lab(tmp_path / "n.duckdb", Config(pools=settings)) as lab:
        lab.variables.int("k", 0, 9)
        with pytest.raises(TimeoutError, match="was not reached"):
            lab.share_variables(timeout=0.1)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("dspex-share")]


@pytest.mark.parametrize(
    ("store", "name"),
    [("/a/analysis.duckdb", "analysis"), ("Mein Büro.duckdb", "Mein-B-ro"), (":memory:", "id"), ("ü.duckdb", "id")],
)
def test_variables_are_served_under_the_name_of_the_store(store: str, name: str) -> None:
    assert name_for(store, "id") == name
