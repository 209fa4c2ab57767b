"""What is done in the forkserver and in each worker, as far as it can be seen in one process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

from dspex_lab.pools import _preload
from dspex_lab.pools._forkserver import Launcher


def test_native_libraries_are_given_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _preload.THREAD_LIMITS:
        monkeypatch.setenv(name, "8")
    _preload.limit_threads()
    assert {os.environ[name] for name in _preload.THREAD_LIMITS} == {"1"}


def test_what_is_loaded_is_out_of_the_collectors_sight() -> None:
    before = gc.get_freeze_count()
    _preload.freeze()
    try:
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


def test_an_orphan_sweeps_the_folder_of_its_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pymp-x"
    (folder / "general-0").mkdir(parents=True)
    monkeypatch.setattr(forkserver._forkserver, "_forkserver_address", None)  # type: ignore[attr-defined]
    _preload.sweep()
    assert folder.exists()
    monkeypatch.setattr(forkserver._forkserver, "_forkserver_address", str(folder / "listener"))  # type: ignore[attr-defined]
    _preload.sweep()
    assert not folder.exists()
    assert tmp_path.exists()


def test_the_first_and_last_imports_do_their_work() -> None:
    code = (
        "import gc, os; import dspex_lab.pools._first, dspex_lab.pools._last; "
        "print(os.environ['OMP_NUM_THREADS'], gc.get_freeze_count() > 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "True"]


def test_a_server_whose_folder_is_gone_is_ended_all_the_same() -> None:
    launcher = Launcher(())
    launcher.stop()
    launcher.start()
    assert launcher.pid
    os.unlink(launcher.server._forkserver_address)
    launcher.stop()
    assert launcher.pid is None
