"""A local model on a pool: what goes wrong there has the name that it would have here."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

dspy = pytest.importorskip("dspy")
pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")
pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")

from dspy.lm15 import ConfigurationError as EngineConfigurationError  # noqa: E402
from dspy.lm15 import (  # noqa: E402
    ContextLengthError,
    Reasoning,
    UnsupportedFeatureError,
    UnsupportedModelError,
)
from local_engine_helpers import full_memory  # noqa: E402
from local_pool_helpers import CPU, SCHEMA, ask, pool, tiny, watched, wired  # noqa: E402
from thread_workers import ThreadWorkers  # noqa: E402

from dspex_lab.errors import GpuOutOfMemory, OutOfMemory, PoolError  # noqa: E402
from dspex_lab.lms.engines import LocalEngine, local_lm  # noqa: E402
from dspex_lab.lms.engines._local_errors import (  # noqa: E402
    Failure,
    GarbledAnswer,
    LocalOutOfMemory,
    bad_model,
    bad_request,
    error_of,
    failed,
    failure_of,
    garbled,
    out_of_memory,
    unsupported,
)

__all__ = ["pool", "tiny", "wired"]


@pytest.mark.parametrize(
    "error",
    [
        out_of_memory("the model", "cuda", MemoryError("x")),
        garbled("noise"),
        failed(ValueError("x")),
        unsupported("tools", "no tools"),
        bad_model("m", "gone"),
        bad_request("no"),
        ContextLengthError("too long", provider="local"),
        EngineConfigurationError("no such device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_as_data(error: Any) -> None:
    again = error_of(pickle.loads(pickle.dumps(failure_of(error))))  # noqa: S301
    assert type(again) is type(error)
    told = ("message", "provider_code", "feature", "device")
    assert [getattr(again, name, None) for name in told] == [getattr(error, name, None) for name in told]


def test_errors_of_the_model_are_those_of_this_process(tiny: Path, tmp_path: Path) -> None:
    away = LocalEngine(tiny, pool="neural", **CPU)
    with pytest.raises(ContextLengthError, match="the context of"):
        away.complete(ask("long " * 5000))
    with pytest.raises(ContextLengthError):
        list(away.stream(ask("long " * 5000)))
    with pytest.raises(GarbledAnswer, match=r"cut after 2 tokens") as caught:
        away.complete(ask(max_tokens=2, response_format={"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}))
    assert caught.value.partial.usage.output_tokens == 2
    with pytest.raises(UnsupportedFeatureError):
        away.complete(ask(reasoning=Reasoning(effort="low")))
    with pytest.raises(UnsupportedModelError, match="no such folder"):
        LocalEngine(tmp_path / "nowhere", pool="neural", **CPU).complete(ask())
    with pytest.raises(EngineConfigurationError, match="There is no device 'cuda:7'"):
        LocalEngine(tiny, pool="neural", device="cuda:7").complete(ask())


def test_memory_that_is_not_enough_has_its_name(tiny: Path) -> None:
    away = LocalEngine(tiny, pool="neural", **CPU)
    assert away.complete(ask()).text
    with watched(tiny, full_memory), pytest.raises(OutOfMemory, match=r"The memory of 'cpu'.*Tried to allocate 20") as caught:
        away.complete(ask())
    assert not isinstance(caught.value, GpuOutOfMemory)
    assert (caught.value.pool, caught.value.worker, caught.value.task) == ("neural", "neural-0", f"local/{tiny}")
    assert "more memory" in str(caught.value.hint)
    assert isinstance(caught.value.__cause__, LocalOutOfMemory)
    with watched(tiny, full_memory), pytest.raises(dspy.LMError) as outside:
        local_lm(tiny, pool="neural", cache=False, **CPU)("Hello")
    assert isinstance(outside.value.__cause__, OutOfMemory)  # which a Lab raises in its place
    assert away.complete(ask()).text


def test_the_memory_of_a_gpu_has_a_name_of_its_own(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(ThreadWorkers):
        async def call(self, fn: Any, /, *args: Any, **options: Any) -> Any:
            return Failure("LocalOutOfMemory", "The memory of 'cuda' is not enough", "out_of_memory", device="cuda:0")

    pool = Small()
    with pytest.raises(GpuOutOfMemory, match="'cuda'") as caught:
        LocalEngine(tiny, pool=pool, **CPU).complete(ask())
    assert "max_batch" in str(caught.value.hint)
    pool.close()


def test_what_the_pool_has_to_say_comes_through(tiny: Path) -> None:
    class Broken(ThreadWorkers):
        async def call(self, fn: Any, /, *args: Any, **options: Any) -> Any:
            raise PoolError("no workers", pool=self.name)

    pool = Broken()
    with pytest.raises(PoolError, match="no workers"):
        LocalEngine(tiny, pool=pool, **CPU).complete(ask())
    pool.close()
