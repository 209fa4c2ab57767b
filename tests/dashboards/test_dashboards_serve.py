"""The served page: at which address, for whom, live over its web socket, and gone when it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import html
import http.client
import socket
import stat
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from bokeh.client import pull_session
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from dspex_lab import dashboards
from dspex_lab.dashboards._serve import Served, _quiet
from dspex_lab.errors import ConfigurationError


@pytest.fixture
def served(lab) -> Iterator[Served]:
    with dashboards.serve(lab, refresh=0.01) as served:
        yield served


def _get(served: Served, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _path(served: Served) -> str:
    return urlsplit(served.url).path


def test_the_address_is_loopback_with_a_token_that_is_never_the_same(lab, served) -> None:
    parts = urlsplit(served.url)
    assert (parts.scheme, parts.hostname, parts.port) == ("http", "127.0.0.1", served.port)
    assert len(parts.path.strip("/")) >= 43  # 32 random bytes
    with dashboards.serve(lab) as other:
        assert urlsplit(other.url).path != parts.path
        assert other.port != served.port


def test_it_listens_on_loopback_only(served) -> None:
    assert served._socket.getsockname() == ("127.0.0.1", served.port)


def test_the_page_is_answered_and_names_no_other_host(lab, served) -> None:
    status, page = _get(served, _path(served))
    assert status == 200
    assert "tickets.ipynb" in page
    assert "http://" not in page
    assert "https://" not in page
    for file in ("favicon.ico", "static/js/bokeh.min.js", "static/extensions/panel/panel.min.js"):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        connection.request("GET", _path(served) + file)
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize(
    "path", ["/", "/?token=x", "/autoload.js", "/static/js/bokeh.min.js", "/favicon.ico", "//", "/ws", "/metadata"]
)
def test_nothing_is_answered_without_the_token(served, path: str) -> None:
    status, text = _get(served, path)
    assert status == 403
    assert "including its token" in text


def test_nearly_the_token_is_not_the_token(served) -> None:
    path = _path(served).rstrip("/")
    for wrong in (path[:-1], path + "x", path.upper(), "/x" + path, "/" + "%C3%A9" * 43):
        assert _get(served, wrong)[0] == 403


def test_only_our_own_host_and_origin_are_answered(served) -> None:
    path, port = _path(served), served.port
    assert _get(served, path, Host=f"localhost:{port}")[0] == 200
    assert _get(served, path, Origin=f"http://127.0.0.1:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert _get(served, path, Host=host)[0] == 403
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}", "http://127.0.0.1:1"):
        assert _get(served, path, Origin=origin)[0] == 403


def test_no_cookie_is_set(served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", _path(served))
    assert connection.getresponse().getheader("Set-Cookie") is None
    connection.close()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", None])
def test_a_web_socket_needs_token_and_origin_too(served, origin: str | None) -> None:
    path = _path(served) if origin else "/"
    request = HTTPRequest(f"ws://127.0.0.1:{served.port}{path}ws", headers={"Origin": origin} if origin else {})

    async def connect() -> None:
        await websocket_connect(request, subprotocols=["bokeh", "token"])

    with pytest.raises(HTTPClientError) as caught:
        asyncio.run(connect())
    assert caught.value.code == 403


@contextlib.contextmanager
def _opened(served: Served, session_id: str | None = None) -> Iterator[Any]:
    session = pull_session(url=served.url.rstrip("/"), session_id=session_id)
    try:
        yield session
    finally:
        session.close()


def _texts(session: Any) -> str:
    from panel.models.markup import HTML

    return "\n".join(str(model.text) for model in session.document.select({"type": HTML}))


def test_an_open_page_follows_the_store(lab, served, eventually) -> None:
    with _opened(served) as session:
        assert "Nothing has run yet" in _texts(session)
        lab.run("fresh", status="failed", error="<b>bad</b>")

        def arrived() -> bool:
            with _opened(served, session.id) as again:  # a second look at the same page; to pull again would write to it
                return html.escape("<b>1</b><span>runs") in _texts(again)

        eventually(arrived)
        assert len(served._pages) == 1


def test_each_page_has_its_own_filters(lab, served) -> None:
    with _opened(served), _opened(served):
        assert len(served._pages) == 2
        assert len({id(page.filters) for page in served._pages}) == 2


def test_stopping_leaves_no_thread_no_port_and_no_page(lab) -> None:
    before = set(threading.enumerate())
    served = dashboards.serve(lab, refresh=0.01)
    session = pull_session(url=served.url.rstrip("/"))
    (page,) = served._pages
    assert served.running
    assert page.live
    lab.run()
    served.stop()
    served.stop()
    assert not served.running
    assert not page.live
    assert not any(t.name.startswith("dspex-dashboard") for t in set(threading.enumerate()) - before)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port))
    lab.run()  # the store goes on, with nobody told
    session.close()


def test_a_port_may_be_chosen_and_a_taken_one_is_said(lab, served) -> None:
    with pytest.raises(ConfigurationError, match=str(served.port)) as caught:
        dashboards.serve(lab, served.port)
    assert caught.value.key == "port"
    for wrong in (-1, 70_000, "80", True):
        with pytest.raises(ConfigurationError, match="cannot be served"):
            dashboards.serve(lab, wrong)
    port = served.port
    served.stop()
    with dashboards.serve(lab, port) as again:
        assert again.port == port


def test_the_browser_is_led_there_without_the_token_on_a_command_line(lab, monkeypatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    with dashboards.serve(lab, open=True) as served:
        assert served.open()
        assert len(set(opened)) == 1
        file = Path(urlsplit(opened[0]).path)
        assert _path(served).strip("/") not in opened[0]
        assert served.url in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not file.exists()


def test_in_a_notebook_it_shows_as_a_link(served) -> None:
    assert f'href="{served.url}"' in served._repr_html_()
    assert served.url in repr(served)
    served.stop()
    assert "stopped" in repr(served)
    assert served.url not in served._repr_html_()


def test_a_server_that_cannot_start_says_why(lab, monkeypatch) -> None:
    monkeypatch.setattr("dspex_lab.dashboards._serve.DIST_DIR", None)
    with pytest.raises(TypeError):
        dashboards.serve(lab)


def test_a_message_to_a_page_just_closed_is_no_error_but_others_are(caplog) -> None:
    from tornado.websocket import WebSocketClosedError

    loop = asyncio.new_event_loop()
    _quiet(loop, {"message": "late", "exception": WebSocketClosedError()})
    assert caplog.text == ""
    _quiet(loop, {"message": "true trouble", "exception": ValueError("x")})
    assert "true trouble" in caplog.text
    loop.close()
