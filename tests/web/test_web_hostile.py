"""Clients that take more than their share, or look for what is not theirs."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from web_helpers import LONG, ask, chat, events, head, line, same, together

import dspex_lab as dx
from dspex_lab.web import _runs, serve
from dspex_lab.web._server import Served

ECHO = {"echo": dx.pipeline("echo", out=dx.step(same))}


def start(served: Served, pipeline: str, **more: Any) -> str:
    status, _, body = ask(served, "POST", "/api/runs", {"pipeline": pipeline, **more})
    assert status == 202, body
    return str(body["id"])


def follow(served: Served, run: str) -> list[dict[str, str]]:
    return events(ask(served, "GET", f"/api/runs/{run}/events")[2])


# ---- more than a share -----------------------------------------------------------------------------------------------


def test_a_client_cannot_say_that_it_is_another_one(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, rate="3/hour")
    found = [ask(served, "GET", "/v1/models", X_Forwarded_For=f"10.0.0.{at}")[0] for at in range(4)]
    assert found == [200, 200, 200, 429]


def test_what_needs_no_token_takes_nothing_from_those_who_have_one(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, rate="1/hour")
    for path in ("/docs", "/static-offline-docs/swagger-ui.css"):
        assert [ask(served, "GET", path, token="")[0] for _ in range(3)] == [200] * 3
    assert ask(served, "GET", "/v1/models")[0] == 200
    assert ask(served, "GET", "/v1/models")[0] == 429


def test_a_client_that_does_not_read_its_answer_gives_its_place_back(serving: Callable[..., Served]) -> None:
    served = serving(
        {**ECHO, "long": dx.pipeline("long", out=dx.step(lambda text: text * 20_000_000))}, concurrency=1, patience=0.5
    )
    body = json.dumps({"model": "long", "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
    with line(served) as connection:
        connection.sendall(head(served, "/v1/chat/completions", length=len(body)) + body)
        assert connection.recv(1)  # it has the place now, and reads no more
        assert chat(served, "x", model="echo")[0] == 200
        assert "dspex_open_streams 0.0" in ask(served, "GET", "/metrics")[2]


def test_an_answer_that_is_read_arrives_however_large_it_is(serving: Callable[..., Served]) -> None:
    served = serving({"long": dx.pipeline("long", out=dx.step(lambda text: text * 20_000_000))}, patience=5.0)
    assert len(chat(served, "x", model="long")[2]["choices"][0]["message"]["content"]) == 20_000_000


def test_large_runs_make_room_sooner_than_small_ones(serving: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runs, "KEPT", 100_000)
    served = serving(ECHO)
    large = start(served, "echo", text="x" * 100_000)
    follow(served, large)
    small = start(served, "echo", text="x")
    follow(served, small)
    start(served, "echo", text="x")
    assert ask(served, "GET", f"/api/runs/{large}/events")[0] == 404
    assert follow(served, small)[-1]["event"] == "run.stop"
    status, _, found = ask(served, "GET", f"/api/runs/{large}")
    assert (status, found["state"]) == (200, "complete")


def test_texts_are_compared_beside_the_other_requests_also_for_a_fallback(serving: Callable[..., Served]) -> None:
    others_are_answered, waited = threading.Event(), []
    asked: list[int] = []

    def embed(texts: Sequence[str]) -> Any:
        asked.append(len(texts))
        comparing.set()
        waited.append(others_are_answered.wait(LONG))
        return np.eye(len(texts))

    def wrong(text: str) -> str:
        raise ValueError(text)

    comparing = threading.Event()
    served = serving({**ECHO, "wrong": dx.pipeline("wrong", out=dx.step(wrong))}, embed=embed, fallbacks={"wrong": ["echo"]})

    def other() -> int:
        assert comparing.wait(LONG)
        status = ask(served, "GET", "/healthz")[0]
        others_are_answered.set()
        return int(status)

    answer, status = together(lambda: chat(served, "x", model="wrong"), other)
    assert (answer[0], answer[2]["dspex"]["pipeline"], status) == (200, "echo", 200)
    assert asked
    assert all(waited)


# ---- what is not theirs ----------------------------------------------------------------------------------------------


def test_a_run_is_not_found_by_a_tag_that_a_client_gave_another(serving: Callable[..., Served]) -> None:
    served = serving(ECHO)
    run = start(served, "echo", text="mine")
    status, _, body = ask(served, "POST", "/api/runs", {"pipeline": "echo", "text": "x", "tags": [f"request:{run}"]})
    assert (status, body["error"]["param"]) == (422, "tags.0")
    assert "request:" in body["error"]["message"]


def test_no_error_says_where_the_store_is(tmp_path: Path) -> None:
    with dx.Lab(tmp_path / "private.duckdb") as lab:
        lab.pipelines.update(ECHO)
        with serve(lab, chat=False) as served:
            run = chat(served, "x", model="echo")[2]["dspex"]["run_id"]
            lab.store.close()
            for method, path, body in (
                ("GET", f"/api/runs/{run}", None),
                ("POST", f"/api/runs/{run}/feedback", {"verdict": "up"}),
                ("POST", "/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "x"}]}),
                ("GET", "/api/jobs", None),
            ):
                said = json.dumps(ask(served, method, path, body)[2])
                assert "private" not in said
                assert str(tmp_path) not in said
            assert ask(served, "POST", f"/api/runs/{run}/feedback", {"verdict": "up"})[0] == 500  # it is no fault of the client


def test_of_a_failed_job_the_kinds_of_errors_are_told_and_not_their_words(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    def wrong(text: str) -> str:
        raise ValueError("/home/me/secret.py is broken")

    served = serving({"wrong": dx.pipeline("wrong", out=dx.step(wrong))})
    job = lab.evaluate("wrong", data=[{"text": "a", "out": "a"}], inputs=["text"], metric="exact_match")
    with pytest.raises(dx.errors.JobError):
        job.result()
    told = ask(served, "GET", f"/api/jobs/{job.id}")[2]
    assert told["state"] == "failed"
    assert told["error"].endswith("step 'out' failed: ValueError")
    assert "secret" not in json.dumps(told)


def test_an_error_of_the_server_in_a_run_goes_to_the_log(
    serving: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(text: str) -> str:
        raise ValueError(text)

    def broken(texts: Sequence[str]) -> Any:
        raise RuntimeError("/home/me/model is not there")

    served = serving({**ECHO, "wrong": dx.pipeline("wrong", out=dx.step(wrong))}, embed=broken)
    run = start(served, "wrong", text="x")
    last = json.loads(follow(served, run)[-1]["data"])
    assert (last["state"], last["error"]) == ("failed", "RuntimeError")
    assert f"the run {run} was ended by an error of the server" in caplog.text
    assert "/home/me/model is not there" in caplog.text


# ---- names and numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["org/name", "a b", "ümlaut"])
def test_every_model_that_is_listed_can_be_looked_up(serving: Callable[..., Served], name: str) -> None:
    served = serving({name: ECHO["echo"]})
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0) as client:
        assert [client.models.retrieve(model.id).id for model in client.models.list()] == [name]


def test_a_number_of_thousands_of_digits_is_an_answer(serving: Callable[..., Served]) -> None:
    def product(number: int) -> dict[str, Any]:
        return {"one": math.factorial(number), "several": [{"n": math.factorial(number)}]}

    served = serving({"product": dx.pipeline("product", out=dx.step(product, outputs=["one", "several"]))})
    status, _, body = chat(served, "x", model="product", inputs={"number": 2_000})
    one = body["dspex"]["outputs"]["one"]
    assert (status, len(one), one.isdigit()) == (200, 5_736, True)
    assert body["dspex"]["outputs"]["several"] == [{"n": one}]
    last = json.loads(follow(served, start(served, "product", inputs={"number": 2_000}))[-1]["data"])
    assert (last["state"], last["outputs"]["one"]) == ("complete", one)
