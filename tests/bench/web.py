"""Chat completions over a stub model: ``dspex-lab serve`` beside LiteLLM's proxy, on the same stub in the same run.

    python tests/bench/web.py [--seconds 10] [--clients 200] [--litellm PATH-OF-THE-litellm-COMMAND]

Each server is a process of its own; the stub (a third) answers at once, one fixed text, whole or in pieces. The load comes from
this process by aiohttp, the same for all: so many clients, each asking again as soon as it is answered, in turns of a few
seconds. Then one client alone streams, for what a server adds to the time of the first token; then 500 streams are held open,
for the memory of each. LiteLLM's proxy is measured where its command is (``pip install 'litellm[proxy]'`` in an environment of
its own). Not a test: on a busy machine only the ratios mean something.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from http_engine import Fixed

TEXT = "It is Paris, on the Seine. " * 4
KEY = "sk-a-key-for-the-bench-only"
PIPELINE = """
import dspy
import dspex_lab as dx
from dspex_lab.lms import make_lm

dspy.configure(lm=make_lm("http/stub", api_base="{base}", api_key="none", cache={cache}))
chat = dx.pipeline("chat", answer=dx.template("{{{{ message }}}}"))
"""
PROXY = """
model_list:
  - model_name: chat
    litellm_params: {{model: openai/stub, api_base: "{base}", api_key: none}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false}}
"""


class Stub(Fixed):
    """OpenAI's chat completions with one answer; a stream with ``"hold"`` in its question stays open after the first piece."""

    def answer_to(self, body: bytes) -> bytes:
        return _streamed(b"hold" in body) if b'"stream":true' in body.replace(b" ", b"") else _whole()


def _whole() -> bytes:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}
    body = json.dumps(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "stub", "choices": [choice], "usage": usage}
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body.encode())


def _streamed(hold: bool) -> bytes:
    def chunk(delta: dict[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        text = json.dumps({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [choice]})
        line = f"data: {text}\n\n".encode()
        return b"%x\r\n%s\r\n" % (len(line), line)

    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [chunk({"content": word + " "}, None) for word in TEXT.split()]
    if hold:
        return head + pieces[0]
    return head + b"".join(pieces) + chunk({}, "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def stub() -> None:
    """Serve, and say where."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# ---- the servers -----------------------------------------------------------------------------------------------------


class Server:
    """A process that serves; ``base`` is its address, ``key`` what it wants to be shown."""

    def __init__(self, name: str, process: subprocess.Popen[str], base: str, key: str) -> None:
        self.name, self.process, self.base, self.key = name, process, base, key

    def memory(self) -> int:
        """Return the bytes of the process and its children."""
        whole = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (whole, *whole.children(recursive=True)))

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)


def started(command: list[str], env: dict[str, str], folder: Path, ready: Callable[[str], bool] = bool) -> tuple[Any, str]:
    """Return a process and the line by which it says that it is ready."""
    process = subprocess.Popen(command, env={**os.environ, **env}, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if ready(line):
            return process, line.strip()
    raise SystemExit(f"{command[0]} ended before it was ready")


def ours(
    stub_base: str, folder: Path, pipelines: str = PIPELINE, names: Sequence[str] = ("bench_chat:chat",), cache: bool = False
) -> Server:
    """``dspex-lab serve``; without DSPy's cache unless told, as LiteLLM's proxy is by default."""
    folder.mkdir(exist_ok=True)
    (folder / "bench_chat.py").write_text(pipelines.format(base=stub_base, cache=cache))
    env = {
        "DSPEX_SERVE_TOKEN": KEY,
        "PYTHONPATH": os.pathsep.join(p for p in (os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2])) if p),
        "DSPY_CACHEDIR": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "dspex_lab", "serve", *names, "--port", "0", "--rate", "none", "--no-chat"]
    command += ["--concurrency", "256", "--store", str(folder / "store.duckdb")]
    process, line = started(command, env, folder, lambda line: "OpenAI base" in line)
    return Server(f"dspex-lab serve{' with cache' if cache else ''}", process, line.split()[-1], KEY)


def proxy(command: str, stub_base: str, folder: Path) -> Server:
    """LiteLLM's proxy, with one worker."""
    (folder / "proxy.yaml").write_text(PROXY.format(base=stub_base, key=KEY))
    port = _free_port()
    whole = [command, "--config", "proxy.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with (folder / "proxy.log").open("w") as log:  # where only errors are logged it does not say that it is ready
        process = subprocess.Popen(
            whole, env={**os.environ, "LITELLM_LOG": "ERROR"}, cwd=folder, stdout=log, stderr=log, text=True
        )
    while not _listens(port):
        if process.poll() is not None:
            raise SystemExit((folder / "proxy.log").read_text())
        time.sleep(0.1)
    return Server("LiteLLM's proxy", process, f"http://127.0.0.1:{port}/v1", KEY)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


# ---- the load --------------------------------------------------------------------------------------------------------


async def load(server: Server, clients: int, seconds: float) -> tuple[list[float], dict[int, int]]:
    """Return the seconds of each answer, and how many had which status."""
    import aiohttp

    times: list[float] = []
    statuses: dict[int, int] = {}
    until = time.perf_counter() + seconds

    async def ask(session: aiohttp.ClientSession, client: int) -> None:
        n = 0
        while time.perf_counter() < until:
            n += 1
            body = {"model": "chat", "messages": [{"role": "user", "content": f"question {client} {n} {until}"}]}
            began = time.perf_counter()
            async with session.post(f"{server.base}/chat/completions", json=body) as response:
                await response.read()
                statuses[response.status] = statuses.get(response.status, 0) + 1
            times.append(time.perf_counter() - began)

    async with session_of(server) as session:
        await asyncio.gather(*(ask(session, client) for client in range(clients)))
    return times, statuses


def session_of(server: Server) -> Any:
    """Return a client of a server, with as many connections as it likes."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    return aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {server.key}"}, timeout=timeout)


async def first_token(server: Server, times: int) -> list[float]:
    """Return the seconds to the first token of streams, one after the other."""
    found = []
    async with session_of(server) as session:
        for n in range(times):
            body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": f"stream {n} {time.time()}"}]}
            began = time.perf_counter()
            async with session.post(f"{server.base}/chat/completions", json=body) as response:
                async for line in response.content:
                    if len(found) == n and b'"content":"It' in line.replace(b" ", b""):
                        found.append(time.perf_counter() - began)
    return found


async def held(server: Server, streams: int) -> float:
    """Return the bytes that a stream costs that is open."""
    before = server.memory()
    async with session_of(server) as session:

        async def opened(n: int) -> Any:
            body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": f"hold {n} {time.time()}"}]}
            response = await session.post(f"{server.base}/chat/completions", json=body)
            await response.content.readline()
            return response

        open_ones = await asyncio.gather(*(opened(n) for n in range(streams)))
        after = server.memory()
        for response in open_ones:
            response.close()
    return (after - before) / streams


def main() -> None:
    """Measure, and print a table."""
    reading = argparse.ArgumentParser()
    reading.add_argument("--seconds", type=float, default=10.0)
    reading.add_argument("--clients", type=int, default=200)
    reading.add_argument("--rounds", type=int, default=3)
    reading.add_argument("--litellm", default=shutil.which("litellm"))
    options = reading.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, port = started([sys.executable, __file__, "stub"], {}, folder)
        base = f"http://127.0.0.1:{port}/v1"
        servers = [Server("the stub itself", process, base, KEY)]
        try:
            servers += [ours(base, folder / "plain"), ours(base, folder / "cached", cache=True)]
            if options.litellm:
                servers.append(proxy(options.litellm, base, folder))
            _measure(servers, options)
        finally:
            for server in servers:
                server.close()


def _measure(servers: list[Server], options: argparse.Namespace) -> None:
    for server in servers:
        asyncio.run(load(server, options.clients, 2.0))  # warm
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(options.rounds):
        for server in servers:
            times, statuses = asyncio.run(load(server, options.clients, options.seconds))
            assert set(statuses) == {200}, f"{server.name}: {statuses}"
            cuts = statistics.quantiles(times, n=100)
            rows.setdefault(server.name, []).append((len(times) / options.seconds, cuts[49], cuts[98]))
    print(f"| {options.clients} clients | requests/s | p50 ms | p99 ms | first token ms | MB of an open stream |")
    print("|---|---|---|---|---|---|")
    for server in servers:
        rate, p50, p99 = max(rows[server.name])
        token = statistics.median(asyncio.run(first_token(server, 50)))
        memory = "" if server is servers[0] else f"{asyncio.run(held(server, 200)) / 1e6:.3f}"
        print(f"| {server.name} | {rate:.0f} | {1e3 * p50:.1f} | {1e3 * p99:.1f} | {1e3 * token:.2f} | {memory} |")


if __name__ == "__main__":
    if sys.argv[1:] == ["stub"]:
        asyncio.run(stub())
    else:
        main()
