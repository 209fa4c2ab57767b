"""The faulty server answers as OpenAI does, and says what it saw."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from types import SimpleNamespace
from typing import Any

import dspy
import httpx
import openai
import pytest
from faulty_helpers import KEY, ask, chunks, client, no_network, said
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.testing import Fault, FaultyServer, Gate, Reply, ToolUse
from dspex_lab.testing._faulty_openai import embed

__all__ = ["client", "no_network"]

# Answers.


def test_answers_come_in_turn_as_text_fields_replies_or_computed(client: httpx.Client) -> None:
    with FaultyServer(["one", {"label": "card"}, Reply("three", usage={"input_tokens": 9})]) as server:
        assert [said(ask(client, server)) for _ in range(4)] == ["one", '{\n  "label": "card"\n}', "three", "one"]
    with FaultyServer(lambda arrival: f"{arrival.number}: {arrival.prompt.text} for {arrival.model}") as server:
        assert said(ask(client, server, "why?")) == "1: why? for m"


def test_fields_are_written_for_the_adapter_that_asks() -> None:
    with FaultyServer({"label": "card", "n": 3}) as server:
        lm = dspy.LM("openai/m", engine="lm15", api_base=server.url, api_key=KEY, cache=False)
        for adapter in (dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()):
            with dspy.context(lm=lm, adapter=adapter):
                found = dspy.Predict("text -> label, n: int")(text="?")
            assert (found.label, found.n) == ("card", 3)
        lm.close()


def test_a_request_for_json_gets_json_and_a_forced_tool_its_call(client: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "found", "parameters": {}}}
    with FaultyServer({"label": "card"}) as server:
        assert json.loads(said(ask(client, server, response_format={"type": "json_object"}))) == {"label": "card"}
        for choice in ("required", {"type": "function", "function": {"name": "found"}}):
            choices = ask(client, server, tools=[tool], tool_choice=choice).json()["choices"]
            assert choices[0]["finish_reason"] == "tool_calls"
            function = choices[0]["message"]["tool_calls"][0]["function"]
            assert (function["name"], json.loads(function["arguments"])) == ("found", {"label": "card"})


def test_a_stream_has_the_parts_of_the_answer(client: httpx.Client) -> None:
    reply = Reply("two words", tools=[ToolUse("search", {"q": "a b"})], thinking="hm")
    with FaultyServer(reply) as server:
        whole = ask(client, server).json()
        found = chunks(ask(client, server, stream=True, stream_options={"include_usage": True}))
    deltas = [c["choices"][0]["delta"] for c in found if c["choices"]]
    assert [d["content"] for d in deltas if d.get("content")] == ["two ", "words"]
    assert [d["reasoning_content"] for d in deltas if "reasoning_content" in d] == ["hm"]
    parts = [d["tool_calls"][0]["function"].get("arguments") for d in deltas if "tool_calls" in d]
    assert "".join(parts) == whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert found[-1]["usage"] == whole["usage"]
    assert found[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert [c["usage"] for c in found[:-1]] == [None] * (len(found) - 1)


def test_usage_stands_in_a_stream_only_where_it_is_asked_for(client: httpx.Client) -> None:
    with FaultyServer("x") as server:
        assert all("usage" not in c for c in chunks(ask(client, server, stream=True)))


def test_several_choices_seed_and_log_probabilities(client: httpx.Client) -> None:
    with FaultyServer(["a b", "c"]) as server:
        body = ask(client, server, n=2, seed=7, logprobs=True, top_logprobs=2).json()
        assert [c["message"]["content"] for c in body["choices"]] == ["a b", "c"]
        assert body["system_fingerprint"] == "fp_7"
        tokens = body["choices"][0]["logprobs"]["content"]
        assert [t["token"] for t in tokens] == ["a ", "b"]
        assert [len(t["top_logprobs"]) for t in tokens] == [2, 2]
        streamed = chunks(ask(client, server, stream=True, logprobs=True))
        assert [c["choices"][0]["logprobs"]["content"][0]["token"] for c in streamed if c["choices"][0]["logprobs"]] == ["c"]
        reply = Reply("x", logprobs=[("x", -2.5)])
    with FaultyServer(reply) as server:
        assert ask(client, server, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]["logprob"] == -2.5


def test_text_completions_are_answered_and_streamed(client: httpx.Client) -> None:
    with FaultyServer("two words", faults={3: Fault.empty("choices")}) as server:
        url, body = f"{server.url}/completions", {"model": "m", "prompt": "say"}
        assert client.post(url, json=body).json()["choices"][0]["text"] == "two words"
        assert "".join(c["choices"][0]["text"] for c in chunks(client.post(url, json={**body, "stream": True}))) == "two words"
        assert client.post(url, json=body).json()["choices"] == []


def test_the_openai_client_understands_it() -> None:
    with FaultyServer("two words", models=["m"]) as server:
        client = openai.OpenAI(api_key=KEY, base_url=server.url, max_retries=0)
        found = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
        assert found.choices[0].message.content == "two words"
        vectors = client.embeddings.create(model="m", input=["a card", "a card", "bill"], dimensions=8).data
        plain = client.embeddings.create(model="m", input="a card", encoding_format="float").data[0].embedding
        assert [m.id for m in client.models.list()] == ["m"]
        client.close()
    assert vectors[0].embedding == vectors[1].embedding != vectors[2].embedding
    assert vectors[0].embedding == pytest.approx(embed("a card", 8), abs=1e-6)
    assert plain == pytest.approx(embed("a card"))


@given(st.text())
def test_vectors_have_length_one(text: str) -> None:
    assert math.isclose(sum(x * x for x in embed(text)), 1.0, rel_tol=1e-9)


def test_a_request_that_is_wrong_is_told_so(client: httpx.Client) -> None:
    with FaultyServer(key=KEY, models=["m"]) as server:
        assert client.post(f"{server.url}/chat/completions", content=b"{").status_code == 400
        assert (
            client.post(f"{server.url}/chat/completions", json={"model": "m"}).json()["error"]["message"].startswith("Missing")
        )
        assert ask(client, server, n=0).status_code == 400
        assert ask(client, server, n="3").status_code == 400
        assert ask(client, server, model="other").json()["error"]["code"] == "model_not_found"
        assert client.post(f"{server.url}/nothing", json={"x": 1}).status_code == 404
        wrong = httpx.post(
            f"{server.url}/chat/completions", headers={"authorization": "Bearer sk-wrong-key-0000000000"}, json={}
        )
        assert wrong.status_code == 401
        assert "sk-wrong********0000" in wrong.text
        assert client.get(f"{server.url}/models").status_code == 200
        assert server.counts.paid == 0


def test_what_a_function_of_the_test_raises_is_seen(client: httpx.Client) -> None:
    def script(arrival: Any) -> str:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"), FaultyServer(script) as server:
        assert ask(client, server).json()["error"]["message"] == "A function of the test failed: LookupError: no such thing"
    with pytest.raises(ZeroDivisionError), FaultyServer(script):
        raise ZeroDivisionError  # the test's own error is not hidden


@pytest.mark.parametrize("script", [[], 3, [1]])
def test_a_script_that_is_none_is_refused(script: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        FaultyServer(script)


# What it saw.


def test_requests_are_kept_and_keys_are_not_shown(client: httpx.Client) -> None:
    with FaultyServer(keep=2) as server:
        for text in "abc":
            ask(client, server, text)
        client.post(f"{server.url}/chat/completions", headers={"x-api-key": "sk-other", "authorization": ""}, json={"x": 1})
        last = server.requests[-1]
        assert [a.number for a in server.requests] == [3, 4]
        assert [a.key for a in server.requests] == [KEY, "sk-other"]
        assert server.requests[0].turns == [("user", "c")]
        assert KEY not in repr(server.requests)
        assert "sk-other" not in repr(last)
        assert last.headers["x-api-key"] == "sk-other"
        assert "4 requests" in repr(server)
        server.clear()
        assert (server.requests, server.counts.arrived, server.met) == ([], 0, {})
        assert server.counts.open_connections == 1
        ask(client, server)
        assert server.requests[0].number == 5
    assert "not started" in repr(FaultyServer())


def test_connections_and_what_is_under_way_are_counted(client: httpx.Client) -> None:
    hold = Gate()
    with FaultyServer(hold=hold) as server:
        threads = [threading.Thread(target=ask, args=(client, server)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert server.flying(3)
        assert not server.reached(4, timeout=0)
        hold.open()
        for thread in threads:
            thread.join()
        counts = server.counts
        assert (counts.arrived, counts.answered, counts.in_flight, counts.peak, counts.connections) == (3, 3, 0, 3, 3)
        ask(client, server)
        assert server.counts.connections == 3, "a connection is kept"
        server.hang_up()
        assert server.disconnected()
        ask(client, server)
        assert server.counts.connections == 4


def test_a_connection_that_is_gone_is_closed(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[Any] = []
    closed: list[bool] = []
    opened, gone = FaultyServer._opened, FaultyServer._gone

    def open_(self: FaultyServer, connection: Any) -> None:
        sockets.append(connection._transport.get_extra_info("socket"))
        opened(self, connection)

    def gone_(self: FaultyServer, connection: Any) -> None:
        closed.append(sockets[0].fileno() == -1)
        gone(self, connection)

    monkeypatch.setattr(FaultyServer, "_opened", open_)
    monkeypatch.setattr(FaultyServer, "_gone", gone_)
    with FaultyServer() as server:
        ask(client, server)
        server.hang_up()
        assert server.disconnected()
    assert closed == [True]


def test_the_delay_may_depend_on_the_request(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("dspex_lab.testing._faulty_serve.asyncio", SimpleNamespace(sleep=sleep, Event=asyncio.Event))
    with FaultyServer(delay=lambda arrival: arrival.number / 10) as server:
        ask(client, server)
        ask(client, server)
    assert waited == [0.1, 0.2]


def test_messages_of_every_form_are_read(client: httpx.Client) -> None:
    with FaultyServer(lambda arrival: f"{arrival.turns}") as server:
        parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, "b"]
        body = {"model": "m", "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]}
        assert said(client.post(f"{server.url}/chat/completions", json=body)) == "[('user', 'ab'), ('assistant', '')]"
