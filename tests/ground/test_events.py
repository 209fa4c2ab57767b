"""Records, ids and the bus."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from dspex_lab.config import Config, default_store_path, notebook_path
from dspex_lab.errors import ConfigurationError
from dspex_lab.events import Bus, Event, new_id


def test_ids_are_unique_across_threads_and_sorted_in_one() -> None:
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda box=box: box.extend(new_id() for _ in range(2000))) for box in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({i for box in made for i in box}) == 8000
    assert all(box == sorted(box) for box in made)


def test_a_forked_child_makes_ids_of_its_own() -> None:
    code = """
import os
from dspex_lab.events import new_id
new_id()
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, new_id().encode())
    os._exit(0)
assert os.wait()[1] == 0
assert os.read(read, 64).decode()[:16] != new_id()[:16]
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # no thread of another test holds a lock there


def test_every_observer_is_told_and_one_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    bus, seen = Bus(), []

    def broken(record: object) -> None:
        raise RuntimeError

    bus.subscribe(broken)
    remove = bus.subscribe(seen.append)
    with caplog.at_level(logging.ERROR):
        bus.emit(Event("run.start", 0.0))
        bus.emit(Event("run.stop", 1.0))
    assert [e.name for e in seen] == ["run.start", "run.stop"]
    assert len(caplog.records) == 1
    remove()
    bus.emit(Event("run.start", 2.0))
    assert len(seen) == 2


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config.from_environment() == Config()
    monkeypatch.setenv("DSPEX_LM", "offline")
    monkeypatch.setenv("DSPEX_CONCURRENCY", "3")
    assert Config.from_environment() == Config(lm="offline", concurrency=3)
    monkeypatch.setenv("DSPEX_CONCURRENCY", "many")
    with pytest.raises(ConfigurationError, match="DSPEX_CONCURRENCY is 'many'"):
        Config.from_environment()


def test_each_notebook_has_a_store_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(default_store_path()) == ".dspex/lab.duckdb"
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/a/My study (2).ipynb")
    assert notebook_path() is not None
    assert str(default_store_path()) == ".dspex/My_study_2_.duckdb"
    monkeypatch.setenv("DSPEX_STORE", "/elsewhere/x.duckdb")
    assert str(default_store_path()) == "/elsewhere/x.duckdb"
