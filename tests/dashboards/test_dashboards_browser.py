"""The served page in a real browser: what is read there, and that the browser asks nobody else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from dspex_lab import dashboards

EVIL = "<img src=x onerror=document.title='broken'>"
ALL_TEXT = """
const parts = [];
const walk = (node) => {
  if (node.nodeType === Node.TEXT_NODE) parts.push(node.textContent);
  if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
  if (!["STYLE", "SCRIPT"].includes(node.nodeName)) node.childNodes.forEach(walk);
};
walk(document.body);
return parts.join(" ");
"""
ALL_OF = """
const found = [];
const walk = (node) => {
  if (node.matches && node.matches(arguments[0])) found.push(node);
  if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
  node.childNodes.forEach(walk);
};
walk(document.body);
return found;
"""


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    selenium = pytest.importorskip("selenium", reason="Selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium and its chromedriver are not installed (Debian: chromium and chromium-driver)")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    webdriver = __import__("selenium.webdriver").webdriver
    assert selenium
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = "no-first-run disable-background-networking disable-component-update disable-sync disable-quic no-proxy-server"
    for flag in f"headless=new no-sandbox disable-gpu disable-dev-shm-usage window-size=1400,1200 {quiet}".split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        yield chrome
    finally:
        chrome.quit()


def _asked(browser: Any) -> set[str]:
    """Return all addresses that the page asked for, web sockets included."""
    found = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.add(message["params"]["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            found.add(message["params"]["url"])
    return {url for url in found if urlsplit(url).scheme in ("http", "https", "ws", "wss")}


def test_a_person_sees_runs_charts_and_detail_and_nobody_else_is_asked(lab, browser, eventually) -> None:
    lab.run("quiet run", error=EVIL, error_step="triage", status="failed")
    with dashboards.serve(lab, refresh=0.05) as served:
        browser.get(served.url)
        eventually(lambda: "quiet run" in browser.execute_script(ALL_TEXT))
        eventually(lambda: len(browser.execute_script(ALL_OF, "canvas.marks, svg.marks")) == 3)

        lab.run(EVIL)
        eventually(lambda: EVIL in browser.execute_script(ALL_TEXT))
        row = eventually(lambda: [r for r in browser.execute_script(ALL_OF, ".tabulator-row") if "quiet run" in r.text])[0]
        row.click()
        eventually(lambda: "Calls of language models (1)" in browser.execute_script(ALL_TEXT))
        eventually(lambda: len(browser.execute_script(ALL_OF, "canvas.marks, svg.marks")) == 4)

        assert "Where is my <card>?" in browser.execute_script(ALL_TEXT)
        assert not browser.execute_script(ALL_OF, "img[src=x]")
        assert browser.title == "tickets.ipynb · dspex_lab"
        asked = _asked(browser)
        assert any(url.startswith("ws://") for url in asked)
        assert {urlsplit(url).netloc for url in asked} == {f"127.0.0.1:{served.port}"}
        said = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert said == []
        browser.get("about:blank")
