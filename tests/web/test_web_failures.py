"""A provider that fails, a worker that is killed, a program that is wrong: what answers then, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import openai
import pytest
from web_helpers import LONG, ask, chat, events, same

import dspex_lab as dx
from dspex_lab.lms import make_lm
from dspex_lab.testing import Fault, FaultyServer, scripted_lm
from dspex_lab.web._server import Served

KEY = "sk-abcdefgh12345678901234"
TALK = dspy.Signature("text -> answer", "Answer a question.")


def talk() -> dx.Pipeline:
    return dx.pipeline("talk", talk=dspy.Predict(TALK))


@pytest.fixture
def provider() -> Iterator[FaultyServer]:
    with FaultyServer({"answer": "from the provider"}) as server:
        yield server


@pytest.fixture
def hasty(lab: dx.Lab, provider: FaultyServer) -> None:
    """Models are asked once: what a failure comes to is the question here, not how often it is tried again."""
    lab.policy(dx.Policy(retry=dx.Retry(attempts=1)))
    lab.use(make_lm("http/one", api_base=provider.url, api_key=KEY))


def spare(text: str) -> str:
    return f"no model: {text}"


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("stream", [False, True])
def test_where_the_provider_fails_a_pipeline_without_a_model_answers_and_says_so(
    serving: Callable[..., Served], provider: FaultyServer, stream: bool
) -> None:
    served = serving({"talk": talk(), "spare": dx.pipeline("spare", out=dx.step(spare))})
    assert answer(served, stream=stream)[0] == "from the provider"
    provider.outage()
    content, about, model = answer(served, text="another question", stream=stream)
    assert (content, model, about["pipeline"]) == ("no model: another question", "spare", "spare")
    assert about["fallback_used"] is True
    assert about["fallback_reason"] == "'talk' could not ask its model; 'spare' asks no model"
    assert 'dspex_fallbacks_total{failure="provider",pipeline="spare"} 1.0' in ask(served, "GET", "/metrics")[2]


def answer(served: Served, text: str = "a question", stream: bool = False, model: str = "talk") -> tuple[str, Any, str]:
    """Return the content, what is said beside it and who says it, as the real client has them."""
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0, timeout=LONG) as client:
        asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
        if not stream:
            found: Any = client.chat.completions.create(**asked)
            return found.choices[0].message.content, found.dspex, found.model
        pieces: list[Any] = list(client.chat.completions.create(**asked, stream=True))
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        return text, pieces[-1].dspex, pieces[-1].model


@pytest.mark.usefixtures("hasty")
def test_another_model_is_asked_where_the_one_in_use_fails(serving: Callable[..., Served], provider: FaultyServer) -> None:
    with FaultyServer({"answer": "from the other one"}) as other:
        second = make_lm("http/two", api_base=other.url, api_key=KEY)
        served = serving({"talk": talk()}, models=[second])
        provider.outage()
        content, about, model = answer(served)
        assert (content, model, about["fallback_used"]) == ("from the other one", "talk", True)
        assert about["fallback_reason"].startswith("'talk' could not ask its model; the model ")
        assert len(other.requests) == 1
        assert {request.model for request in other.requests} == {"two"}
        provider.recover()


@pytest.mark.usefixtures("hasty")
def test_declared_fallbacks_are_tried_first_and_two_at_most(serving: Callable[..., Served], provider: FaultyServer) -> None:
    tried: list[str] = []

    def failing(name: str) -> Callable[[str], str]:
        def step(text: str) -> str:
            tried.append(name)
            raise ValueError(name)

        return step

    pipelines = {name: dx.pipeline(name, out=dx.step(failing(name))) for name in ("a", "b", "c", "d")}
    served = serving(pipelines, fallbacks={"a": ["c", "b", "d"], "c": ["d"]})
    status, _, body = chat(served, "x", model="a")
    assert tried == ["a", "c", "d"]
    assert (status, body["error"]["code"], body["error"]["type"]) == (500, "other", "pipeline_error")
    assert body["error"]["message"] == "The pipeline 'd' gave no answer: ValueError"
    assert body["dspex"]["tried"] == ["a: other: ValueError", "c: other: ValueError", "d: other: ValueError"]


@pytest.mark.usefixtures("hasty")
def test_a_run_tells_of_its_fallback_and_is_known_by_what_answered(
    lab: dx.Lab, serving: Callable[..., Served], provider: FaultyServer
) -> None:
    served = serving({"talk": talk(), "spare": dx.pipeline("spare", answer=dx.step(spare))})
    provider.outage()
    run = ask(served, "POST", "/api/runs", {"pipeline": "talk", "text": "x"})[2]["id"]
    told = events(ask(served, "GET", f"/api/runs/{run}/events")[2])
    (fell,) = [json.loads(event["data"]) for event in told if event["event"] == "fallback"]
    assert fell == {"pipeline": "spare", "reason": "'talk' could not ask its model; 'spare' asks no model"}
    found = ask(served, "GET", f"/api/runs/{run}")[2]
    assert (found["state"], found["pipeline"], found["fallback_used"]) == ("complete", "spare", True)
    tags = lab.sql("SELECT name, tags FROM runs ORDER BY started")
    assert tags["name"].tolist() == ["talk", "spare"]
    assert list(tags["tags"][1]) == ["web", f"request:{run}", "fallback:provider"]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("stream", [False, True])
def test_what_nobody_stands_in_for_is_an_error_without_a_trace_or_a_secret(
    serving: Callable[..., Served], provider: FaultyServer, stream: bool
) -> None:
    served = serving({"talk": talk()})
    provider.outage(Fault.wrong_key(echo=True))
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0, timeout=LONG) as client:
        asked: dict[str, Any] = {"model": "talk", "messages": [{"role": "user", "content": "x"}], "stream": stream}
        with pytest.raises(openai.APIError) as caught:
            list(client.chat.completions.create(**asked))
    assert caught.value.code == "provider"
    if not stream:
        assert isinstance(caught.value, openai.InternalServerError)
        assert caught.value.status_code == 502
    status, _, body = ask(served, "POST", "/api/runs", {"text": "x"})
    assert status == 202
    told = ask(served, "GET", f"/api/runs/{body['id']}/events")[2]
    run = ask(served, "GET", f"/api/runs/{body['id']}")[2]
    assert (run["state"], run["pipeline"], run["content"]) == ("failed", "talk", None)
    said = json.dumps([str(caught.value), caught.value.body, told, run])
    assert KEY not in said
    assert "Traceback" not in said
    assert ".py" not in said


def test_of_an_error_of_a_program_only_the_kind_goes_out(serving: Callable[..., Served]) -> None:
    def wrong(text: str) -> str:
        raise RuntimeError(f"/home/me/secret.py knows {KEY}")

    served = serving({"wrong": dx.pipeline("wrong", out=dx.step(wrong))})
    status, _, body = chat(served, "x", model="wrong")
    assert (status, body["error"]["message"]) == (500, "The pipeline 'wrong' gave no answer: RuntimeError")
    status, _, text = chat(served, "x", model="wrong", stream=True)
    data = [event["data"] for event in events(text)]
    assert data[-1] == "[DONE]"
    assert json.loads(data[-2])["error"]["code"] == "other"
    assert KEY not in text + json.dumps(body)
    assert "secret.py" not in text + json.dumps(body)


def test_an_error_of_the_server_itself_says_its_kind_and_goes_to_the_log(
    lab: dx.Lab, serving: Callable[..., Served], caplog: pytest.LogCaptureFixture
) -> None:
    served = serving({"echo": dx.pipeline("echo", out=dx.step(same))})
    lab.store.close()
    status, _, body = ask(served, "GET", "/api/runs/none")
    assert (status, body["error"]["code"], body["error"]["type"]) == (500, "internal", "server_error")
    assert "Traceback" not in body["error"]["message"]
    served.stop()
    assert "Exception in ASGI application" in caplog.text


def test_an_answer_that_cannot_be_read_is_the_providers(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    lab.use(scripted_lm("I would rather not say."))
    served = serving({"talk": dx.pipeline("talk", talk=dspy.Predict("text -> number: int"))})
    status, _, body = chat(served, "x", model="talk")
    assert (status, body["error"]["code"]) == (502, "answer")


def test_a_budget_that_is_spent_is_openais_quota(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    lab.use(scripted_lm({"answer": "x"}))
    lab.budget = dx.Budget(calls=1)
    served = serving({"talk": talk(), "spare": dx.pipeline("spare", answer=dx.step(spare))})
    assert answer(served, text="1")[0] == "x"
    content, about, _ = answer(served, text="2")
    assert (content, about["fallback_reason"]) == (
        "no model: 2",
        "'talk' may not spend any more; 'spare' asks no model",
    )
    alone = serving({"talk": lab.pipelines["talk"]})
    with openai.OpenAI(base_url=f"{alone.url}/v1", api_key=alone.token, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="talk", messages=[{"role": "user", "content": "3"}])
        assert caught.value.code == "insufficient_quota"


def test_what_takes_too_long_is_a_timeout(serving: Callable[..., Served]) -> None:
    async def slow(text: str) -> str:
        await asyncio.Event().wait()
        return text

    served = serving({"slow": dx.pipeline("slow", out=dx.step(slow)), "spare": dx.pipeline("spare", out=dx.step(spare))})
    began = time.perf_counter()
    status, _, body = chat(served, "x", model="slow", deadline=0.05)
    assert (status, body["error"]["code"]) == (504, "timeout")
    assert time.perf_counter() - began >= 0.05
    stepwise = dx.pipeline("stepwise", out=dx.step(slow, timeout=0.05))
    status, _, body = chat(serving({"stepwise": stepwise}), "x", model="stepwise")
    assert (status, body["error"]["code"]) == (504, "timeout")


def test_the_time_of_a_server_holds_where_a_request_says_none(serving: Callable[..., Served]) -> None:
    async def slow(text: str) -> str:
        await asyncio.Event().wait()
        return text

    served = serving({"slow": dx.pipeline("slow", out=dx.step(slow))}, deadline=0.05)
    assert chat(served, "x", model="slow")[0] == 504


def test_a_worker_that_is_killed_costs_this_answer_only() -> None:
    def dies(text: str) -> str:
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return text

    pools = {"general": {"workers": 1, "memory": "600 MB"}}
    with dx.Lab(":memory:", dx.Config(pools=pools)) as lab, lab.serve(chat=False) as served:
        lab.pipelines["away"] = dx.pipeline("away", out=dx.step(dies, pool="general"))
        assert answer(served, text="live", model="away")[0] == "live"
        status, headers, body = chat(served, "die", model="away")
        assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1", "worker")
        assert answer(served, text="live again", model="away")[0] == "live again"


def test_a_stream_that_has_begun_is_not_continued_by_another(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    lab.use(scripted_lm({"answer": "one two three four"}, breaks={1: (11, ConnectionError("gone"))}))
    served = serving({"talk": talk(), "spare": dx.pipeline("spare", out=dx.step(spare))})
    _, _, text = chat(served, "x", model="talk", stream=True)
    data = [event["data"] for event in events(text)]
    assert data[-1] == "[DONE]"
    last = json.loads(data[-2])
    spoken = "".join(json.loads(each)["choices"][0]["delta"].get("content", "") for each in data[:-2])
    assert spoken
    assert "one two three four".startswith(spoken)
    assert last["error"]["code"] == "provider"
    assert "spare" not in text


def test_models_that_make_no_sense_are_refused_before_anything_listens(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    with pytest.raises(dx.LMError, match="nosuch"):
        serving({"talk": talk()}, models=["nosuch/model"])
