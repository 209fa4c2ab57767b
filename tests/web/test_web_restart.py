"""``dspex-lab serve``: what it says, how it ends, and what it still knows after it was killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from serve_processes import served_by_process
from web_helpers import LONG, ask, chat, head, line, until

import dspex_lab as dx
from dspex_lab.cli import main
from dspex_lab.errors import ConfigurationError
from dspex_lab.store import Store, recorded_runs
from dspex_lab.web import serve


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_files_and_modules_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "x").mkdir()
    with served_by_process(
        tmp_path, "served_module:plain", "served_module:held", "served_module:frozen", "--rate", "none"
    ) as served:
        assert served.said["API"] == f"{served.url}/docs"
        with openai.OpenAI(base_url=served.said["OpenAI base"], api_key=served.token, timeout=LONG) as client:
            assert [model.id for model in client.models.list()] == ["plain", "held", "frozen"]
            found = client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "ab"}])
            assert found.choices[0].message.content == "abab"
            found = client.chat.completions.create(model="frozen", messages=[{"role": "user", "content": "x"}])
            assert int(found.choices[0].message.content or "") > 100_000, "what is loaded is not walked through under load"
        served.process.send_signal(number)
        out, err = served.process.communicate(timeout=LONG)
        assert (served.process.returncode, err) == (0, "")
        assert "stopping" in out
    assert (tmp_path / ".dspex" / "serve.duckdb").is_file()


def test_after_a_kill_it_still_knows_its_runs_and_what_was_under_way(tmp_path: Path) -> None:
    arguments = ("twice.yaml", "served_module:held", "--modules", "served_module", "--store", "kept.duckdb")
    with served_by_process(tmp_path, *arguments) as served:
        done: Any = ask(served, "POST", "/api/runs", {"pipeline": "twice", "text": "ab"})[2]["id"]
        ask(served, "GET", f"/api/runs/{done}/events")
        asked = chat(served, "cd", model="twice")[2]["dspex"]["request_id"]
        under_way: Any = ask(served, "POST", "/api/runs", {"pipeline": "held", "text": "x", "tags": ["night"]})[2]["id"]
        with line(served) as connection:
            connection.sendall(head(served, f"/api/runs/{under_way}/events", method="GET"))
            until(connection, b"event: step.start")
        ask(served, "GET", "/api/runs/nobody")  # a look into the store, which writes what waits
        served.process.kill()
        served.process.wait(LONG)
    with served_by_process(tmp_path, *arguments) as again:
        for run, outputs in ((done, {"out": "abab"}), (asked, {"out": "cdcd"})):
            status, _, found = ask(again, "GET", f"/api/runs/{run}")
            assert (status, found["state"], found["pipeline"], found["outputs"]) == (200, "complete", "twice", outputs)
        status, _, found = ask(again, "GET", f"/api/runs/{under_way}")
        assert (status, found["state"], found["pipeline"]) == (200, "interrupted", "held")
        assert ask(again, "POST", f"/api/runs/{done}/feedback", {"verdict": "up"})[0] == 201
        assert ask(again, "GET", f"/api/runs/{done}/events")[0] == 404  # what happened in it is not kept
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(LONG) == 0
    with Store(tmp_path / "kept.duckdb") as store:
        (run,) = recorded_runs(store, tags=["web", "night", f"request:{under_way}"], unended=True)
        assert (run.status, run.inputs, run.outputs) == ("interrupted", {}, {})
        assert recorded_runs(store, tags=["night"]) == []


def test_after_a_kill_its_jobs_are_known_too(tmp_path: Path) -> None:
    store = tmp_path / "jobs.duckdb"
    with dx.Lab(store) as lab:
        lab.pipelines["echo"] = dx.pipeline("echo", out=dx.step(lambda text: text))
        job = lab.evaluate("echo", data=[{"text": "a", "out": "a"}], inputs=["text"], metric="exact_match")
        job.result()
    for _ in range(2):
        with served_by_process(tmp_path, "served_module:plain", "--store", str(store)) as served:
            status, _, found = ask(served, "GET", f"/api/jobs/{job.id}")
            assert (status, found["state"], found["number"]) == (200, "complete", job.number)
            served.process.kill()
            served.process.wait(LONG)


HELD = """
import asyncio
import sys

import dspex_lab as dx


async def wait(text: str) -> str:
    print("begun", flush=True)
    await asyncio.Event().wait()
    return text


with dx.Lab(sys.argv[1]) as lab:
    lab.pipelines["held"] = dx.pipeline("held", out=dx.step(wait))
    lab.evaluate("held", data=[{"text": "a", "out": "a"}], inputs=["text"], metric="exact_match").wait()
"""


def test_a_job_that_was_under_way_when_its_process_was_killed_is_interrupted(tmp_path: Path) -> None:
    store = tmp_path / "jobs.duckdb"
    with subprocess.Popen([sys.executable, "-c", HELD, str(store)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.kill()
    with served_by_process(tmp_path, "served_module:plain", "--store", str(store)) as served:
        status, _, found = ask(served, "GET", "/api/jobs/1")
        assert (status, found["kind"], found["state"]) == (200, "evaluate", "interrupted")
        status, _, found = ask(served, "POST", "/api/jobs/1/cancel")
        assert (status, found["state"]) == (200, "interrupted")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "There is no file 'nothing.yaml'"),
        (["broken.yaml"], "broken.yaml"),
        (["nothing"], "'nothing' is neither a pipeline file nor one in a module"),
        ([":x"], "':x' is neither a pipeline file nor one in a module"),
        (["no_such_module_here:x"], "The module 'no_such_module_here' cannot be imported"),
        (["json:lods"], "The module 'json' has no 'lods'. Did you mean 'loads'?"),
        (["json:loads", "--modules", "no.such"], "The module 'no.such' cannot be imported"),
        (["json:loads", "--modules", ""], "The module '' cannot be imported"),
        (["json:__name__"], "__name__"),
        (["textwrap:dedent", "textwrap:dedent"], "Two pipelines are called 'dedent'"),
        (["textwrap:dedent", "--rate", "often"], "'often' is no rate of requests"),
        (["textwrap:dedent", "--port", "70000"], "a port is a whole number"),
        (["textwrap:dedent", "--lm", "nosuch/model"], "nosuch"),
        (["textwrap:dedent", "--fallback-lm", "nosuch/model"], "nosuch"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process is pytest's
    Path("broken.yaml").write_text("steps: [")
    assert main(["serve", *arguments, "--no-chat", *([] if "--port" in arguments else ["--port", "0"])]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_without_the_extra_it_says_what_to_install(lab: dx.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("fastapi", "uvicorn", "limits", "prometheus_client", "fastapi_offline"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(ConfigurationError, match=f"The package '{package}' is needed to serve pipelines") as caught:
                serve(lab)
            assert 'pip install "dspex-lab[web]"' in str(caught.value)
