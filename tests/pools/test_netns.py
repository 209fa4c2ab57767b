"""A cluster of two hosts, as far as one machine can have them: two network namespaces joined by a wire."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from _dask_cli import Cluster

#: What the kernel does, in the first host's namespace; its last line is what was seen.
KERNEL = """
import asyncio, json, os, signal, sys
from dspex_lab.errors import TaskTimeout, WorkerKilled
import numpy as np
from dspex_lab.pools import Placement, Pools

def where():
    import os, socket
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.connect((os.environ["DSPEX_TEST_PEER"], 9))
    return here.getsockname()[0]

def hang():
    import ctypes
    ctypes.PyDLL(None).sleep(100)  # with Python's lock

async def main(pools):
    pool = pools.get("general").warm(wait=False)
    seen, told = {}, []
    while len(seen) < 2:
        await pool.call(abs, -1)
        seen = {row["host"]: row["name"] for row in pool.status() if row["state"] == "idle"}
    at = {host: Placement(name, "strict-queue") for host, name in seen.items()}
    ran = {host: await pool.call(where, place=place) for host, place in at.items()}
    sizes = {}
    for host, place in at.items():
        sizes[host] = await pool.call(len, np.ones(2_500_000), place=place, told=told.append)
        back = await pool.call(np.ones, 2_500_000, place=place, told=told.append)
        assert back.sum() == 2_500_000
    try:
        await pool.call(lambda: os.kill(os.getpid(), signal.SIGKILL), place=at["10.99.0.2"])
        death = None
    except WorkerKilled as error:
        death = [str(error), error.worker]
    again = await pool.call(where, place=at["10.99.0.2"])
    try:  # no signal of the kernel's reaches it: its nanny has to end it
        await pool.call(hang, timeout=0.2, place=at["10.99.0.2"])
    except TaskTimeout:
        again = [again, await pool.call(where, place=at["10.99.0.2"])]
    ways = [[outcome.sent.protocol, outcome.received.protocol] for outcome in told]
    return {"ran": ran, "sizes": sizes, "ways": ways, "death": death, "again": again, "names": seen}

pools = Pools(json.loads(sys.argv[1]))
try:
    print(json.dumps(asyncio.run(main(pools))))
finally:
    pools.close()
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two namespaces, 10.99.0.1 and 10.99.0.2."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("there is no `ip` here (Debian: iproute2)")
    tag = uuid.uuid4().hex[:6]
    names = (f"dspex-{tag}-a", f"dspex-{tag}-b")
    made: list[str] = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ip("link", "add", f"da{tag}", "netns", names[0], "type", "veth", "peer", "name", f"db{tag}", "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here (root is needed): {error.stderr.decode().strip()}")
        for number, (name, wire) in enumerate(zip(names, (f"da{tag}", f"db{tag}"), strict=True), 1):
            ip("-n", name, "addr", "add", f"10.99.0.{number}/24", "dev", wire)
            ip("-n", name, "link", "set", wire, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in made:
            ip("netns", "delete", name)


def test_calls_land_on_both_hosts_and_large_values_travel_by_buffers(hosts: tuple[str, str], tmp_path: Path) -> None:
    here, there = [("ip", "netns", "exec", name) for name in hosts]
    cluster = Cluster(tmp_path, prefix=here, host="10.99.0.1")
    try:
        cluster.worker("general=1", prefix=here, host="10.99.0.1", env={"DSPEX_TEST_PEER": "10.99.0.2"})
        cluster.worker("general=1", prefix=there, host="10.99.0.2", env={"DSPEX_TEST_PEER": "10.99.0.1"})
        config = json.dumps(cluster.config(general={"preload": []}))
        done = subprocess.run(
            [*here, sys.executable, "-c", textwrap.dedent(KERNEL), config],
            capture_output=True, text=True, timeout=120, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout.splitlines()[-1])
    finally:
        cluster.close()
    both = {"10.99.0.1", "10.99.0.2"}
    assert seen["ran"] == {host: host for host in both}
    assert seen["sizes"] == dict.fromkeys(both, 2_500_000)
    assert [sent for sent, _ in seen["ways"][::2]] == ["buffers", "buffers"]
    assert [received for _, received in seen["ways"][1::2]] == ["buffers", "buffers"]
    text, worker = seen["death"]
    assert "was killed by SIGKILL" in text
    assert worker == seen["names"]["10.99.0.2"]
    assert seen["again"] == ["10.99.0.2", "10.99.0.2"]
