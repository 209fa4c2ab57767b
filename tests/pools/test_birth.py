"""What a worker's process does first, each part in a process of its own where it cannot be undone."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.pools._birth import dspy_cache, limit_data


def elsewhere(code: str, **options: Any) -> Any:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_limit_of_nothing_is_none_and_a_limit_keeps_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append((which, pair)))
    limit_data(0)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    limit_data(1000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500, 500))
    limit_data(1000)
    assert [pair for which, pair in limits if which == resource.RLIMIT_DATA] == [(1000, resource.RLIM_INFINITY), (500, 500)]
    assert {pair for which, pair in limits if which == resource.RLIMIT_CORE} == {(0, 0)}


def test_a_process_is_given_its_environment_folder_and_limits_and_says_what_it_lacks(tmp_path: Path) -> None:
    code = f"""
import json, os, resource, tempfile
tempfile.gettempdir()
from dspex_lab.pools._birth import Birth
birth = Birth(preload=("json", "no_such_module"), environment={{"COLOUR": "red"}}, folder={str(tmp_path)!r}, data=10**9)
birth.begin()
print(json.dumps([os.environ["COLOUR"], tempfile.gettempdir(), Birth.missing, Birth.protection, Birth.own == birth,
                  resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_CORE)]))
"""
    assert elsewhere(code) == ["red", str(tmp_path), ["no_such_module"], "rlimits", True, 10**9, [0, 0]]


def test_a_process_whose_forkserver_is_gone_already_ends_at_once() -> None:
    code = "from dspex_lab.pools._birth import die_with_parent; die_with_parent(1 << 22); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")


def test_torch_computes_with_as_many_threads_as_it_is_told() -> None:
    pytest.importorskip("torch")
    code = (
        "import json, torch; from dspex_lab.pools._birth import limit_torch; "
        "torch.set_num_threads(4); limit_torch(2); print(json.dumps(torch.get_num_threads()))"
    )
    assert elsewhere(code) == 2


def test_a_process_that_was_not_born_for_a_pool_imports_what_it_lacks_and_one_thread_is_confined(tmp_path: Path) -> None:
    code = f"""
import json, os, sys, threading
from dspex_lab.pools._birth import Birth
folder = {str(tmp_path / "work")!r}
birth = Birth(preload=("colorsys", "no_such_module"), folder=folder, data=10**10, writable=())
birth.adopt()
seen = []
def attempt():
    birth.confine_thread()
    open(folder + "/inside", "w").close()
    try:
        open({str(tmp_path / "outside")!r}, "w").close()
        seen.append("written")
    except PermissionError:
        seen.append("refused")
thread = threading.Thread(target=attempt)
thread.start(); thread.join()
open({str(tmp_path / "by another thread")!r}, "w").close()
print(json.dumps([list(Birth.missing), "colorsys" in sys.modules, seen[0], Birth.protection]))
"""
    missing, imported, seen, level = elsewhere(code)
    assert (missing, imported) == (["no_such_module"], True)
    assert seen == ("refused" if "landlock" in level else "written")
    assert (tmp_path / "work" / "inside").exists()


def test_dspys_cache_is_where_dspy_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPY_CACHEDIR", "/elsewhere")
    assert dspy_cache() == "/elsewhere"
    monkeypatch.delenv("DSPY_CACHEDIR")
    assert dspy_cache() == os.path.expanduser("~/.dspy_cache")
