"""Runs that go on by themselves: followed, cancelled, known afterwards; and clients that leave."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from web_helpers import LONG, Ends, Held, ask, chat, events, head, line, same, together, until

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.testing import Gate, scripted_lm
from dspex_lab.web import _runs
from dspex_lab.web._server import Served


def start(served: Served, pipeline: str, text: str = "x", **more: Any) -> str:
    status, _, body = ask(served, "POST", "/api/runs", {"pipeline": pipeline, "text": text, **more})
    assert (status, body["object"], body["state"], body["pipeline"]) == (202, "run", "running", pipeline)
    return body["id"]


def follow(served: Served, run: str, **headers: str) -> list[dict[str, str]]:
    status, found, text = ask(served, "GET", f"/api/runs/{run}/events", **headers)
    assert (status, found["content-type"], found["cache-control"]) == (200, "text/event-stream; charset=utf-8", "no-store")
    return events(text)


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def served(serving: Callable[..., Served], held: Held) -> Served:
    return serving(
        {
            "echo": dx.pipeline("echo", out=dx.step(same)),
            "held": dx.pipeline("held", first=dx.step(same), out=dx.step(held.step)),
        }
    )


# ---- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_is_told_from_its_beginning_to_its_end(served: Served) -> None:
    run = start(served, "echo", "hello", tags=["mine"])
    told = follow(served, run)
    assert [event["event"] for event in told] == [
        "run.start", "step.start", "field", "step.stop", "partial", "run.stop",
    ]  # fmt: skip
    assert [event["id"] for event in told] == [str(n) for n in range(len(told))]
    last = json.loads(told[-1]["data"])
    assert (last["state"], last["content"], last["outputs"]) == ("complete", "hello", {"out": "hello"})
    status, _, found = ask(served, "GET", f"/api/runs/{run}")
    assert (status, found) == (200, last)


def test_who_comes_back_gets_what_he_missed(served: Served) -> None:
    run = start(served, "echo")
    whole = follow(served, run)
    assert follow(served, run, Last_Event_ID="2") == whole[3:]
    assert follow(served, run, Last_Event_ID="99") == []
    for nonsense in ("x", "-1", "", "²", "9" * 400, "9" * 5_000):
        assert follow(served, run, Last_Event_ID=nonsense) == ([] if nonsense.startswith("9") else whole)


def test_events_come_while_the_run_is_under_way(served: Served, held: Held) -> None:
    run = start(served, "held")
    with line(served) as connection:
        connection.sendall(head(served, f"/api/runs/{run}/events", method="GET"))
        early = until(connection, b'"step":"out"')
        assert b"run.stop" not in early
        held.let_go()
        until(connection, b"event: run.stop")


def test_two_follow_the_same_run(served: Served, held: Held) -> None:
    run = start(served, "held")
    held.begun.get(timeout=LONG)
    first, second, _ = together(lambda: follow(served, run), lambda: follow(served, run), held.let_go)
    assert first == second
    assert first[-1]["event"] == "run.stop"


def test_tokens_are_events_of_a_run(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    lab.use(scripted_lm({"answer": "one two three"}))
    served = serving({"talk": dx.pipeline("talk", talk=dspy.Predict("question -> answer"))})
    told = follow(served, start(served, "talk"))
    spoken = [json.loads(event["data"])["value"] for event in told if event["event"] == "token"]
    assert "".join(spoken) == "one two three"


def test_a_follower_gets_a_sign_of_life(served: Served, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runs, "ALIVE", 0.01)
    run = start(served, "held")
    with line(served) as connection:
        connection.sendall(head(served, f"/api/runs/{run}/events", method="GET"))
        until(connection, b": still here\n\n")
        held.let_go()
        assert b"event: run.stop" in until(connection, b"event: run.stop")


def test_a_run_is_cancelled_by_anybody_and_stays_so(lab: dx.Lab, served: Served, held: Held) -> None:
    ends = Ends(lab)
    run = start(served, "held")
    held.begun.get(timeout=LONG)
    status, _, body = ask(served, "POST", f"/api/runs/{run}/cancel")
    assert (status, body["state"], body["content"]) == (200, "cancelled", None)
    record = ends.next()
    assert (record.status, record.tags) == ("cancelled", ("web", f"request:{run}"))
    assert ask(served, "POST", f"/api/runs/{run}/cancel")[2]["state"] == "cancelled"
    assert json.loads(follow(served, run)[-1]["data"])["state"] == "cancelled"
    done = start(served, "echo")
    follow(served, done)
    assert ask(served, "POST", f"/api/runs/{done}/cancel")[2]["state"] == "complete"


def test_a_run_that_waits_for_its_place_can_be_cancelled_before_it_began(
    lab: dx.Lab, serving: Callable[..., Served], held: Held
) -> None:
    served = serving({"held": dx.pipeline("held", out=dx.step(held.step))}, concurrency=1)
    first, second = start(served, "held"), start(served, "held")
    held.begun.get(timeout=LONG)
    assert ask(served, "POST", f"/api/runs/{second}/cancel")[2]["state"] == "cancelled"
    assert [event["event"] for event in follow(served, second)] == ["run.stop"]
    held.let_go()
    assert json.loads(follow(served, first)[-1]["data"])["state"] == "complete"
    assert len(lab.sql("SELECT * FROM runs")) == 1


def test_a_run_whose_session_has_no_name_that_can_be_one_fails_with_that(served: Served) -> None:
    run = start(served, "echo", session="a\u0000b")
    last = json.loads(follow(served, run)[-1]["data"])
    assert (last["state"], last["content"]) == ("failed", None)
    assert "session" in last["error"]
    status, _, body = chat(served, "x", model="echo", session="a\u0000b")
    assert (status, body["error"]["code"], body["error"]["param"]) == (422, "invalid_session", "session")
    status, _, text = chat(served, "x", model="echo", session="a\u0000b", stream=True)
    said = [event["data"] for event in events(text)]
    assert (status, json.loads(said[-2])["error"]["code"], said[-1]) == (200, "invalid_session", "[DONE]")


def test_old_runs_make_room_and_are_still_known(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(served, "echo", "the first")
    follow(served, first)
    monkeypatch.setattr(_runs, "KEPT", 0)
    second = start(served, "echo", "the second")
    follow(served, second)
    assert ask(served, "GET", f"/api/runs/{first}/events")[0] == 404
    status, _, found = ask(served, "GET", f"/api/runs/{first}")
    assert (status, found["state"], found["outputs"]) == (200, "complete", {"out": "the first"})
    assert ask(served, "GET", f"/api/runs/{found['run_id']}")[2]["outputs"] == {"out": "the first"}


def test_of_many_events_the_last_are_kept_with_their_numbers(
    serving: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    def many(text: str) -> str:
        for word in range(50):
            dx.tell(word)
        return text

    monkeypatch.setattr(_runs, "EVENTS", 10)
    served = serving({"many": dx.pipeline("many", out=dx.step(many))})
    run = start(served, "many")
    while ask(served, "GET", f"/api/runs/{run}")[2]["state"] == "running":
        follow(served, run)
    told = follow(served, run)
    numbers = [int(event["id"]) for event in told]
    assert 10 <= len(numbers) < 20
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert told[-1]["event"] == "run.stop"
    assert follow(served, run, Last_Event_ID="0") == told


# ---- clients that leave ----------------------------------------------------------------------------------------------


def body_of(model: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}], **more}).encode()


@pytest.mark.parametrize("stream", [False, True])
def test_work_stops_when_its_client_has_gone(lab: dx.Lab, served: Served, held: Held, stream: bool) -> None:
    ends = Ends(lab)
    body = body_of("held", stream=stream)
    with line(served) as connection:
        connection.sendall(head(served, "/v1/chat/completions", length=len(body)) + body)
        held.begun.get(timeout=LONG)
        if stream:
            until(connection, b'"role":"assistant"')
    record = ends.next()
    assert (record.status, record.name) == ("cancelled", "held")
    assert lab.sql("SELECT status FROM runs")["status"].tolist() == ["cancelled"]
    held.let_go()
    assert chat(served, "x", model="echo")[0] == 200


def test_a_model_that_writes_for_a_client_who_has_gone_is_stopped(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    gate = Gate()
    lab.use(scripted_lm({"answer": "one two three"}, gate=gate))
    ends = Ends(lab)
    served = serving({"talk": dx.pipeline("talk", talk=dspy.Predict("question -> answer"))})
    body = body_of("talk", stream=True)
    with line(served) as connection:
        connection.sendall(head(served, "/v1/chat/completions", length=len(body)) + body)
        assert gate.reached(1)
        gate.open(9)
        until(connection, b'"content":"one')
    assert ends.next().status == "cancelled"
    gate.open()
    assert "dspex_open_streams 0.0" in ask(served, "GET", "/metrics")[2]


def test_a_run_goes_on_when_who_followed_it_has_gone(lab: dx.Lab, served: Served, held: Held) -> None:
    ends = Ends(lab)
    run = start(served, "held")
    with line(served) as connection:
        connection.sendall(head(served, f"/api/runs/{run}/events", method="GET"))
        until(connection, b"event: run.start")
    held.let_go()
    assert ends.next().status == "complete"


def test_a_client_that_leaves_in_the_queue_leaves_no_gap(lab: dx.Lab, serving: Callable[..., Served], held: Held) -> None:
    served = serving({"held": dx.pipeline("held", out=dx.step(held.step))}, concurrency=1, waiting=1)
    ends = Ends(lab)
    body = body_of("held")
    with line(served) as first:
        first.sendall(head(served, "/v1/chat/completions", length=len(body)) + body)
        held.begun.get(timeout=LONG)
        for _ in range(3):  # each takes the one place in the queue that the one before has left
            with line(served) as second:
                second.sendall(head(served, "/v1/chat/completions", length=len(body)) + body)
                while "dspex_waiting 1.0" not in ask(served, "GET", "/metrics")[2]:
                    pass
            while "dspex_waiting 0.0" not in ask(served, "GET", "/metrics")[2]:
                pass
        held.let_go()
        until(first, b'"chat.completion"')
    assert ends.next().status == "complete"
    assert len(lab.sql("SELECT * FROM runs")) == 1


def test_many_at_once_are_all_answered_each_with_its_own(served: Served) -> None:
    def one(text: str) -> Callable[[], Any]:
        return lambda: chat(served, text, model="echo", stream=False)[2]["choices"][0]["message"]["content"]

    texts = [f"text {n}" for n in range(40)]
    assert together(*(one(text) for text in texts)) == texts


# ---- the end of a server ---------------------------------------------------------------------------------------------


def test_stopping_ends_runs_and_those_who_follow_and_leaves_no_thread(lab: dx.Lab, served: Served, held: Held) -> None:
    ends = Ends(lab)
    run = start(served, "held")
    held.begun.get(timeout=LONG)
    with line(served) as connection:
        connection.sendall(head(served, f"/api/runs/{run}/events", method="GET"))
        until(connection, b"event: run.start")
        served.stop()
        told = until(connection, b"event: run.stop")
        assert b'"state":"cancelled"' in told or b'"state":"cancelled"' in until(connection, b"}")
    assert ends.next().status == "cancelled"
    held.let_go()
    assert not served.running
    assert served._thread not in threading.enumerate()
    assert served._socket.fileno() == -1
    with pytest.raises(ConnectionRefusedError), line(served):
        pass
    served.stop()
    served.wait()
    assert repr(served).endswith("stopped)")
    assert "stopped" in served._repr_html_()


def test_stopping_lets_requests_under_way_end(served: Served, held: Held) -> None:
    def stop() -> None:
        held.begun.get(timeout=LONG)
        held.let_go()
        served.stop(within=LONG)

    answer, _ = together(lambda: chat(served, "x", model="held"), stop)
    assert (answer[0], answer[2]["choices"][0]["message"]["content"]) == (200, "x")


def test_stopping_ends_what_does_not_end_in_time(lab: dx.Lab, served: Served, held: Held) -> None:
    ends = Ends(lab)
    body = body_of("held")
    with line(served) as connection:
        connection.sendall(head(served, "/v1/chat/completions", length=len(body)) + body)
        held.begun.get(timeout=LONG)
        served.stop(within=0.01)
    assert ends.next().status == "cancelled"
    held.let_go()


def test_closing_the_lab_stops_its_servers() -> None:
    with dx.Lab(":memory:") as lab:
        lab.pipelines["echo"] = dx.pipeline("echo", out=dx.step(same))
        first, second = lab.serve(chat=False), lab.serve(["echo"], chat=False)
        assert first.port != second.port
        assert first.token != second.token
        assert chat(first, "a")[0] == chat(second, "b")[0] == 200
        assert ask(first, "GET", "/v1/models", token=second.token)[0] == 401
    assert not first.running
    assert not second.running


def test_no_token_waits_until_the_one_before_it_is_acknowledged(lab: dx.Lab) -> None:
    echo = dx.pipeline("echo", out=dx.step(same))
    with lab.serve(echo, chat=False) as served, line(served) as client:
        client.sendall(head(served, "/healthz", method="GET"))
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        connections = list(served._server.server_state.connections)
        assert len(connections) == 1
        own = connections[0].transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_pipeline_itself_or_one_name_can_be_served(lab: dx.Lab) -> None:
    echo = dx.pipeline("echo", out=dx.step(same))
    for given in (echo, [echo], "echo"):
        with lab.serve(given, chat=False) as served:
            assert chat(served, "a")[0] == 200
    assert lab.pipelines["echo"] is echo
    for given in (same, [same], 7):
        with pytest.raises(ConfigurationError, match="is no pipeline") as raised:
            lab.serve(given, chat=False)
        assert "dx.pipeline(NAME" in str(raised.value)


def test_a_block_stops_its_server(lab: dx.Lab) -> None:
    lab.pipelines["echo"] = dx.pipeline("echo", out=dx.step(same))
    called: list[str] = []
    with lab.serve(chat=False) as served:
        served.on_stop(lambda: called.append("stopped"))
        assert served.url in repr(served)
        assert served.token not in repr(served) + served._repr_html_() + repr(served._rules)
    assert (served.running, called) == (False, ["stopped"])


def test_a_follower_misses_nothing_however_the_events_fall() -> None:
    """Events told before, between and after the looks of followers who are of different speed."""

    async def go() -> None:
        runs = _runs.Runs(None, None, None, None)  # type: ignore[arg-type]
        run = _runs.Run(None, "p")  # type: ignore[arg-type]
        got: dict[int, list[int]] = {}

        async def slow(pauses: int) -> None:
            got[pauses] = []
            async for event in runs.follow(run):
                assert event is not None
                got[pauses].append(event[0])
                for _ in range(pauses):
                    await asyncio.sleep(0)

        followers = [asyncio.ensure_future(slow(pauses)) for pauses in range(4)]
        for number in range(30):
            run.tell("x", {})
            for _ in range(number % 4):
                await asyncio.sleep(0)
        run.state = "complete"
        run.tell("run.stop", {})
        await asyncio.gather(*followers)
        assert got == {pauses: list(range(31)) for pauses in range(4)}

    asyncio.run(go())
