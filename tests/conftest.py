"""What every test has: a home, a working folder and an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Notebooks run in kernels of their own, which fixtures do not reach: they get a store and a cache that vanish."""
    os.environ["DSPEX_STORE"] = ":memory:"
    os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="dspex-cache-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache of the notebooks."""
    shutil.rmtree(os.environ["DSPY_CACHEDIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, caches and the current folder of the person who runs the tests are out of reach."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith("DSPEX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path / "dspy_cache"))
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # nothing is fetched
    monkeypatch.chdir(tmp_path)


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


@pytest.fixture
def asked() -> Callable[[Any], set[str]]:
    """What a browser's page asked for, as a function of the browser."""
    return _asked
