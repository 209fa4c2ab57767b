"""The faults of the faulty server: what they are, and when they come."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import httpx
import pytest
from faulty_helpers import KEY, ask, chunks, client, no_network, said

from dspex_lab.testing import Fault, FaultyServer, Gate

__all__ = ["client", "no_network"]

# Faults.


def test_refusals_have_their_status_words_and_headers(client: httpx.Client) -> None:
    with FaultyServer(
        faults=[Fault.rate_limit(2.5), Fault.rate_limit(60, as_date=True), Fault.quota()], wall=lambda: 0
    ) as server:
        seconds, date, quota = (ask(client, server) for _ in range(3))
        assert ask(client, server).status_code == 200
    assert (seconds.status_code, seconds.headers["retry-after"]) == (429, "2.5")
    assert date.headers["retry-after"] == "Thu, 01 Jan 1970 00:01:00 GMT"
    assert quota.json()["error"]["code"] == "insufficient_quota"
    assert server.met == {"429": 3}
    assert (server.counts.arrived, server.counts.paid) == (4, 1)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.payment_required(), 402), (Fault.server_error(), 500), (Fault.bad_gateway(), 502), (Fault.unavailable(), 503),
        (Fault.gateway_timeout(), 504), (Fault.overloaded(), 529), (Fault.forbidden(), 403), (Fault.unknown_model(), 404),
        (Fault.context_length(), 400), (Fault.content_policy(), 400), (Fault.error(418, "tea", headers={"x-a": "b"}), 418),
    ],
)  # fmt: skip
def test_every_status_can_be_had(client: httpx.Client, fault: Fault, status: int) -> None:
    with FaultyServer(faults=fault) as server:
        response = ask(client, server)
        assert response.status_code == status
        assert not fault.paid
        assert response.headers.get("x-a") == ("b" if status == 418 else None)


def test_a_careless_provider_repeats_the_key(client: httpx.Client) -> None:
    with FaultyServer(faults=[Fault.wrong_key(echo=True), Fault.wrong_key()]) as server:
        assert KEY in ask(client, server).text
        assert KEY not in ask(client, server).text


def test_a_redirect_leads_to_an_answer(client: httpx.Client) -> None:
    with FaultyServer("there", faults=Fault.redirect()) as server:
        assert ask(client, server).status_code == 307
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        assert said(client.post(f"{server.url}/chat/completions", json=body, follow_redirects=True)) == "there"
    with FaultyServer(faults=Fault.redirect("http://other.example/v1")) as server:
        assert ask(client, server).headers["location"] == "http://other.example/v1"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [None, 0, 1])
def test_a_hanging_answer_can_be_released(client: httpx.Client, stream: bool, after: int | None) -> None:
    with FaultyServer("one two", faults={1: Fault.hang(after)}) as server:
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(ask(client, server, stream=stream)))
        thread.start()
        assert server.reached(1)
        assert server.counts.answered == 0
        server.release()
        thread.join()
        assert server.idle()
        assert "one " in answers[0].text


def test_closing_ends_what_hangs(client: httpx.Client) -> None:
    server = FaultyServer(faults=Fault.hang()).start()
    failed: list[Exception] = []

    def call() -> None:
        try:
            ask(client, server)
        except httpx.TransportError as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert server.reached(1)
    server.close()
    server.close()
    thread.join()
    assert failed
    assert server.counts.abandoned == 0
    assert not [t for t in threading.enumerate() if t.name == "dspex-faulty-server"]
    with pytest.raises(RuntimeError, match="make another"):
        server.start()


def test_a_client_that_leaves_is_noticed(client: httpx.Client) -> None:
    with FaultyServer("one two three", faults={1: Fault.hang(), 2: Fault.hang(after=1)}) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b'POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 17\r\n\r\n{"messages": [1]}')
            assert server.reached(1)
        assert server.abandoned(1)
        body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
        with client.stream("POST", f"{server.url}/chat/completions", json=body) as response:
            assert b"role" in next(response.iter_raw())
        assert server.abandoned(2)
        assert server.idle()
        assert (server.counts.answered, server.counts.abandoned) == (0, 2)


def test_an_answer_is_cut_or_reset(client: httpx.Client) -> None:
    with FaultyServer("one two three", faults=[Fault.cut(), Fault.reset(), Fault.reset(0)]) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="closed connection"):
            ask(client, server)
        for _ in range(2):
            with pytest.raises(httpx.NetworkError):
                ask(client, server)
        assert server.counts.connections == 3
        assert server.counts.paid == 2


@pytest.mark.parametrize(
    "fault", [Fault.cut(2), Fault.cut(2, clean=True), Fault.cut(99), Fault.error_event(2), Fault.bad_sse(2)]
)
def test_a_stream_is_broken_after_its_pieces(client: httpx.Client, fault: Fault) -> None:
    got = b""
    with FaultyServer("one two three", faults=fault) as server:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with client.stream("POST", f"{server.url}/chat/completions", json=body) as response:
            try:
                for data in response.iter_raw():
                    got += data
                ended = True
            except httpx.RemoteProtocolError:
                ended = False
    pieces = [word for word in ("one", "two", "three") if f'"content":"{word}'.encode() in got]
    assert pieces == ["one", "two", "three"] if fault.after == 99 or fault.kind == "bad_sse" else ["one", "two"]
    assert ended == (fault.kind != "cut" or fault.variant == "clean")
    assert (b"[DONE]" in got) == (fault.kind == "bad_sse")
    assert (b'"error"' in got) == (fault.kind == "error_event")


def test_a_stale_connection_is_closed_after_its_answer(client: httpx.Client) -> None:
    with FaultyServer(faults={1: Fault.stale(), 3: Fault.stale()}) as server:
        assert ask(client, server).status_code == 200
        assert server.disconnected()
        assert ask(client, server, stream=True).status_code == 200
        assert ask(client, server, stream=True).status_code == 200
        assert server.counts.connections == 2


def test_the_body_drips_byte_by_byte_and_a_gate_holds_each(client: httpx.Client) -> None:
    gate = Gate()
    with FaultyServer("x", faults=[Fault.drip(), Fault.drip(gate), Fault.drip(), Fault.drip(gate)]) as server:
        assert said(ask(client, server)) == "x"
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        with client.stream("POST", f"{server.url}/chat/completions", json=body) as response:
            data = response.iter_raw()
            gate.open(1)
            assert next(data) == b"{"
            gate.open(1)
            assert next(data) == b'"'
            gate.open()
            assert b"".join(data).endswith(b"}")
        assert chunks(ask(client, server, stream=True))
        assert chunks(ask(client, server, stream=True))


@pytest.mark.parametrize(
    ("fault", "holds"),
    [
        (Fault.garbage(), lambda body: body == Fault.garbage().message),
        (Fault.bad_sse(), lambda body: body.startswith('{"id"') and not body.endswith("}")),
        (Fault.empty("body"), lambda body: body == ""),
        (Fault.empty("choices"), lambda body: json.loads(body)["choices"] == []),
        (Fault.empty("no_choices"), lambda body: "choices" not in json.loads(body)),
        (Fault.empty("content"), lambda body: json.loads(body)["choices"][0]["message"]["content"] == ""),
        (Fault.empty("null"), lambda body: json.loads(body)["choices"][0]["message"]["content"] is None),
        (Fault.usage("missing"), lambda body: "usage" not in json.loads(body)),
        (Fault.usage("null"), lambda body: json.loads(body)["usage"] is None),
        (Fault.usage("negative"), lambda body: json.loads(body)["usage"]["prompt_tokens"] < 0),
        (Fault.usage("nonsense"), lambda body: json.loads(body)["usage"]["prompt_tokens"] == "many"),
        (Fault.usage("partial"), lambda body: list(json.loads(body)["usage"]) == ["total_tokens"]),
        (Fault.schema_ignored("so"), lambda body: json.loads(body)["choices"][0]["message"]["content"] == "so"),
        (Fault.error_event(), lambda body: "error" in json.loads(body)),
        (Fault.refusal("no"), lambda body: json.loads(body)["choices"][0]["message"] == REFUSED),
        (Fault.content_filter(), lambda body: json.loads(body)["choices"][0]["finish_reason"] == "content_filter"),
        (Fault.huge(300_000), lambda body: len(json.loads(body)["choices"][0]["message"]["content"]) == 300_000),
    ],
)
def test_what_stands_in_an_answer_can_be_wrong(client: httpx.Client, fault: Fault, holds: Any) -> None:
    with FaultyServer("one two three", faults=fault) as server:
        response = ask(client, server)
        assert response.status_code == 200
        assert holds(response.text)
        assert server.counts.paid == 1


REFUSED = {"role": "assistant", "content": None, "refusal": "no"}


@pytest.mark.parametrize("what", ["choices", "no_choices", "body", "garbage", "refusal", "huge"])
def test_a_stream_can_be_as_empty_or_as_wrong(client: httpx.Client, what: str) -> None:
    fault = {"garbage": Fault.garbage(), "refusal": Fault.refusal("no no"), "huge": Fault.huge(200_000)}.get(what)
    with FaultyServer("one", faults=fault or Fault.empty(what)) as server:  # type: ignore[arg-type]
        text = ask(client, server, stream=True).text
    assert '"content":"one"' not in text
    assert (text == "") == (what == "body")
    assert text.count("xxx") > 0 if what == "huge" else '"refusal":"no "' in text if what == "refusal" else True


def test_embeddings_and_models_fail_too(client: httpx.Client) -> None:
    faults = [Fault.empty(), Fault.usage("negative"), Fault.cut(), Fault.server_error()]
    with FaultyServer(faults=faults) as server:
        url, body = f"{server.url}/embeddings", {"model": "m", "input": "x"}
        assert client.post(url, json=body).json()["data"] == []
        assert client.post(url, json=body).json()["usage"]["total_tokens"] <= 0
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(url, json=body)
        assert client.get(f"{server.url}/models").status_code == 500


# When faults come.


def test_faults_come_by_number_in_turn_by_function_or_always(client: httpx.Client) -> None:
    down = Fault.server_error()
    plans: list[Any] = [{2: down}, [None, down], lambda a: down if a.number == 2 else None]
    for plan in plans:
        with FaultyServer(faults=plan) as server:
            assert [ask(client, server).status_code for _ in range(3)] == [200, 500, 200]
    with FaultyServer(faults=down) as server:
        assert [ask(client, server).status_code for _ in range(2)] == [500, 500]


def test_faults_by_chance_are_the_same_for_the_same_seed(client: httpx.Client) -> None:
    def codes(seed: int) -> list[int]:
        with FaultyServer(chances={Fault.server_error(): 0.3, Fault.rate_limit(): 0.2}, seed=seed) as server:
            return [ask(client, server).status_code for _ in range(60)]

    first = codes(1)
    assert first == codes(1) != codes(2)
    assert {200, 429, 500} == set(first)


@pytest.mark.parametrize(
    "wrong",
    [
        {"chances": {Fault.server_error(): 1.5}},
        {"chances": {Fault.server_error(): 0.7, Fault.rate_limit(): 0.7}},
        {"outages": [(2, 1)]},
        {"faults": 500},
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        FaultyServer(**wrong)


def test_outages_follow_the_clock_or_the_hand(client: httpx.Client) -> None:
    now = 0.0
    with FaultyServer(outages=[(10, 20), (30, 31)], clock=lambda: now) as server:
        seen = []
        for now in (9.9, 10, 19.9, 20, 30.5):  # noqa: B007 - the server reads it
            seen.append(ask(client, server).status_code)
        assert seen == [200, 503, 503, 200, 503]
        assert [a.at for a in server.requests] == [9.9, 10, 19.9, 20, 30.5]
        now = 50
        server.outage()
        assert ask(client, server).status_code == 503
        server.outage(Fault.reset())
        with pytest.raises(httpx.NetworkError):
            ask(client, server)
        server.recover()
        assert ask(client, server).status_code == 200
