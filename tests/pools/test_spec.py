"""What a pool is made of, and how it is scaled."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools import MINIMUM_MEMORY, Machine, PoolSpec, default_spec, machine
from dspex_lab.pools import _spec as room

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "memory", "workers", "each", "words"),
    [
        (16, 64 * GB, 8, 512_000_000, "8 workers of 512 MB, as wanted."),
        (2, 64 * GB, 2, 512_000_000, "2 of 8 workers: this machine has 2 cores."),
        (1, 64 * GB, 1, 512_000_000, "1 of 8 workers: this machine has 1 core."),
        (16, 4 * GB, 3, 512_000_000, "3 of 8 workers: half of this machine's 4,000 MB of memory holds no more."),
        (
            2,
            900_000_000,
            1,
            450_000_000,
            "1 of 8 workers: half of this machine's 900 MB of memory holds no more and each has 450 MB and not 512 MB.",
        ),
        (
            1,
            500_000_000,
            1,
            MINIMUM_MEMORY,
            "1 of 8 workers: this machine has 1 core and half of this machine's 500 MB of memory holds no more "
            "and each has 384 MB and not 512 MB.",
        ),
    ],
)
def test_the_default_is_scaled_to_the_machine_and_says_how(
    cores: int, memory: int, workers: int, each: int, words: str
) -> None:
    spec = default_spec(machine=Machine(cores, memory))
    assert (spec.workers, spec.memory, spec.scaling) == (workers, each, words)
    assert spec.preload == ("dspy", "dspex_lab.pipelines._remote")


def test_this_machine_is_asked_when_none_is_given() -> None:
    here = machine()
    assert here.cores >= 1
    assert here.memory > 10**8
    assert default_spec().workers <= max(1, here.cores)


def test_variables_override_the_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPEX_POOL_GENERAL_WORKERS", "3")
    spec = default_spec(machine=Machine(2, 8 * GB))
    assert (spec.workers, spec.memory) == (3, 512_000_000)
    assert spec.scaling == "3 workers of 512 MB: set by DSPEX_POOL_GENERAL_WORKERS."
    monkeypatch.setenv("DSPEX_POOL_GENERAL_MEMORY", "1.5 GiB")
    spec = default_spec(machine=Machine(2, 8 * GB))
    assert spec.memory == 1_610_612_736
    assert "set by DSPEX_POOL_GENERAL_WORKERS and DSPEX_POOL_GENERAL_MEMORY" in spec.scaling
    monkeypatch.setenv("DSPEX_POOL_GENERAL_MEMORY", "600000000")
    assert default_spec(machine=Machine(2, 8 * GB)).memory == 600_000_000


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("WORKERS", "many"),
        ("WORKERS", "0"),
        ("WORKERS", "-2"),
        ("WORKERS", "1.5"),
        ("MEMORY", "lots"),
        ("MEMORY", "5 parsecs"),
        ("MEMORY", "10MB"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch, key: str, text: str) -> None:
    monkeypatch.setenv(f"DSPEX_POOL_GENERAL_{key}", text)
    with pytest.raises(ConfigurationError, match=f"DSPEX_POOL_GENERAL_{key} is '{text}'") as caught:
        default_spec()
    assert caught.value.key == f"DSPEX_POOL_GENERAL_{key}"
    assert caught.value.hint


def test_an_unknown_default_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'general'"):
        default_spec("genral")


@pytest.mark.parametrize(
    ("workers", "memory", "threads"), [(0, GB, 1), (1, 10_000_000, 1), (1, GB, 0), (True, GB, 1), (1, 1.5e9, 1)]
)
def test_a_spec_that_makes_no_sense_is_refused(workers: int, memory: int, threads: int) -> None:
    with pytest.raises(ConfigurationError, match="Pool 'mine'"):
        PoolSpec("mine", workers, memory, threads)


def test_a_spec_of_ones_own_says_so() -> None:
    assert PoolSpec("mine", 2, GB).scaling == "2 workers of 1,000 MB, as asked."


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


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + "\n")
