"""``dspex-lab serve`` under load while a provider fails and workers are killed: every request is to be answered.

    python tests/bench/web_faults.py [--seconds 60] [--clients 200]

The pipeline has a step on a worker and one that asks a model; a simpler one, which asks none, is there for the time in which
the provider answers 503 (a quarter of the run). Twice a worker is ended by kill -9. Prints how many requests got which status
and who answered them, with their times, in each part of the run. Ends with an error where one request got no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from web import Server, Stub, ours, session_of, started

PIPELINES = """
import dspy
import dspex_lab as dx
from dspex_lab.lms import make_lm

dspy.configure(lm=make_lm("http/stub", api_base="{base}", api_key="none", cache=False))

def count(message: str) -> int:
    return len(message.split())

def plain(message: str) -> str:
    "Answer without a model."
    return "We have your message of " + str(len(message.split())) + " words."

chat = dx.pipeline(
    "chat",
    words=dx.step(count, pool="general", idempotent=True, timeout=30),
    answer=dx.template("{{{{ message }}}} ({{{{ words }}}} words)"),
)
simple = dx.pipeline("simple", answer=dx.step(plain))
"""

#: How often a fallback was used in a quarter of the run, by what it said of why; numbers as N.
REASONS: Counter[tuple[int, str]] = Counter()


class Failing(Stub):
    """The stub; after a signal it answers 503 until the next one."""

    fails = False

    def answer_to(self, body: bytes) -> bytes:
        if Failing.fails:
            return b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\ndown"
        return super().answer_to(body)


async def stub() -> None:
    """Serve, and say where."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: setattr(Failing, "fails", not Failing.fails))
    server = await loop.create_server(Failing, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def workers(server: Server) -> list[psutil.Process]:
    """Return the processes of the pools' workers: the children of the forkservers."""
    forkservers = [p for p in psutil.Process(server.process.pid).children() if "forkserver" in " ".join(p.cmdline())]
    return [child for each in forkservers for child in each.children()]


async def asked(server: Server, clients: int, seconds: float) -> list[tuple[float, float, str]]:
    """Return of each request when it began, how long it took, and what came of it."""
    found: list[tuple[float, float, str]] = []
    start = time.perf_counter()

    async def ask(session: object, client: int) -> None:
        n = 0
        while time.perf_counter() - start < seconds:
            n += 1
            body = {"model": "chat", "messages": [{"role": "user", "content": f"question {n} of {client}"}]}
            began = time.perf_counter()
            try:
                async with session.post(f"{server.base}/chat/completions", json=body) as response:  # type: ignore[attr-defined]
                    said = await response.json()
                    about = said.get("dspex", {})
                    who = about.get("pipeline", said.get("error", {}).get("code"))
                    came = f"{response.status} {who}{' (fallback)' if about.get('fallback_used') else ''}"
                    if about.get("fallback_used"):
                        at = min(3, int(4 * (time.perf_counter() - start) / seconds))
                        REASONS[at, re.sub(r"\d+(\.\d+)?", "N", about["fallback_reason"])] += 1
            except Exception as error:
                came = f"no answer: {type(error).__name__}"
            found.append((began - start, time.perf_counter() - began, came))

    async with session_of(server) as session:
        await asyncio.gather(*(ask(session, client) for client in range(clients)))
    return found


async def troubled(server: Server, provider: int, clients: int, seconds: float) -> list[tuple[float, float, str]]:
    """Ask, and cause trouble meanwhile."""

    async def trouble() -> None:
        await asyncio.sleep(seconds / 4)
        os.kill(provider, signal.SIGUSR1)
        print(f"{seconds / 4:.0f} s: the provider answers 503", flush=True)
        await asyncio.sleep(seconds / 8)
        _kill(server, 3 * seconds / 8)
        await asyncio.sleep(seconds / 8)
        os.kill(provider, signal.SIGUSR1)
        print(f"{seconds / 2:.0f} s: the provider is well", flush=True)
        await asyncio.sleep(seconds / 8)
        _kill(server, 5 * seconds / 8)

    found, _ = await asyncio.gather(asked(server, clients, seconds), trouble())
    return found


def _kill(server: Server, at: float) -> None:
    victim = workers(server)[0]
    victim.kill()
    print(f"{at:.0f} s: kill -9 of worker {victim.pid}", flush=True)


def main() -> None:
    """Run, and print a table."""
    reading = argparse.ArgumentParser()
    reading.add_argument("--seconds", type=float, default=60.0)
    reading.add_argument("--clients", type=int, default=200)
    options = reading.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, port = started([sys.executable, __file__, "stub"], {}, folder)
        server = ours(f"http://127.0.0.1:{port}/v1", folder, PIPELINES, ["bench_chat:chat", "bench_chat:simple"])
        try:
            asyncio.run(asked(server, 8, 15.0))  # the workers are up
            found = asyncio.run(troubled(server, process.pid, options.clients, options.seconds))
        finally:
            server.close()
            process.terminate()
            process.wait(30)
    edges = [0, options.seconds / 4, options.seconds / 2, options.seconds]
    print("| answered from s | requests | what came | p50 ms | p99 ms | longest ms |\n|---|---|---|---|---|---|")
    for begin, end in itertools.pairwise(edges):
        part = [each for each in found if begin <= each[0] + each[1] and (each[0] + each[1] < end or end == edges[-1])]
        times = sorted(1e3 * seconds for _, seconds, _ in part)
        came = ", ".join(f"{n} × {what}" for what, n in Counter(what for *_, what in part).most_common())
        cuts = statistics.quantiles(times, n=100)
        print(f"| {begin:.0f} | {len(part)} | {came} | {cuts[49]:.0f} | {cuts[98]:.0f} | {times[-1]:.0f} |")
    for (quarter, why), n in sorted(REASONS.items()):
        print(f"quarter {quarter + 1}: {n} x {why}")
    lost = sum(what.startswith("no answer") for *_, what in found)
    print(f"{len(found)} requests, {lost} without an answer")
    raise SystemExit(int(lost > 0))


if __name__ == "__main__":
    if sys.argv[1:] == ["stub"]:
        asyncio.run(stub())
    else:
        main()
