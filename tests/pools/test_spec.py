"""What a pool is made of, and what the machine gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools import MINIMUM_MEMORY, Machine, PoolSpec, Recycle, default_spec, machine
from dspex_lab.pools import _machine as room

GB = 10**9


def test_this_machine_is_asked_when_none_is_given() -> None:
    here = machine()
    assert here.cores >= 1
    assert here.memory > 10**8
    assert default_spec().workers <= max(1, here.cores)


def test_gpus_are_those_that_cuda_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine().gpus == ()


def test_a_spec_of_ones_own_says_so() -> None:
    spec = PoolSpec("mine", 2, GB)
    assert spec.scaling == "2 workers of 1 GB, as asked."
    assert (spec.threads, spec.queue, spec.patience, spec.heartbeat, spec.stuck_after) == (1, 1024, 300.0, 5.0, 30.0)
    assert (spec.gpus, spec.workers_per_gpu, spec.confine, spec.shared_above) == ((), 1, True, 8_000_000)
    assert spec.recycle == Recycle()
    assert PoolSpec("mine", 1, GB).scaling == "1 worker of 1 GB, as asked."


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", ""),
        ("name", "<img>"),
        ("name", "a" * 65),
        ("name", "address"),
        ("name", None),
        ("workers", 0),
        ("workers", -1),
        ("workers", True),
        ("workers", 1.0),
        ("workers", "2"),
        ("workers", 1025),
        ("memory", 10_000_000),
        ("memory", 1.5e9),
        ("memory", "1GB"),
        ("memory", 2**60),
        ("threads", 0),
        ("threads", 257),
        ("preload", "dspy"),
        ("preload", ["os; import x"]),
        ("preload", [1]),
        ("environment", ["A"]),
        ("environment", {"A=B": "1"}),
        ("environment", {"A": 1}),
        ("environment", {"A": "a\0b"}),
        ("gpus", "0"),
        ("gpus", [-1]),
        ("gpus", [True]),
        ("gpus", ["0,1"]),
        ("workers_per_gpu", 0),
        ("queue", 0),
        ("queue", 10**7),
        ("patience", 0),
        ("patience", float("inf")),
        ("patience", float("nan")),
        ("patience", "soon"),
        ("heartbeat", -1),
        ("stuck_after", 0),
        ("stuck_after", 4.9),
        ("cpu_seconds", 0),
        ("cpu_seconds", True),
        ("writable", "/srv"),
        ("writable", ["/"]),
        ("writable", ["/srv/../.."]),
        ("writable", [""]),
        ("writable", ["a\0b"]),
        ("confine", 1),
        ("confine", "yes"),
        ("shared_above", 0),
        ("recycle", None),
        ("recycle", {"age": 1}),
        ("recycle", Recycle(memory=2 * GB)),
        ("scaling", 3),
    ],
)
def test_each_value_that_makes_no_sense_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PoolSpec(**{"name": "mine", "workers": 1, "memory": GB, key: value})
    assert key in str(caught.value.key)
    assert caught.value.expected
    assert caught.value.hint
    assert key in caught.value.message
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("key", "value"),
    [("memory", 10), ("memory", "1GB"), ("memory", True), ("age", 0), ("age", "1h"), ("calls", 0), ("calls", 1.5)],
)
def test_when_workers_are_renewed_is_checked_too(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Recycle(**{key: value})
    assert caught.value.key == f"recycle.{key}"


@pytest.mark.parametrize(
    ("recycle", "said"),
    [
        (Recycle(), "never"),
        (Recycle(memory=GB), "1 GB kept"),
        (Recycle(memory=GB, age=60, calls=1000), "1 GB kept or 60 s or 1,000 calls"),
    ],
)
def test_when_workers_are_renewed_is_said(recycle: Recycle, said: str) -> None:
    assert str(recycle) == said


def test_lists_become_tuples_and_folders_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = PoolSpec("mine", 1, GB, preload=["json", "json"], gpus=[0, "GPU-1"], writable=["~/out", "here"])  # type: ignore[arg-type]
    assert spec.preload == ("json",)
    assert spec.gpus == ("0", "GPU-1")
    assert spec.writable == (f"{tmp_path}/out", str(Path.cwd() / "here"))


def test_an_environment_is_not_shown() -> None:
    key = "sk-very-secret-0123456789"
    assert key not in repr(PoolSpec("mine", 1, GB, environment={"A_KEY": key}))
    with pytest.raises(ConfigurationError) as caught:
        PoolSpec("mine", 1, GB, environment={"A-KEY": key})
    assert key not in repr(caught.value) + str(caught.value) + repr(vars(caught.value))
    assert "A-KEY" in str(caught.value)


def test_the_least_memory_is_allowed() -> None:
    assert PoolSpec("mine", 1, MINIMUM_MEMORY).memory == MINIMUM_MEMORY


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000"}, 6),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 6),
    ],
)
def test_cores_respect_affinity_and_the_control_group(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    _write(tmp_path, files)
    assert room._cores(8, 6, tmp_path) == cores


def test_cores_without_affinity_are_all_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert room._affinity() == {0, 1, 2}


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({}, 8 * GB),
        ({"memory.max": "max"}, 8 * GB),
        ({"memory.max": "2000000000"}, 2 * GB),
        ({"memory/memory.limit_in_bytes": "3000000000"}, 3 * GB),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 8 * GB),
    ],
)
def test_memory_respects_the_control_group(tmp_path: Path, files: dict[str, str], memory: int) -> None:
    _write(tmp_path, files)
    assert room._memory(8 * GB, tmp_path) == memory


def test_an_unknown_default_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'general'"):
        default_spec("genral", machine=Machine(2, 8 * GB))


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + "\n")
