"""What one call over HTTP costs beside the server: ``HttpEngine`` against lm15, the openai client, LiteLLM and raw httpx.

    python tests/bench/http_engine.py [calls] [rounds]

All ask the same local server (a process of its own, which gives one fixed answer) in turns, so that a slow moment of the
machine meets all; the ratios are to ``HttpEngine``. Rows that begin with ``dspy.LM`` are whole calls through DSPy (cache off,
no retries); the others are the engine or client alone. CPU is this process's; on a busy machine its ratio is the one to read.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dspex_lab.lms.engines import AsyncHttpEngine, HttpEngine, http_lm

AT_ONCE = 32
QUESTION = "What is the capital of France? " * 8
ANSWER = {"role": "assistant", "content": "It is Paris, on the Seine. " * 4}
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-test",
    "choices": [{"index": 0, "message": ANSWER, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 60, "completion_tokens": 30, "total_tokens": 90},
}

Call = Callable[[], Any]


class Fixed(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, and the same answer to all."""

    body = json.dumps(REPLY).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.transport.write(self.answer_to(body))

    def answer_to(self, body: bytes) -> bytes:
        return self.answer


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Fixed, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def request() -> Any:
    from dspy.lm15 import Config, Message, Request

    return Request(model="gpt-test", messages=(Message.user(QUESTION),), config=Config(temperature=0.0))


#: DSPy's models ask each time, once.
PLAIN: dict[str, Any] = {"cache": False, "num_retries": 0}
BODY = {"model": "gpt-test", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0.0}


def for_lm15(base: str) -> tuple[Any, Any]:
    """Return the request as lm15 sends it on, and where to."""
    from dspy.lm15 import RouterConfig

    asked = request()
    routed = type(asked)(model="openai-chat:gpt-test", messages=asked.messages, config=asked.config)
    return routed, RouterConfig(api_keys={"openai-chat": "k"}, base_urls={"openai-chat": base})


def models(base: str) -> tuple[Any, Any, Any]:
    """Return DSPy's models, by lm15 and by LiteLLM, and LiteLLM's router."""
    import dspy
    import litellm

    native, lite = (
        dspy.LM("openai/gpt-test", api_base=base, api_key="k", engine=engine, **PLAIN) for engine in ("lm15", "litellm")
    )
    deployment = {"model_name": "m", "litellm_params": {"model": "openai/gpt-test", "api_base": base, "api_key": "k"}}
    return native, lite, litellm.Router(model_list=[deployment], num_retries=0)


def sync_calls(base: str) -> dict[str, Call]:
    import httpx
    import litellm
    import openai
    from dspy.clients.engines.lm15_engine import LM15Engine

    routed, where = for_lm15(base)
    lm15, client = LM15Engine(where), httpx.Client()
    oai = openai.OpenAI(api_key="k", base_url=base, max_retries=0)
    native, lite, router = models(base)
    return {
        **ours(base),
        "lm15 engine": lambda: lm15.complete(routed),
        "raw httpx": lambda: client.post(f"{base}/chat/completions", json=BODY).json(),
        "openai client": lambda: oai.chat.completions.create(**BODY),
        "LiteLLM": lambda: litellm.completion("openai/gpt-test", BODY["messages"], api_base=base, api_key="k", temperature=0.0),
        "LiteLLM Router": lambda: router.completion("m", BODY["messages"], temperature=0.0),
        "dspy.LM, lm15": lambda: native(QUESTION),
        "dspy.LM, litellm": lambda: lite(QUESTION),
    }


def ours(base: str) -> dict[str, Call]:
    engine, lm, asked = HttpEngine(base, api_key="k"), http_lm("gpt-test", api_base=base, api_key="k", **PLAIN), request()
    return {"HttpEngine": lambda: engine.complete(asked), "dspy.LM, HttpEngine": lambda: lm(QUESTION)}


def aours(base: str) -> dict[str, Call]:
    engine, lm, asked = AsyncHttpEngine(base, api_key="k"), http_lm("gpt-test", api_base=base, api_key="k", **PLAIN), request()
    return {"HttpEngine": lambda: engine.complete(asked), "dspy.LM, HttpEngine": lambda: lm.acall(QUESTION)}


def async_calls(base: str) -> dict[str, Call]:
    import httpx
    import litellm
    import openai
    from dspy.clients.engines.lm15_engine import AsyncLM15Engine

    routed, where = for_lm15(base)
    lm15, client = AsyncLM15Engine(where), httpx.AsyncClient()
    oai = openai.AsyncOpenAI(api_key="k", base_url=base, max_retries=0)
    native, lite, router = models(base)

    async def raw() -> Any:
        return (await client.post(f"{base}/chat/completions", json=BODY)).json()

    return {
        **aours(base),
        "lm15 engine": lambda: lm15.complete(routed),
        "raw httpx": raw,
        "openai client": lambda: oai.chat.completions.create(**BODY),
        "LiteLLM": lambda: litellm.acompletion(
            "openai/gpt-test", BODY["messages"], api_base=base, api_key="k", temperature=0.0
        ),
        "LiteLLM Router": lambda: router.acompletion("m", BODY["messages"], temperature=0.0),
        "dspy.LM, lm15": lambda: native.acall(QUESTION),
        "dspy.LM, litellm": lambda: lite.acall(QUESTION),
    }


def one_by_one(call: Call, calls: int) -> None:
    for _ in range(calls):
        call()


async def aone_by_one(call: Callable[[], Awaitable[Any]], calls: int) -> None:
    for _ in range(calls):
        await call()


async def aat_once(call: Callable[[], Awaitable[Any]], calls: int) -> None:
    async def worker() -> None:
        for _ in range(calls // AT_ONCE):
            await call()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


Samples = dict[str, list[tuple[float, float]]]


def clocked(samples: Samples, name: str, calls: int, began: tuple[float, float]) -> None:
    taken = (time.perf_counter() - began[0]) / calls, (time.process_time() - began[1]) / calls
    samples.setdefault(name, []).append((1e3 * taken[0], 1e3 * taken[1]))


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def measure_sync(calls: dict[str, Call], count: int, rounds: int) -> tuple[Samples, Samples]:
    single: Samples = {}
    many: Samples = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(rounds + 1):
            for name, call in calls.items():
                began = now()
                one_by_one(call, count)
                clocked(single, name, count, began)
                began = now()
                list(pool.map(lambda _, call=call: one_by_one(call, count // AT_ONCE), range(AT_ONCE)))
                clocked(many, name, count // AT_ONCE * AT_ONCE, began)
    return single, many


async def measure_async(base: str, count: int, rounds: int) -> tuple[Samples, Samples]:
    single: Samples = {}
    many: Samples = {}
    calls = async_calls(base)
    for _ in range(rounds + 1):
        for name, call in calls.items():
            began = now()
            await aone_by_one(call, count)
            clocked(single, name, count, began)
            began = now()
            await aat_once(call, count)
            clocked(many, name, count // AT_ONCE * AT_ONCE, began)
    return single, many


def show(title: str, samples: Samples) -> None:
    medians = {name: [statistics.median(values) for values in zip(*each[1:], strict=True)] for name, each in samples.items()}
    print(f"\n| {title} | ms a call | × | of it CPU here | × |\n|---|---:|---:|---:|---:|")
    for name, (wall, cpu) in medians.items():
        ours_wall, ours_cpu = medians["dspy.LM, HttpEngine" if name.startswith("dspy.LM") else "HttpEngine"]
        print(f"| {name} | {wall:.3f} | {wall / ours_wall:.2f} | {cpu:.3f} | {cpu / ours_cpu:.2f} |", flush=True)


def main(count: int = 320, rounds: int = 7) -> None:
    warnings.simplefilter("ignore")
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        single, many = measure_sync(sync_calls(base), count, rounds)
        show("sync, one by one", single)
        show(f"sync, {AT_ONCE} threads", many)
        single, many = asyncio.run(measure_async(base, count, rounds))
        show("async, one by one", single)
        show(f"async, {AT_ONCE} at once", many)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve())
    else:
        main(*map(int, sys.argv[1:3]))
