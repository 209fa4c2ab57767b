"""Which weights an engine loads, shares, frees and refuses, and on which device."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")

from dspy.lm15 import ConfigurationError as EngineConfigurationError  # noqa: E402
from dspy.lm15 import UnsupportedModelError  # noqa: E402
from local_checkpoints import make_checkpoint  # noqa: E402
from local_engine_helpers import CPU, ask  # noqa: E402

from dspex_lab.errors import ConfigurationError, LMError  # noqa: E402
from dspex_lab.lms import from_portable, portable  # noqa: E402
from dspex_lab.lms.engines import AsyncLocalEngine, LocalEngine, local_lm  # noqa: E402
from dspex_lab.lms.engines import _local_checkpoint as checkpoints  # noqa: E402
from dspex_lab.lms.engines._local_errors import LocalOutOfMemory  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_engines_share_the_weights_and_the_last_one_frees_them(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "shared")
    one, two = LocalEngine(folder, **CPU), AsyncLocalEngine(str(folder), **CPU)
    gone = weakref.ref(one.load())
    assert two.load() is one.load()
    assert LocalEngine(folder, dtype="bfloat16", **CPU).load() is not one.load()
    one.complete(ask())
    assert one.load().idle(30)
    for thread in threading.enumerate():
        if thread.name == "dspex-local-shared":
            thread.join(30)  # it holds the model to its end
    one.close()
    one.close()
    assert gone() is not None
    asyncio.run(two.aclose())
    gc.collect()
    assert gone() is None
    assert one.complete(ask()).text  # it is loaded again
    one.close()


def test_settings_travel_and_weights_do_not(engine: LocalEngine, tiny: Path) -> None:
    engine.load()
    for made in (pickle.loads(pickle.dumps(engine)), LocalEngine.load_state(engine.dump_state())):  # noqa: S301
        assert made.dump_state() == engine.dump_state()
        assert made._loaded is None
    assert len(pickle.dumps(engine)) < 1000
    json.dumps(engine.dump_state())
    assert copy.deepcopy(engine) is engine
    assert AsyncLocalEngine.load_state(AsyncLocalEngine(tiny, **CPU).dump_state()).model == str(tiny)
    assert repr(engine) == f"LocalEngine({str(tiny)!r}, device='cpu', dtype='auto')"


def test_the_model_of_a_dspy_lm_travels_to_workers(tiny: Path) -> None:
    lm = local_lm(tiny, **CPU, dtype="float32", temperature=0, max_tokens=5, cache=False)
    again = from_portable(portable(lm))
    assert again.model == f"local/{tiny}"
    assert again("Hello") == lm("Hello")
    assert asyncio.run(again.acall("Hello")) == lm("Hello")


def test_an_answer_of_other_weights_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "trained")
    before = local_lm(folder, **CPU, temperature=0, max_tokens=5)
    first = before("Hello")
    make_checkpoint(folder, seed=7)
    after = local_lm(folder, **CPU, temperature=0, max_tokens=5)
    assert after.kwargs["metadata"] != before.kwargs["metadata"]
    before.engine.close()
    assert after("Hello") != first
    assert local_lm("org/name").kwargs["metadata"]["weights"] == "main"


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


def test_pickled_weights_are_refused_and_not_opened(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "hostile")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(UnsupportedModelError, match="Only safetensors are read"):
        LocalEngine(folder, **CPU).complete(ask())
    assert not (tmp_path / "exploded").exists()


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "hostile")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')")
    with pytest.raises(UnsupportedModelError, match="code of its own, which is never run"):
        LocalEngine(folder, **CPU).complete(ask())
    assert not (tmp_path / "exploded").exists()


def test_garbage_instead_of_weights_is_an_error(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "garbage")
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(UnsupportedModelError, match="cannot be loaded"):
        LocalEngine(folder, **CPU).load()


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "~/nowhere-at-all", "a/b/c"])
def test_a_folder_that_is_not_there_is_said_and_no_hub_is_asked(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="there is no such folder"):
        LocalEngine(name, **CPU).load()


def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(UnsupportedModelError, match=r"some-one/some-model.*HF_HUB_OFFLINE"):
        LocalEngine("some-one/some-model", **CPU).load()


def test_weights_too_large_for_the_memory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    def full(self: Any, device: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(LlamaForCausalLM, "to", full)
    with pytest.raises(LocalOutOfMemory, match="the model"):
        LocalEngine(tiny, dtype="float16", **CPU).load()


def test_a_device_that_is_not_there(tiny: Path) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda:7"
    with pytest.raises(EngineConfigurationError, match=r"There is no device .* there is .*cpu"):
        LocalEngine(tiny, device=missing).load()


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="this machine has a GPU")
def test_that_the_cpu_is_used_is_said_once(
    tiny: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_said_cpu", False)
    with caplog.at_level(logging.WARNING, logger="dspex_lab"):
        first, second = LocalEngine(tiny).load(), LocalEngine(tiny, dtype="float32").load()
    assert first is second
    assert first.checkpoint.device == "cpu"
    assert [r.message for r in caplog.records if r.name == "dspex_lab"] == [
        "local models run on the CPU: torch sees no GPU (said once)"
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", " "),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("dtype", "int4"),
        ("default_tokens", 0),
        ("default_tokens", True),
        ("max_batch", 1.5),
        ("window", -1),
        ("window", True),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_at_once(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=key) as caught:
        LocalEngine(**{"model": "m", key: value})
    assert caught.value.key == key


def test_options_that_dspy_refuses(tiny: Path) -> None:
    with pytest.raises(LMError, match="api_key"):
        local_lm(tiny, api_key="sk-secret")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=r'pip install "dspex-lab\[neural\]"'):
        local_lm("org/name")
