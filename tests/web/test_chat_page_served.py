"""The chat page's address: who gets in, and how long it is there."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from bokeh.client import pull_session
from chat_helpers import count

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.errors import ConfigurationError
from dspex_lab.web import serve


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(":memory:") as made:
        made.pipelines["words"] = dx.pipeline("words", n=dx.step(count))
        yield made


def status(port: int, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_it_has_an_address_of_its_own_which_is_shown(lab: Lab) -> None:
    with serve(lab) as served:
        parts = urlsplit(served.chat)
        assert parts.hostname == "127.0.0.1"
        assert parts.port != served.port
        assert served.token not in served.chat
        assert served.chat in served._repr_html_()
        assert status(parts.port, parts.path) == 200
        assert status(parts.port, f"{parts.path}favicon.ico") == 200


def test_only_who_knows_the_address_gets_in(lab: Lab) -> None:
    with serve(lab) as served:
        parts = urlsplit(served.chat)
        for path in ("/", "/ws", "/static/js/bokeh.min.js", f"/{served.token}/"):
            assert status(parts.port, path) == 403
        assert status(parts.port, parts.path, Host="evil.example") == 403
        assert status(parts.port, parts.path, Origin="http://evil.example") == 403


def test_each_window_has_a_conversation_of_its_own_and_all_end_with_the_server(lab: Lab) -> None:
    before = set(threading.enumerate())
    with serve(lab) as served:
        address = served.chat
        sessions = [pull_session(url=address.rstrip("/")) for _ in range(2)]
        assert sessions[0].id != sessions[1].id
        for session in sessions:
            session.close()
    left = set(threading.enumerate()) - before
    assert [thread.name for thread in left if "chat" in thread.name or "web" in thread.name] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(address).port))


def test_without_it_panel_is_not_even_loaded() -> None:
    code = (
        "import sys, dspex_lab as dx\n"
        "from dspex_lab.web import serve\n"
        "with dx.Lab(':memory:') as lab, serve(lab, chat=False) as served:\n"
        "    print(served.chat, 'panel' in sys.modules, 'href' in served._repr_html_().replace('/docs', ''))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["None", "False"]


def test_where_panel_is_missing_it_is_said_and_nothing_is_left_serving(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    monkeypatch.setitem(sys.modules, "markdown_it", None)
    with pytest.raises(ConfigurationError, match="for the chat page"):
        serve(lab)
    assert set(threading.enumerate()) <= before


def test_a_page_that_cannot_start_takes_the_server_with_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_lab.web._chat_page.DIST_DIR", None)
    with pytest.raises(TypeError):
        serve(lab)
    assert not [thread for thread in threading.enumerate() if thread.name == "dspex-web"]
