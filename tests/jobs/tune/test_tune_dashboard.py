"""``optuna-dashboard`` opens the study of a tune job: a real client, in a process of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tune_programs import ROWS, program, space_of, worth

from dspex_lab.jobs import Jobs
from dspex_lab.jobs.tune import tune


def _dashboard() -> str | None:
    beside = Path(sys.executable).parent / "optuna-dashboard"
    return str(beside) if beside.exists() else shutil.which("optuna-dashboard")


@pytest.mark.skipif(_dashboard() is None, reason="optuna-dashboard is not installed")
def test_the_dashboard_of_optuna_opens_the_study(jobs: Jobs, tmp_path: Path) -> None:
    space = space_of()
    space.constrain("k != 3", name="not three")
    work = tune(program, ["x", "k"], worth, ROWS, 6, space=space, objectives=["quality", "calls"], parallel=1, folder=tmp_path)
    job = jobs.start(work, seed=1)
    found = job.result(60)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(_dashboard()), found.study, "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        assert any("Listening on" in line for line in server.stdout)
        (study,) = _asked(port, "studies")["study_summaries"]
        assert study["study_name"] == f"tune {job.id}"
        assert study["directions"] == ["maximize", "minimize"]
        told = _asked(port, f"studies/{study['study_id']}")
        trials = {t["number"]: t for t in told["trials"] if t["state"] == "Complete"}
        assert {number: t["values"] for number, t in trials.items()} == {t.number: list(t.scores.values()) for t in found.tried}
        best = trials[found.best.number]
        assert {p["name"]: p["param_external_value"] for p in best["params"]} == {
            name: str(value) for name, value in found.values.items()
        }
        assert told["objective_names"] == ["quality", "calls"]
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def _asked(port: int, path: str) -> Any:
    url = f"http://127.0.0.1:{port}/api/{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(1000):
        try:
            with opener.open(url, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
    raise AssertionError(f"{url} did not answer")
