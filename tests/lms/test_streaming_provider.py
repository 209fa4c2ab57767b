"""A provider that streams over HTTP: heard word by word, and told when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
import pytest
from streaming_helpers import Watch, watch

from dspex_lab.lms import CONTEXT_KEY

__all__ = ["watch"]

pytestmark = pytest.mark.usefixtures("cache_in_memory")


class Provider:
    """A server that speaks OpenAI's protocol and holds each word of a stream until it is let through."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.allow = threading.Semaphore(0)
        self.streamed: list[bool] = []
        self.gone = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.streamed.append(bool(asked.get("stream")))
                provider.answer(self, asked)

            def log_message(self, *args: Any) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        about = {"id": "r1", "created": 1, "model": "served"}
        usage = {"prompt_tokens": 7, "completion_tokens": len(self.words), "total_tokens": 7 + len(self.words)}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(self.words)}
            body = {**about, "object": "chat.completion", "usage": usage}
            body["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
            data = json.dumps(body).encode()
            handler.send_response(200)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
            return
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        choices = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in self.words]
        choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        try:
            for choice in choices:
                self.allow.acquire()
                self.send(handler, {**about, "object": "chat.completion.chunk", "choices": [choice]})
            self.send(handler, {**about, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            handler.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.gone.set()
        handler.close_connection = True

    def send(self, handler: BaseHTTPRequestHandler, data: dict[str, Any]) -> None:
        handler.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")
        handler.wfile.flush()

    def lm(self) -> dspy.LM:
        return dspy.LM("openai/served", api_base=self.url, api_key="k", cache=False, num_retries=0)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # DSPy would ask the network for prices
    made = Provider(["[[ ## answer", " ## ]]\n", "one", " two", "\n\n[[ ## completed ## ]]"])
    yield made
    made.allow.release(1000)
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_provider_is_heard_word_by_word(provider: Provider, watch: Watch, asynchronous: bool) -> None:
    heard = threading.Event()
    watch.__class__ = type("Hears", (Watch,), {"__call__": lambda self, t: self.tokens.append(t) or heard.set()})
    lm, predict = provider.lm(), dspy.Predict("question -> answer")
    answers: list[Any] = []

    async def go() -> Any:
        try:
            return await predict.acall(question="x")
        finally:
            await lm.aclose()

    def ask() -> None:
        with dspy.context(lm=lm, **{CONTEXT_KEY: recorder}):
            answers.append(asyncio.run(go()) if asynchronous else predict(question="x"))

    recorder = watch.recorder()
    thread = threading.Thread(target=ask)
    thread.start()
    provider.allow.release(3)
    assert heard.wait(30)
    assert watch.told == [("text", "answer", "one")], "the server has not sent the second word"
    provider.allow.release(10)
    thread.join(30)
    assert answers[0].answer == "one two"
    assert watch.told == [("text", "answer", "one"), ("text", "answer", " two")]
    with dspy.context(lm=lm, **{CONTEXT_KEY: None}):
        assert predict(question="x").answer == "one two"
    assert provider.streamed == [True, False]
    assert (watch.calls[0].prompt_tokens, watch.calls[0].completion_tokens) == (7, 5)
    assert lm.history[0]["usage"] == lm.history[1]["usage"]
    assert lm.history[0]["cost"] == lm.history[1]["cost"]
    lm.close()


def test_a_provider_that_is_left_sees_the_connection_end(provider: Provider, watch: Watch) -> None:
    provider.words = ["word "] * 100_000
    lm = provider.lm()

    async def go() -> None:
        heard = asyncio.Event()
        watch.__class__ = type("Hears", (Watch,), {"__call__": lambda self, t: heard.set()})
        task = asyncio.ensure_future(lm.acall("say it"))
        provider.allow.release(3)
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await lm.aclose()

    asyncio.run(go())
    provider.allow.release(100_000)
    assert provider.gone.wait(30)
    assert [c.error for c in watch.calls] == ["CancelledError: "]
