"""Real models over real sockets on a tape: recorded with a server and a key, played back in a fresh process without either."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.lms.tape._engine import taped_for
from dspex_lab.lms.tape._tape import Tape, TapeMiss
from dspex_lab.testing import Fault, FaultyServer, Reply, ScriptedEngine, ToolUse, scripted_lm

KEY = "sk-live0123456789abcdef"

#: What records and what plays back: the same calls of the same models. Says what they gave, as JSON.
PROGRAM = """
import asyncio, json, os, sys
from contextlib import contextmanager

import dspy
from dspy.clients import execution

from dspex_lab.lms.tape._tape import Tape
from dspex_lab.lms.tape._engine import taped_for


@contextmanager
def on(tape):
    choose = execution._engine

    def chosen(lm, call, asynchronous):  # as the gateway of a Lab does
        engine, request, provider = choose(lm, call, asynchronous)
        return taped_for(engine, tape, lm, call, asynchronous), request, provider

    execution._engine = chosen
    try:
        yield
    finally:
        execution._engine = choose


def outcome(call):
    try:
        return call()
    except Exception as error:
        cause = error.__cause__
        return {"error": type(error).__name__, "words": str(error), "status": getattr(error, "status", None),
                "retry_after": getattr(error, "retry_after", None), "cause": type(cause).__name__}


def told(lm):
    entry = lm.history[-1]
    texts = {name: str(entry[name]) for name in ("outputs", "usage")}
    return {**texts, "cost": entry["cost"], "model": entry["response_model"]}


def run(tape, options):
    lm = dspy.LM("openai/gpt-4o-mini", cache=False, num_retries=0, **options)
    old = dspy.LM("openai/gpt-4o-mini", engine="litellm", cache=False, num_retries=0, **options)
    told_of = []
    with on(tape):
        with dspy.context(lm=lm):
            made = dspy.Predict("message -> label")(message="Where is my card?")
            told_of.append([made.label, told(lm)])
        told_of.append([lm("plain"), told(lm)])
        told_of.append([asyncio.run(lm.acall("plain, async")), told(lm)])
        told_of.append([lm("two", n=2, temperature=1.0), told(lm)])
        told_of.append([str(lm("call it", tools=[TOOL])), told(lm)])
        told_of.append(outcome(lambda: lm("too many")))
        told_of.append(outcome(lambda: lm("wrong key")))
        with dspy.context(lm=lm):
            streamed = dspy.streamify(dspy.Predict("message -> label"),
                                      stream_listeners=[dspy.streaming.StreamListener(signature_field_name="label")])

            async def pieces():
                return [p.chunk if hasattr(p, "chunk") else p.label async for p in streamed(message="streamed")]

            told_of.append(asyncio.run(pieces()))
        if os.environ.get("LITELLM"):
            told_of.append([old("by LiteLLM"), told(old)])
            told_of.append([asyncio.run(old.acall("by LiteLLM, async")), told(old)])
            told_of.append(outcome(lambda: old("LiteLLM, too many")))
            told_of.append(outcome(lambda: asyncio.run(old.acall("LiteLLM, async, too many"))))
    return told_of


TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
"""

PLAY = (
    PROGRAM
    + """
with Tape(sys.argv[1], "replay") as tape:
    found = run(tape, {})
    print(json.dumps({"told": found, "litellm": "litellm" in sys.modules, "replayed": tape.replayed}))
"""
)


def script(arrival: Any) -> Any:
    text = arrival.body["messages"][-1]["content"]
    if "call it" in text:
        return Reply(tools=[ToolUse("find", {"what": "card"})])
    if "label" in text:
        return {"label": "a card that never came"}
    return Reply(
        f"answer {arrival.number} to {text}; your key is {arrival.key}", usage={"input_tokens": 11, "output_tokens": 7}
    )


def fault(arrival: Any) -> Any:
    text = arrival.body["messages"][-1]["content"]
    if "too many" in text:
        return Fault.rate_limit(retry_after=3)
    return Fault.wrong_key(echo=True) if "wrong key" in text else None


@pytest.fixture
def namespace() -> dict[str, Any]:
    made: dict[str, Any] = {}
    exec(PROGRAM, made)  # noqa: S102 - ours, and the same text runs in the fresh process
    return made


def played(path: Path, **variables: str) -> dict[str, Any]:
    """Play the tape in a fresh process that has no key and knows no address."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    environment |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", **variables}
    done = subprocess.run(
        [sys.executable, "-c", PLAY, str(path)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_fresh_process_without_key_and_server_gets_the_same(
    tmp_path: Path, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    litellm = ending == ".jsonl"  # once is enough: it takes seconds to load
    if litellm:
        monkeypatch.setenv("LITELLM", "yes")
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    path = tmp_path / f"real{ending}"
    with FaultyServer(script, faults=fault) as server, Tape(path, "record") as tape:
        made = json.loads(json.dumps(namespace["run"](tape, {"api_base": server.url, "api_key": KEY})))
        arrived = len(server.requests)
    assert arrived == tape.recorded == (13 if litellm else 9)
    assert tape.lost == 0
    found = played(path, **({"LITELLM": "yes"} if litellm else {}))
    assert found["told"] == json.loads(json.dumps(made).replace(KEY, "[redacted]"))
    assert found["replayed"] == tape.recorded
    assert not found["litellm"]
    assert KEY.encode() not in _raw(path)
    # Times on the tape may have the port's digits: it would stand behind a colon.
    assert b"127.0.0.1" not in _raw(path)
    assert f":{server.port}".encode() not in _raw(path)
    # What was told is not nothing.
    assert made[0][0] == "a card that never came"
    assert "'prompt_tokens': 11" in made[1][1]["usage"]
    assert made[1][1]["cost"] > 0
    assert (made[5]["error"], made[5]["retry_after"]) == ("LMRateLimitError", 3.0)
    assert (made[6]["error"], made[6]["cause"]) == ("LMAuthError", "AuthError")
    assert len(made[7]) > 3


def _raw(path: Path) -> bytes:
    import gzip

    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from dspy.clients import execution

    def hook(tape: Tape) -> Tape:
        choose = execution._engine

        def chosen(lm: Any, call: Any, asynchronous: bool) -> Any:
            engine, request, provider = choose(lm, call, asynchronous)
            return taped_for(engine, tape, lm, call, asynchronous), request, provider

        monkeypatch.setattr(execution, "_engine", chosen)
        return tape

    return hook  # type: ignore[return-value]


def test_a_dspy_program_runs_from_a_tape_and_a_miss_reaches_its_caller(tmp_path: Path, hooked: Any) -> None:
    import dspy

    path = tmp_path / "demo.jsonl"
    program = dspy.ChainOfThought("message -> label")
    lm = scripted_lm({"reasoning": "it says so", "label": "card"})
    with hooked(Tape(path, "record")), dspy.context(lm=lm):
        made = program(message="Where is my card?")
    silent = scripted_lm({"reasoning": "no", "label": "no"}, model=lm.model)
    with hooked(Tape(path, "replay")), dspy.context(lm=silent):
        assert program(message="Where is my card?").toDict() == made.toDict()
        with pytest.raises(dspy.LMError, match=r"is not on demo\.jsonl") as caught:
            program(message="Where is my money?")
    assert isinstance(caught.value.__cause__, TapeMiss)
    assert silent.engine.calls == 0


def test_a_taped_engine_is_an_engine_of_dspy(tmp_path: Path) -> None:
    import dspy

    from dspex_lab.lms.tape._tape import taped
    from dspex_lab.testing import AsyncScriptedEngine

    path = tmp_path / "demo.jsonl"
    inner = ScriptedEngine(["one", "two"])
    with Tape(path, "record") as tape:
        engines = {"engine": taped(inner, tape), "async_engine": taped(AsyncScriptedEngine(inner), tape)}
        lm = dspy.LM("taped/model", cache=False, num_retries=0, **engines)
        assert lm("a") == ["one"]
        assert asyncio.run(lm.acall("b")) == ["two"]
        assert lm.copy(temperature=0.5)("a") == ["one"]
    with Tape(path, "replay") as tape:
        lm = dspy.LM("taped/model", cache=False, num_retries=0, engine=taped(None, tape, asynchronous=False))
        assert lm("b") == ["two"]
        assert lm("a", temperature=0.5) == ["one"]


def test_rollouts_of_dspy_are_kept_apart(tmp_path: Path, hooked: Any) -> None:
    path = tmp_path / "demo.jsonl"
    lm = scripted_lm(["one", "two", "three"])
    with hooked(Tape(path, "record")):
        made = [lm("a", rollout_id=number, temperature=1.0) for number in (1, 2, 3)]
    with hooked(Tape(path, "replay", exact=True)):
        again = [lm("a", rollout_id=number, temperature=1.0) for number in (3, 1, 2)]
    assert made == [["one"], ["two"], ["three"]]
    assert again == [["three"], ["one"], ["two"]]
    assert lm.engine.calls == 3


def test_a_stream_that_a_server_cut_is_cut_again(tmp_path: Path) -> None:
    from dspy.clients.engines.lm15_engine import LM15Engine
    from dspy.lm15 import LM15Error, Message, Request, RouterConfig

    from dspex_lab.lms.tape._tape import taped

    path, seen = tmp_path / "demo.jsonl", [[], []]  # type: ignore[var-annotated]
    asked = Request(model="openai/any", messages=(Message.user("hello"),))

    def read(engine: Any, into: list[Any]) -> Any:
        with pytest.raises(LM15Error) as caught:
            into.extend(into.append(event) for event in engine.stream(asked))
        return caught.value

    with FaultyServer("one two three four", faults=[Fault.cut(after=2)]) as server, Tape(path, "record") as tape:
        real = LM15Engine(RouterConfig(api_keys={"openai-chat": KEY}, base_urls={"openai-chat": server.url}))
        first = read(taped(real, tape), seen[0])
        real.close()
    with Tape(path, "replay") as tape:
        second = read(taped(None, tape), seen[1])
    assert seen[0] == seen[1] != []
    assert (type(first), str(first)) == (type(second), str(second))
