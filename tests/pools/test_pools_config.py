"""Settings of pools: from code, the environment and a file, by default, and for a cluster."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from config_helpers import GB, LARGE, MB, NO_FILE, settled, spec

from dspex_lab.errors import ConfigurationError
from dspex_lab.pools import Machine, PoolsConfig, PoolSpec, Recycle, _defaults, default_spec, settle
from dspex_lab.pools._defaults import model_folders

FILE = """
[pools]
writable = ["shared", "~/mine"]

[pools.general]
workers = 4
memory = "600MB"
threads = 2
preload = ["json"]
environment = {TZ = "UTC"}
queue = 10
patience = "2min"
heartbeat = 1
stuck_after = 9.5
cpu_seconds = 60
writable = ["here"]
confine = false
shared_above = "1MB"
recycle = {memory = "500MB", age = "1h", calls = 1000}

[pools.mine]
workers = 1
memory = 1000000000
gpus = ["GPU-1", 2]
workers_per_gpu = 2
"""


def test_every_setting_can_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    found = settled(file=FILE)
    general = found.spec("general", LARGE)
    assert general == PoolSpec(
        "general",
        4,
        600 * MB,
        threads=2,
        preload=("json",),
        environment={"TZ": "UTC"},
        scaling=general.scaling,
        queue=10,
        patience=120.0,
        recycle=Recycle(500 * MB, 3600.0, 1000),
        heartbeat=1.0,
        stuck_after=9.5,
        cpu_seconds=60.0,
        writable=(f"{tmp_path}/here", f"{tmp_path}/shared", "/home/ann/mine"),
        confine=False,
        shared_above=MB,
    )
    assert "from dspex.toml" in general.scaling
    mine = found.spec("mine", Machine(64, 512 * GB, ("0", "1", "2")))
    assert (mine.gpus, mine.workers_per_gpu, mine.writable[0]) == (("GPU-1", "2"), 2, f"{tmp_path}/shared")


def test_a_project_may_say_it_too() -> None:
    Path("pyproject.toml").write_text('[tool.dspex.pools.general]\nworkers = 5\nmemory = "400MB"\n')
    found = default_spec(machine=LARGE)
    assert (found.workers, found.memory) == (5, 400 * MB)
    assert found.scaling.startswith("5 workers of 400 MB: workers and memory from pyproject.toml; ")


def test_every_setting_can_be_a_variable(tmp_path: Path) -> None:
    said = {
        "WORKERS": "3",
        "MEMORY": "1.5 GiB",
        "THREADS": "2",
        "PRELOAD": "json, dspy",
        "GPUS": "none",
        "WORKERS_PER_GPU": "2",
        "QUEUE": "7",
        "PATIENCE": "5min",
        "HEARTBEAT": "1",
        "STUCK_AFTER": "10",
        "CPU_SECONDS": "1h",
        "WRITABLE": os.pathsep.join(["/srv/a", "/srv/b"]),
        "CONFINE": "off",
        "SHARED_ABOVE": "2MB",
        "RECYCLE_MEMORY": "1GB",
        "RECYCLE_AGE": "30",
        "RECYCLE_CALLS": "9",
    }
    environment = {f"DSPEX_POOL_GENERAL_{key}": text for key, text in said.items()}
    found = spec(environment={**environment, "DSPEX_POOLS_WRITABLE": "/srv/c", "OTHER": "x", "DSPEX_POOL_GENERAL_EMPTY": ""})
    assert found == PoolSpec(
        "general",
        3,
        1_610_612_736,
        threads=2,
        preload=("json", "dspy"),
        scaling=found.scaling,
        workers_per_gpu=2,
        queue=7,
        patience=300.0,
        recycle=Recycle(GB, 30.0, 9),
        heartbeat=1.0,
        stuck_after=10.0,
        cpu_seconds=3600.0,
        writable=("/srv/a", "/srv/b", "/srv/c"),
        confine=False,
        shared_above=2 * MB,
    )
    assert "workers from DSPEX_POOL_GENERAL_WORKERS; " in found.scaling


def test_code_goes_before_environment_before_file_before_default() -> None:
    environment = {"DSPEX_POOL_GENERAL_THREADS": "3", "DSPEX_POOL_GENERAL_WORKERS": "3"}
    found = spec({"general": {"workers": 5}}, environment, "[pools.general]\nworkers = 2\nthreads = 2\nqueue = 2\n")
    assert (found.workers, found.threads, found.queue, found.memory) == (5, 3, 2, 512 * MB)
    for part in (
        "5 workers of 512 MB: ",
        "queue from dspex.toml",
        "workers from code",
        "from DSPEX_POOL_GENERAL_THREADS",
    ):
        assert part in found.scaling, part


def test_what_code_leaves_open_is_filled_in() -> None:
    assert spec({"general": {"workers": None}}, {"DSPEX_POOL_GENERAL_WORKERS": "3"}).workers == 3
    assert spec(PoolsConfig(pools={"general": {"workers": 2}}), {"DSPEX_POOL_GENERAL_THREADS": "3"}).threads == 3
    assert spec({"general": {"recycle": Recycle(calls=5)}}).recycle == Recycle(calls=5)
    assert spec().recycle == Recycle(memory=384 * MB)


def test_a_whole_spec_is_taken_as_it_is() -> None:
    mine = PoolSpec("mine", 1, GB)
    found = settled({"mine": mine}, {"DSPEX_POOL_MINE_WORKERS": "7"})
    assert found.spec("mine", LARGE) is mine
    assert found.names == ("general", "optimizer", "neural", "mine")
    assert "all pools together take 45 GB of 512 GB" in found.spec("general", LARGE).scaling
    with pytest.raises(ConfigurationError, match="has pool 'mine' under the name 'other'"):
        settled({"other": mine})


def test_a_pool_of_ones_own_can_come_from_the_environment_alone() -> None:
    found = settled(environment={"DSPEX_POOL_BIG_WORKERS": "1", "DSPEX_POOL_BIG_MEMORY": "4GB"})
    assert found.spec("big", LARGE).memory == 4 * GB
    both = settled({"my-pool": {"workers": 1, "memory": GB}}, {"DSPEX_POOL_MY_POOL_THREADS": "2"})
    assert both.spec("my-pool", LARGE).threads == 2


def test_the_neural_pool_has_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/srv/models")
    found = settled()
    neural = found.spec("neural", LARGE)
    wanted = ("torch", "dspex_lab.lms.engines._local_preload")
    installed = [name for name in wanted if importlib.util.find_spec(name) is not None]
    assert neural.preload == ("dspy", "dspex_lab.pipelines._remote", *installed)
    assert neural.threads > 1
    assert "/srv/models" in neural.writable
    assert neural.gpus == ()
    assert "on the CPU" in neural.scaling
    assert neural.environment["OMP_NUM_THREADS"] == "16"
    assert neural.recycle == Recycle(), "its models are not to be loaded again"
    on_gpu = settle(environment={}, file=NO_FILE).spec("neural", Machine(8, 64 * GB, ("0", "1")))
    assert (on_gpu.gpus, on_gpu.workers, dict(on_gpu.environment)) == (("0", "1"), 2, {})
    own = settled({"neural": {"environment": {"OMP_NUM_THREADS": "2"}, "preload": ["json"], "threads": 1}}).spec(
        "neural", LARGE
    )
    assert (own.environment["OMP_NUM_THREADS"], own.preload, own.threads) == ("2", ("json",), 1)


def test_that_the_neural_pool_computes_on_the_cpu_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_defaults, "_said", set())
    for _ in range(2):
        _defaults.say_what_computes(spec(name="neural"))
        _defaults.say_what_computes(spec(name="general"))
    assert len(caplog.records) == 1
    assert "pool 'neural' computes on the CPU" in caplog.text


def test_what_is_not_installed_is_not_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert spec(name="neural").preload == ("dspy", "dspex_lab.pipelines._remote")
    assert spec().threads == 1


def test_models_are_kept_where_their_libraries_keep_them() -> None:
    home = os.path.expanduser("~")
    assert list(model_folders({})) == [f"{home}/.cache/huggingface", f"{home}/.cache/torch"]
    found = list(model_folders({"XDG_CACHE_HOME": "/c", "HF_HUB_CACHE": "/hub", "TORCH_HOME": "/", "TRITON_CACHE_DIR": "t"}))
    assert found == ["/c/huggingface", "/hub", str(Path.cwd() / "t")]


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, str]:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text(name)
    return {"tls_ca": "ca.pem", "tls_cert": str(tmp_path / "cert.pem"), "tls_key": "key.pem"}


def test_a_cluster_is_joined_by_its_address(certificates: dict[str, str], tmp_path: Path) -> None:
    environment = {"DSPEX_POOLS_ADDRESS": "tls://[::1]:8786"}
    environment |= {f"DSPEX_POOLS_{key.upper()}": path for key, path in certificates.items()}
    found = settled(environment=environment)
    assert (found.address, found.tls_ca) == ("tls://[::1]:8786", f"{tmp_path}/ca.pem")
    sentence = found.spec("neural", LARGE).scaling
    assert sentence == "those workers of tls://[::1]:8786 that carry the resource 'neural'."
    told = "[pools]\naddress = 'tls://scheduler:8786'\n" + "\n".join(f"{key} = '{path}'" for key, path in certificates.items())
    assert settled(file=told).tls_key == f"{tmp_path}/key.pem"
    assert found.spec("neural", Machine(8, GB, ("0",))).gpus == (), "those of the kernel's machine are not theirs"
    assert settled(PoolsConfig(address="tls://host:1", **certificates)).address == "tls://host:1"
    assert settled(PoolsConfig(address="tls://host:1", **certificates, pools={"neural": {"gpus": ["7"]}})).spec(
        "neural"
    ).gpus == ("7",)


@pytest.mark.parametrize(("key", "value"), [("tls_ca", "gone.pem"), ("tls_cert", "/"), ("tls_key", 3)])
def test_certificates_must_be_there(certificates: dict[str, str], key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{key} is .* Expected: the path of a file"):
        settled({"address": "tls://host:1", **certificates, key: value})


def test_without_an_address_no_certificate_is_looked_at() -> None:
    found = settled({"tls_ca": "gone.pem"})
    assert (found.address, found.tls_ca) == (None, None)


def test_an_unknown_pool_is_told_with_what_is_near() -> None:
    with pytest.raises(ConfigurationError, match=r"There is no pool 'genral'\. Did you mean 'general'"):
        settled().spec("genral")


def test_this_machine_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def here() -> Machine:
        asked.append(1)
        return LARGE

    monkeypatch.setattr("dspex_lab.pools._config.this_machine", here)
    found = settled()
    assert asked == [], "settling asks nobody"
    assert [found.spec(name).workers for name in found.names] == [8, 2, 4]
    assert asked == [1]
