"""The board in a real browser, before the real Python half: what a person does there arrives, what happens is seen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from clocks import eventually

import dspex_lab
from dspex_lab.events import Bus
from dspex_lab.variables import Author, Space
from dspex_lab.widgets import VariableBoard

STATIC = Path(dspex_lab.__file__).parent / "static"
EVIL = "<img src=x onerror=document.title='broken'>"

#: In the place of a notebook's connection to its kernel: traits are fetched, messages sent.
PAGE = """<!doctype html><title>board</title><meta charset="utf-8">
<link rel="stylesheet" href="/board.css"><div id="here"></div>
<script type="module">
import board from "/board.js";
let state = await (await fetch("/state")).json();
const told = {};
const model = {
  get: (name) => state[name],
  on: (event, f) => (told[event] ??= []).push(f),
  off() {},
  send: (message) => fetch("/send", { method: "POST", body: JSON.stringify(message) }),
};
board.render({ model, el: document.getElementById("here") });
for (;;) {
  const now = await (await fetch("/state")).json();
  const changed = Object.keys(now).filter((name) => JSON.stringify(now[name]) !== JSON.stringify(state[name]));
  state = now;
  for (const name of changed) for (const f of told[`change:${name}`] ?? []) f();
  await new Promise((done) => setTimeout(done, 20));
}
</script>"""


@pytest.fixture
def space() -> Space:
    made = Space()
    made.float("t", 0.0, 1.5, default=0.5, step=0.25)
    made.choice("style", ["brief", EVIL])
    made.bool("on")
    made.text("words", EVIL)
    made.constrain("t < 1", name="small")
    return made


@pytest.fixture
def url(space: Space) -> Iterator[str]:
    board = VariableBoard(space, bus=Bus(), person="ada")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kinds = {".js": "text/javascript", ".css": "text/css"}
            if self.path == "/":
                kind, body = "text/html", PAGE
            elif self.path == "/state":
                kind, body = "application/json", json.dumps({n: getattr(board, n) for n in ("rows", "head", "answered")})
            else:
                file = STATIC / Path(self.path).name
                kind, body = kinds.get(file.suffix, "text/plain"), file.read_text("utf-8") if file.is_file() else ""
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            board._message(None, json.loads(self.rfile.read(int(self.headers["Content-Length"]))), None)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
    board.close()


def test_a_person_turns_the_knobs_and_sees_what_came_of_it(space: Space, url: str, browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    browser.get(url)

    def row(name: str) -> Any:
        return browser.find_element("css selector", f'[data-variable="{name}"]')

    def text_of(name: str, part: str) -> str:
        return str(row(name).find_element("css selector", part).text)

    eventually(lambda: browser.find_elements("css selector", "[data-variable]"))
    slider = row("t").find_element("css selector", "input[type=range]")
    assert (slider.get_attribute("max"), slider.get_attribute("value")) == ("6", "2")

    slider.send_keys(Keys.ARROW_RIGHT)
    eventually(lambda: space["t"].value == 0.75)
    record = space.history("t")[0]
    assert (record.who, record.author) == ("person", "ada")
    eventually(lambda: text_of("t", ".dspex-value") == "0.75")
    assert not row("t").find_element("css selector", ".dspex-refused").is_displayed()

    slider.send_keys(Keys.ARROW_RIGHT)
    refused = eventually(lambda: text_of("t", ".dspex-refused"))
    assert "small" in refused
    assert space["t"].value == 0.75
    eventually(lambda: slider.get_attribute("value") == "3" and text_of("t", ".dspex-value") == "0.75")

    Select(row("style").find_element("css selector", "select")).select_by_index(1)
    row("on").find_element("css selector", "input[type=checkbox]").click()
    eventually(lambda: space["style"].value == EVIL and space["on"].value)

    space.commit({"t": 0.25}, author=Author("optimizer", "gepa-1", "clearer", 0.9))
    eventually(lambda: text_of("t", ".dspex-by") == "optimizer gepa-1: clearer")
    assert slider.get_attribute("value") == "1"
    assert text_of("t", ".dspex-score") == "0.9"

    row("t").find_element("css selector", ".dspex-pin").click()
    eventually(lambda: space["t"].pinned)
    eventually(lambda: not slider.is_enabled())
    assert browser.title == "board"
    assert not browser.find_elements("css selector", "img")
    assert [
        entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ] == []
