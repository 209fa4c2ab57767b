"""Who may ask, how much and how fast; what is malformed; and clients that are slow or never end."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest
from web_helpers import LONG, Held, ask, chat, head, line, same, together, until, until_closed

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.web import serve
from dspex_lab.web._server import TOKEN, Served

ECHO = {"echo": dx.pipeline("echo", out=dx.step(same))}


@pytest.fixture
def served(serving: Callable[..., Served]) -> Served:
    return serving(ECHO)


def error(body: Any) -> dict[str, Any]:
    """Return the error of a body, which has OpenAI's shape."""
    assert sorted(body["error"]) == ["code", "message", "param", "type"]
    assert body["error"]["message"]
    return body["error"]


# ---- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/api/runs/x", "/api/jobs", "/metrics", "/nowhere"])
@pytest.mark.parametrize("shown", ["", "x" * 43, "nearly"])
def test_nothing_is_said_without_the_token(served: Served, path: str, shown: str) -> None:
    wrong = served.token[:-1] if shown == "nearly" else shown
    status, headers, body = ask(served, "GET", path, token=wrong)
    assert (status, headers["www-authenticate"], error(body)["code"]) == (401, "Bearer", "invalid_api_key")
    status, _, body = ask(served, "GET", path, Authorization=f"Basic {served.token}")
    assert status == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"])
def test_what_says_nothing_of_the_lab_is_open(served: Served, path: str) -> None:
    assert ask(served, "GET", path, token="")[0] == 200


def test_the_pages_of_the_description_need_no_other_host(served: Served) -> None:
    for page in ("/docs", "/redoc"):
        text = ask(served, "GET", page, token="")[2]
        assert "http://" not in text.replace(served.url, "")
        assert "https://" not in text
        for part in text.split('"'):
            if part.startswith("/static-offline-docs/"):
                with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=LONG)) as connection:
                    connection.request("GET", part)
                    assert connection.getresponse().status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_only_its_own_host_is_answered(served: Served, host: str) -> None:
    status, _, body = ask(served, "GET", "/healthz", Host=host.format(port=served.port))
    assert (status, error(body)["code"]) == (403, "wrong_host")


def test_further_hosts_are_answered_where_they_are_named(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, hosts=["Lab.example:8443"])
    assert ask(served, "GET", "/healthz", Host="lab.example:8443")[0] == 200
    assert ask(served, "GET", "/healthz", Host=f"localhost:{served.port}")[0] == 200
    assert ask(served, "GET", "/v1/models", Origin="https://lab.example:8443")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", ""])
def test_pages_of_other_sites_may_not_ask(served: Served, origin: str) -> None:
    status, _, body = ask(served, "POST", "/api/runs", {"text": "x"}, Origin=origin)
    assert (status, error(body)["code"]) == (403, "wrong_origin")
    assert ask(served, "POST", "/api/runs", {"text": "x"}, Origin=served.url)[0] == 202


def test_the_token_is_given_or_in_the_environment_or_made(
    serving: Callable[..., Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = serving(ECHO), serving(ECHO)
    assert len(first.token) >= 43
    assert first.token != second.token
    monkeypatch.setenv(TOKEN, first.token)
    assert serving(ECHO).token == first.token
    assert serving(ECHO, token=second.token).token == second.token
    for wrong in ("short", "with white space in it", "ütf-8-is-no-header-text"):
        with pytest.raises(ConfigurationError, match="The token"):
            serving(ECHO, token=wrong)


# ---- what ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("TRACE", "/healthz", 405),
        ("GET", "/api/runs/none", 404),
        ("GET", "/api/runs/none/events", 404),
        ("POST", "/api/runs/none/cancel", 404),
        ("GET", "/api/jobs/none", 404),
        ("GET", "/api/jobs/7", 404),
        ("GET", "/api/runs/%2e%2e%2fx", 404),
        ("GET", "/api/runs/a%20b", 422),
        ("GET", f"/api/runs/{'x' * 101}", 422),
        ("GET", f"/v1/models/{'x' * 201}", 422),
    ],
)
def test_what_is_not_there_is_said_in_openais_form(served: Served, method: str, path: str, status: int) -> None:
    found, headers, body = ask(served, method, path)
    assert (found, error(body)["type"]) == (status, "invalid_request_error")
    if status == 405:
        assert headers["allow"]


def test_head_gets_a_head_and_no_body(served: Served) -> None:
    status, headers, body = ask(served, "HEAD", "/v1/models")
    assert (status, body, headers["content-type"]) == (405, "", "application/json")


def deep(levels: int, around: str = "%s") -> bytes:
    return (around % ("[" * levels + "]" * levels)).encode()


RUN = '{"pipeline": "echo", "inputs": {"text": "x", "more": %s}}'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{bad", 400, "invalid_json"),
        (b"", 422, "invalid_request"),
        (b'{"text": "\xff"}', 400, "http_error"),
        (b"[]", 422, "invalid_request"),
        (b'"text"', 422, "invalid_request"),
        (b"null", 422, "invalid_request"),
        (b'{"text": 1}', 422, "invalid_request"),
        (b'{"pipeline": "echo"}', 422, "invalid_inputs"),
        (b'{"pipeline": "echo", "inputs": {}}', 422, "invalid_inputs"),
        (b'{"pipeline": "echo", "inputs": {"text": 5}}', 422, "invalid_inputs"),
        (b'{"pipeline": "eco", "text": "x"}', 404, "model_not_found"),
        (b'{"pipeline": "echo", "text": "x", "deadline": NaN}', 422, "invalid_request"),
        (b'{"pipeline": "echo", "text": "x", "deadline": 1e999}', 422, "invalid_request"),
        (b'{"pipeline": "echo", "text": "x", "tags": ["' + b"x" * 101 + b'"]}', 422, "invalid_request"),
        (b'{"pipeline": "echo", "text": "x", "more": 1}', 422, "invalid_request"),
        (deep(50, RUN), 422, "invalid_inputs"),
        (deep(500, RUN), 422, "invalid_request"),
        (deep(100_000, RUN), 400, "http_error"),
        (deep(100_000), 400, "http_error"),
        (b"[" * 1_000_000, 400, "http_error"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_what_is_wrong_and_nothing_runs(
    lab: dx.Lab, served: Served, body: bytes, status: int, code: str
) -> None:
    found, _, answer = ask(served, "POST", "/api/runs", body)
    assert (found, error(answer)["code"]) == (status, code), answer
    assert len(lab.sql("SELECT * FROM runs")) == 0
    assert ask(served, "GET", "/healthz")[0] == 200


def test_a_misfit_says_which_field_and_what_was_meant(served: Served) -> None:
    _, _, body = ask(served, "POST", "/api/runs", {"pipeline": "echo", "inputs": {"txt": "x"}})
    assert body["error"]["param"] == "inputs.txt"
    assert body["details"] == [
        {"field": "inputs.txt", "message": "is not an input. Did you mean 'text'?"},
        {"field": "inputs.text", "message": "is missing"},
    ]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_is_not_said_to_be_json_is_refused(served: Served, kind: str) -> None:
    status, _, body = ask(served, "POST", "/api/runs", b'{"text": "x"}', Content_Type=kind)
    assert (status, error(body)["code"]) == (415, "not_json")


# ---- how much --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/runs", "/healthz"])
def test_ten_megabytes_get_an_answer_that_arrives(served: Served, path: str) -> None:
    body = b'{"text": "' + b"x" * 10_000_000 + b'"}'
    with line(served) as connection:
        connection.sendall(head(served, path, length=len(body)) + body)
        assert until(connection, b"4,194,304 bytes").startswith(b"HTTP/1.1 413 ")
        connection.sendall(head(served, "/healthz", method="GET"))  # the connection can go on being used
        assert until(connection, b'"ok"').startswith(b"HTTP/1.1 200 ")


def test_a_body_as_large_as_allowed_is_taken_and_one_byte_more_is_not(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, largest=1000)
    body = b'{"pipeline":"echo","text":"' + b"x" * (1000 - 29) + b'"}'
    assert ask(served, "POST", "/api/runs", body)[0] == 202
    assert ask(served, "POST", "/api/runs", body + b" ")[0] == 413


def test_a_chunked_body_without_end_is_cut_off(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, largest=1_000, patience=1.0)
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    with line(served) as connection:
        connection.sendall(head(served, "/api/runs", "Transfer-Encoding: chunked") + chunk)

        def send() -> str:
            try:
                while True:
                    connection.sendall(chunk)
            except OSError as error:
                return type(error).__name__

        got, ended = together(lambda: until(connection, b"1,000 bytes"), send)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert ended in ("BrokenPipeError", "ConnectionResetError")
    assert ask(served, "GET", "/healthz")[0] == 200


# ---- how fast --------------------------------------------------------------------------------------------------------


def test_headers_that_dribble_are_given_up(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, patience=0.2)
    with line(served) as idle, line(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHos")
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")
        assert until_closed(idle).startswith(b"HTTP/1.1 408 ")


def test_headers_that_go_on_dribbling_are_given_up_all_the_same(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, patience=0.3)
    with line(served) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        connection.settimeout(0.02)
        got, sent = b"", 0
        while not got:
            try:
                got = connection.recv(1000)
            except TimeoutError:
                connection.sendall(b"X-%d: y\r\n" % sent)
                sent += 1
    assert got.startswith(b"HTTP/1.1 408 ")


def test_a_second_request_on_a_connection_is_waited_for_as_the_first(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, patience=2.0)
    with line(served) as connection:
        connection.sendall(head(served, "/healthz", method="GET"))
        until(connection, b'"ok"')
        connection.sendall(b"GET /healthz HT")
        assert until_closed(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_dribbles_is_given_up(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, patience=1.0)
    with line(served) as connection:
        connection.sendall(head(served, "/api/runs", length=100) + b'{"te')
        got = until_closed(connection)
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in got


def test_slow_ones_keep_nobody_waiting(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, patience=LONG, concurrency=1)
    with closing(ExitLines(served, 50)):
        assert chat(served, "x", model="echo")[0] == 200


class ExitLines:
    """Connections that send the first half of a request and no more."""

    def __init__(self, served: Served, number: int) -> None:
        self._open = [socket.create_connection(("127.0.0.1", served.port), timeout=LONG) for _ in range(number)]
        for at, connection in enumerate(self._open):
            connection.sendall(head(served, "/api/runs", length=10)[: None if at % 2 else 30])

    def close(self) -> None:
        for connection in self._open:
            connection.close()


@pytest.mark.parametrize("nonsense", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"GET /\r\n\r\n" * 3, b"A" * 200_000])
def test_what_is_no_http_is_refused(served: Served, nonsense: bytes) -> None:
    with line(served) as connection:
        connection.sendall(nonsense)
        with suppress(OSError):  # of so much the server may have had enough before this
            connection.shutdown(socket.SHUT_WR)
        assert until_closed(connection)[:12] in (b"HTTP/1.1 400", b"")
    assert ask(served, "GET", "/healthz")[0] == 200


def test_a_client_is_slowed_down_and_told_for_how_long(serving: Callable[..., Served]) -> None:
    served = serving(ECHO, rate="3/hour")
    for _ in range(3):
        assert ask(served, "GET", "/v1/models")[0] == 200
    status, headers, body = ask(served, "GET", "/v1/models")
    assert (status, error(body)["type"], error(body)["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert 3_000 < int(headers["retry-after"]) <= 3_600
    assert ask(served, "GET", "/healthz")[0] == 200
    assert ask(served, "GET", "/v1/models", token="x" * 40)[0] == 401


def test_more_than_may_wait_are_told_to_come_again(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    held = Held()
    served = serving({"held": dx.pipeline("held", out=dx.step(held.step))}, concurrency=1, waiting=0)

    def second() -> Any:
        held.begun.get(timeout=LONG)
        answers = [chat(served, "b", model="held", stream=stream) for stream in (False, True)]
        answers.append(ask(served, "POST", "/api/runs", {"pipeline": "held", "text": "b"}))
        held.let_go()
        return answers

    first, refused = together(lambda: chat(served, "a", model="held"), second)
    assert first[0] == 200
    for status, headers, body in refused:
        assert (status, headers["retry-after"], error(body)["code"]) == (503, "1", "overloaded")
    assert chat(served, "c", model="held")[0] == 200  # no place was lost
    assert "dspex_running 0.0" in ask(served, "GET", "/metrics")[2]


def test_what_happened_is_counted(serving: Callable[..., Served]) -> None:
    served = serving(ECHO)
    chat(served, "x", model="echo")
    ask(served, "GET", "/v1/models", token="")
    ask(served, "GET", "/nowhere")
    status, headers, text = ask(served, "GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    for counted in (
        'dspex_requests_total{route="/v1/chat/completions",status="200"} 1.0',
        'dspex_requests_total{route="none",status="401"} 1.0',
        'dspex_requests_total{route="none",status="404"} 1.0',
        'dspex_answers_total{pipeline="echo",status="complete"} 1.0',
        'dspex_answer_seconds_count{pipeline="echo"} 1.0',
        "dspex_open_streams 0.0",
    ):
        assert counted in text


def test_it_is_ready_while_there_is_something_to_serve(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    served = serving()
    status, _, body = ask(served, "GET", "/readyz", token="")
    assert (status, error(body)["code"]) == (503, "not_ready")
    status, _, body = chat(served, "x")
    assert (status, error(body)["code"]) == (404, "model_not_found")
    lab.pipelines["echo"] = ECHO["echo"]  # a cell defines it later
    assert ask(served, "GET", "/readyz", token="")[2] == {"status": "ready"}
    assert chat(served, "x")[2]["dspex"]["routed_by"] == "only one"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"port": -1}, "a port is a whole number"),
        ({"port": True}, "a port is a whole number"),
        ({"host": "256.0.0.1"}, "Nothing can be served on port 0 of 256.0.0.1"),
        ({"rate": "fast"}, "'fast' is no rate of requests"),
        ({"pipelines": ["eco"]}, "There is no pipeline 'eco'. Did you mean 'echo'"),
        ({"descriptions": {"nobody": "x"}}, "There is no pipeline 'nobody'"),
        ({"fallbacks": {"echo": ["eco"]}}, "There is no pipeline 'eco'. Did you mean 'echo'"),
        *(({key: wrong}, f"{key}={wrong}") for key in ("concurrency", "largest", "patience", "deadline") for wrong in (0, -1)),
        ({"waiting": -1}, "waiting=-1"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_listens(lab: dx.Lab, how: dict[str, Any], message: str) -> None:
    lab.pipelines.update(ECHO)
    with pytest.raises(ConfigurationError, match=message):
        serve(lab, **{"chat": False, **how})


def test_a_port_that_is_taken_is_named(lab: dx.Lab, served: Served) -> None:
    with pytest.raises(ConfigurationError, match=f"port {served.port} of 127.0.0.1"):
        serve(lab, port=served.port, chat=False)


def test_an_ipv6_address_is_served_under_its_name(serving: Callable[..., Served]) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    served = serving(ECHO, host="::1")
    assert served.url == f"http://[::1]:{served.port}"
    with closing(http.client.HTTPConnection("::1", served.port, timeout=LONG)) as connection:
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def test_it_listens_on_the_loopback_only(served: Served) -> None:
    assert served._socket.getsockname()[0] == "127.0.0.1"
