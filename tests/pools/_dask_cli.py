"""A Dask cluster as somebody else would start it: `dask scheduler` and `dask worker`, with certificates."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dspex_lab.pools import Pools, make_certificates

#: Dask's own web pages are off, as the guide has it.
QUIET = {"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]", "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"}


class Cluster:
    """Processes of a cluster whose files are in a folder; ended by :meth:`close`.

    Args:
        folder: for certificates, logs and the workers' files.
        prefix: put before the scheduler's command, such as ``ip netns exec NAME``.
        host: where the scheduler listens.
        env: further variables of the scheduler.
    """

    def __init__(
        self, folder: Path, *, prefix: tuple[str, ...] = (), host: str = "127.0.0.1", env: dict[str, str] | None = None
    ) -> None:
        self._env = env
        self.folder = folder
        self._prefix, self._host = prefix, host
        self.certificates = make_certificates(folder / "tls")
        made = self.certificates
        self.flags = ["--tls-ca-file", str(made.ca), "--tls-cert", str(made.cert), "--tls-key", str(made.key)]
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start_scheduler(self._held_port() if not prefix else "0")

    def _held_port(self) -> str:
        """Return a port that nobody else is given, even while no scheduler listens there: a socket is bound to it."""
        held = self._stack.enter_context(socket.socket())
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((self._host, 0))
        return str(held.getsockname()[1])

    def start_scheduler(self, port: str) -> None:
        """Start `dask scheduler` and wait until it says its address."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self.start(
            *self._prefix, sys.executable, "-m", "dask", "scheduler", "--protocol", "tls", "--host", self._host, "--port", port,
            "--no-dashboard", "--scheduler-file", str(file), *self.flags, env=self._env,
        )  # fmt: skip
        while not (file.exists() and file.read_text().rstrip().endswith("}")):
            assert self.scheduler.poll() is None, self.log(self.scheduler)
            time.sleep(0.02)  # a file is all that it says
        self.address = json.loads(file.read_text())["address"]

    def start(self, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process in the folder."""
        log = self._stack.enter_context((self.folder / f"{len(self._processes)}.log").open("wb"))
        process = subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, **QUIET, **(env or {})}, stdout=log, stderr=subprocess.STDOUT
        )
        process.log = log.name  # type: ignore[attr-defined]
        self._processes.append(process)
        return self._stack.enter_context(_Ended(process)).process

    def worker(
        self,
        resources: str,
        *flags: str,
        prefix: tuple[str, ...] = (),
        host: str = "127.0.0.1",
        env: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start `dask worker`; returns at once."""
        return self.start(
            *prefix, sys.executable, "-m", "dask", "worker", self.address, "--host", host, "--nthreads", "1",
            "--memory-limit", "512MB", "--resources", resources, "--no-dashboard",
            "--local-directory", str(self.folder), *self.flags, *flags, env=env,
        )  # fmt: skip

    def log(self, process: Any) -> str:
        """Return what a process has said."""
        return Path(process.log).read_text()

    def config(self, **pools: Any) -> dict[str, Any]:
        """Return the settings that join the cluster."""
        made = self.certificates
        return {
            "address": self.address,
            "tls_ca": str(made.ca),
            "tls_cert": str(made.cert),
            "tls_key": str(made.key),
            **pools,
        }

    def close(self) -> None:
        """End all of it."""
        for process in self._processes:
            process.terminate()
        self._stack.close()


class _Ended:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def __enter__(self) -> _Ended:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ready(pools: Pools, name: str, number: int) -> list[dict[str, Any]]:
    """Wait until so many of a pool's workers run nothing; return their rows."""
    deadline = time.monotonic() + 60
    while True:
        rows = [row for row in pools.get(name).status() if row["state"] == "idle"]
        if len(rows) == number:
            return rows
        assert time.monotonic() < deadline, pools.get(name).status()
        time.sleep(0.02)  # the pool has nothing to wait on for this
