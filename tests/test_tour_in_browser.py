"""The tour as a person meets it: in a real JupyterLab, in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clocks import eventually

import dspex_lab as dx

IDLE = "return window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
PROMPTS = "return [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent)"
ERRORS = "return [...document.querySelectorAll('.jp-RenderedText[data-mime-type*=stderr], .jp-OutputArea-output[data-mime-type*=error]')].map(e => e.innerText)"  # noqa: E501


@pytest.fixture
def jupyterlab(tmp_path: Path) -> Iterator[str]:
    """A JupyterLab on the loopback with the tour in its folder; its address."""
    shutil.copyfile(dx.shipped("notebooks/00_tour.ipynb"), tmp_path / "00_tour.ipynb")
    settings = tmp_path / "settings" / "@jupyterlab"
    for name, values in (
        ("notebook-extension/tracker", {"windowingMode": "none"}),
        ("apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}),
    ):
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / f"{name}.jupyterlab-settings").write_text(json.dumps(values))
    folders = {f"JUPYTER_{k}_DIR": str(tmp_path / k) for k in ("CONFIG", "DATA", "RUNTIME")}
    environment = {
        **os.environ,
        **folders,
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(tmp_path / "workspaces")
    flags = f"--no-browser --allow-root --ip=127.0.0.1 --port=0 --ServerApp.root_dir={tmp_path} --IdentityProvider.token="
    flags += " --ServerApp.disable_check_xsrf=True --LabApp.expose_app_in_browser=True"
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *flags.split()],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    told = tmp_path / "RUNTIME" / f"jpserver-{server.pid}.json"  # the port that it has found

    def up() -> str | None:
        assert server.poll() is None, "JupyterLab did not start"
        try:
            address = json.loads(told.read_text())["url"].rstrip("/")
            urllib.request.urlopen(f"{address}/api", timeout=5).close()  # noqa: S310 - our own address
        except (OSError, ValueError):
            return None  # the file is not there yet, or not whole
        return str(address)

    try:
        yield eventually(up, 240)
    finally:
        server.terminate()
        server.wait(120)


def test_the_tour_runs_in_jupyterlab_and_asks_nobody_outside(
    jupyterlab: str, browser: Any, asked: Callable[[Any], set[str]]
) -> None:
    browser.set_script_timeout(240)
    browser.get(f"{jupyterlab}/lab/tree/00_tour.ipynb?reset")
    eventually(lambda: browser.execute_script(IDLE), 240)
    browser.execute_async_script(
        "window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => arguments[0](), () => arguments[0]())"
    )
    prompts = eventually(lambda: (p := browser.execute_script(PROMPTS)) and not any("*" in x for x in p) and p, 240)
    assert prompts == [f"[{i}]:" for i in range(1, len(prompts) + 1)], "every cell ran, in order"
    assert browser.execute_script(ERRORS) == []
    text = browser.execute_script("return document.querySelector('.jp-Notebook').innerText")
    for shown in ("offline, simulated", "120 / 120 rows", "held-out accuracy, 120 messages"):
        assert shown in text
    eventually(lambda: "Latency by step" in browser.execute_script("return document.body.innerText"), 240)
    assert {urlsplit(url).hostname for url in asked(browser)} == {"127.0.0.1"}
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
