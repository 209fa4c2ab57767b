"""Jobs, as programs outside the notebook see and end them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from web_helpers import LONG, Held, ask, same

import dspex_lab as dx
from dspex_lab.web._server import Served


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def served(serving: Callable[..., Served], held: Held) -> Served:
    return serving({"echo": dx.pipeline("echo", out=dx.step(same)), "held": dx.pipeline("held", out=dx.step(held.step))})


def test_jobs_are_listed_and_looked_up(lab: dx.Lab, served: Served) -> None:
    rows = [{"text": "a", "out": "a"}, {"text": "b", "out": "c"}]
    job = lab.evaluate("echo", data=rows, inputs=["text"], metric="exact_match")
    job.result()
    status, _, body = ask(served, "GET", "/api/jobs")
    assert (status, [each["id"] for each in body["data"]]) == (200, [job.id])
    for which in (job.id, str(job.number)):
        found = ask(served, "GET", f"/api/jobs/{which}")[2]
        assert (found["object"], found["id"], found["state"], found["kind"]) == ("job", job.id, "complete", "evaluate")
        assert (found["done"], found["total"], found["error"]) == (2, 2, None)


def test_a_job_is_ended_with_what_it_has(lab: dx.Lab, served: Served, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "a", "out": "a"}]
    job = lab.evaluate("held", data=rows * 50, concurrency=2, inputs=["text"], metric="exact_match")
    held.begun.get(timeout=LONG)
    with monkeypatch.context() as patch:
        patch.setattr(lab.jobs, "elsewhere", lambda job: True)
        status, _, body = ask(served, "POST", f"/api/jobs/{job.id}/cancel")
        assert (status, body["error"]["code"]) == (409, "job_not_here")
        assert "in another Lab" in body["error"]["message"]
    status, _, body = ask(served, "POST", f"/api/jobs/{job.number}/cancel")
    assert (status, body["id"]) == (200, job.id)
    assert body["state"] in ("stopping", "stopped")
    held.let_go()
    job.wait(LONG)
    status, _, body = ask(served, "POST", f"/api/jobs/{job.id}/cancel")
    assert (status, body["state"]) == (200, "stopped")
    assert ask(served, "POST", "/api/jobs/none/cancel")[0] == 404
