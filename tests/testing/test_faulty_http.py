"""The faulty server's HTTP: requests are read however their bytes arrive, and bytes that are none do no harm."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.testing import Fault, FaultyServer
from dspex_lab.testing._faulty_http import BadRequest, Parser

BODY = b'{"messages":[{"role":"user","content":"x"}]}'
PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = (
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:]
) + b"\r\n0\r\n\r\n"
GET = b"GET /v1/models HTTP/1.1\r\n\r\n"


def taken(parser: Parser) -> list[tuple[str, str, bytes]]:
    found = []
    while (request := parser.take()) is not None:
        found.append((request[0].method, request[0].path, request[1]))
    return found


@given(st.lists(st.sampled_from([PLAIN, CHUNKED, GET]), max_size=4), st.data())
def test_requests_are_read_in_whatever_pieces_they_come(requests: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parser, found = Parser(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        parser.feed(whole[start:end])
        found += taken(parser)
    expected = {PLAIN: ("POST", "/v1/chat/completions", BODY), CHUNKED: ("POST", "/c", BODY), GET: ("GET", "/v1/models", b"")}
    assert found == [expected[request] for request in requests]


@given(st.binary(max_size=300))
def test_bytes_that_are_no_request_are_refused_or_waited_for(data: bytes) -> None:
    parser = Parser()
    parser.feed(data + b"\r\n\r\n")
    with contextlib.suppress(BadRequest):  # and nothing else
        taken(parser)


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\n",
        b"x" * ((64 << 10) + 1),  # no byte is left unread when it closes: that would reset the connection, and lose the answer
    ],
)
def test_a_connection_with_such_bytes_is_told_and_closed(data: bytes) -> None:
    with FaultyServer() as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert server.counts.arrived == 0


def test_requests_in_a_row_are_answered_in_their_order() -> None:
    with FaultyServer() as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        connection.sendall(PLAIN + GET + last)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert [f"req-{number}".encode() in answer for number in (1, 2, 3)] == [True] * 3
    assert answer.index(b"chat.completion") < answer.index(b'"object":"list"')


def test_it_listens_on_this_machine_alone() -> None:
    with FaultyServer() as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.port > 0


def test_a_huge_answer_waits_for_its_reader() -> None:
    with FaultyServer(faults=Fault.huge(24 << 20)) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(PLAIN.replace(b"Host: h", b"Connection: close"))
        assert server.flying(1)
        size = 0
        while piece := connection.recv(1 << 20):
            size += len(piece)
        assert size > 24 << 20
        assert server.idle()


def test_a_script_that_does_not_return_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    going = threading.Event()
    server = FaultyServer(lambda arrival: "x" if going.wait(30) else "y").start()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(PLAIN)
        assert server.reached(1)
        monkeypatch.setattr("dspex_lab.testing._faulty._START_TIMEOUT", 0.05)  # now that it has started
        with pytest.raises(RuntimeError, match="does not return"):
            server.close()
        going.set()
        monkeypatch.undo()
        server.close()
