"""A local model on a pool, whose worker is a thread here: what goes there, what comes back, and what the worker keeps."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import pickle
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

dspy = pytest.importorskip("dspy")
pytest.importorskip("torch", reason="local models need torch (extra neural)")
pytest.importorskip("transformers", reason="local models need transformers (extra neural)")
pytest.importorskip("llguidance", reason="answers are held to a schema by llguidance (extra neural)")

from dspy.lm15 import UnsupportedModelError  # noqa: E402
from local_checkpoints import make_checkpoint  # noqa: E402
from local_pool_helpers import CPU, SCHEMA, ask, pool, tiny, watched, wired  # noqa: E402
from thread_workers import ThreadWorkers  # noqa: E402

from dspex_lab.errors import ConfigurationError  # noqa: E402
from dspex_lab.lms import _submit, from_portable, make_lm, portable  # noqa: E402
from dspex_lab.lms._submit import name_of_pool, submit_to, use_pools  # noqa: E402
from dspex_lab.lms.engines import AsyncLocalEngine, LocalEngine, local_lm  # noqa: E402
from dspex_lab.lms.engines import _local_worker as worker  # noqa: E402
from dspex_lab.lms.engines._local_errors import out_of_memory  # noqa: E402
from dspex_lab.lms.engines._local_model import loaded_models  # noqa: E402
from dspex_lab.lms.engines._local_request import Answer, Begun, Piece  # noqa: E402
from dspex_lab.testing import Declared, EngineConformance  # noqa: E402

__all__ = ["pool", "tiny", "wired"]


class TestLocalEngineOnAPool(EngineConformance):
    declared = Declared(scripted=False, tools=False)

    @pytest.fixture(autouse=True)
    def _model(self, tiny: Path) -> None:
        self.folder = tiny

    def make(self, answer: Any) -> Any:
        return local_lm(self.folder, pool="neural", temperature=0, max_tokens=40, cache=False, **CPU)


# --- there and back -----------------------------------------------------------------------------------------------


def test_answers_on_a_pool_are_those_of_this_process(tiny: Path) -> None:
    here, away = LocalEngine(tiny, **CPU), LocalEngine(tiny, pool="neural", **CPU)
    for request in (
        ask(logprobs=2),
        ask(temperature=1.5, seed=3),
        ask("Say it.", max_tokens=64, stop=("three",)),
        ask(max_tokens=40, response_format={"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}),
    ):
        assert away.complete(request) == here.complete(request)
        assert list(away.stream(request)) == list(here.stream(request))
    assert away._loaded is None  # this process has no weights
    here.close()


def test_requests_that_are_in_a_worker_together_are_one_batch(tiny: Path) -> None:
    away = LocalEngine(tiny, device="cpu", window=30.0, max_batch=4, pool="neural")
    single = [LocalEngine(tiny, **CPU).complete(ask(text)).text for text in "abcd"]
    with watched(tiny) as passes, ThreadPoolExecutor(4) as threads:
        assert [r.text for r in threads.map(away.complete, map(ask, "abcd"))] == single
    assert set(passes) == {4}


def test_tokens_come_in_order_while_the_model_writes(tiny: Path) -> None:
    go_on = threading.Event()

    def wait(number: int) -> None:
        assert number < 4 or go_on.wait(30)

    with watched(tiny, wait):
        events = LocalEngine(tiny, pool="neural", **CPU).stream(ask("Say it."))
        assert next(events).type == "start"
        first = next(events).delta.text
        go_on.set()
        rest = [event.delta.text for event in events if event.type == "delta"]
    assert len(rest) > 1
    assert "".join([first, *rest]) == "one two three four"


def test_a_cancelled_call_and_a_closed_stream_stop_the_model(tiny: Path) -> None:
    async def cancel() -> None:
        begun, loop = asyncio.Event(), asyncio.get_running_loop()
        held = threading.Event()

        def at(number: int) -> None:
            if number == 3:
                loop.call_soon_threadsafe(begun.set)
                assert held.wait(30)

        with watched(tiny, at) as passes:
            call = asyncio.create_task(AsyncLocalEngine(tiny, pool="neural", **CPU).complete(ask(max_tokens=500)))
            await begun.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            # What was cancelled on its way is cancelled in the worker before anything that is sent there later.
            await asyncio.wrap_future(submit_to("neural")._pool()._loop.submit(asyncio.sleep(0)))  # type: ignore[union-attr]
            held.set()
        assert len(passes) <= 4

    asyncio.run(cancel())
    closed = threading.Event()
    with watched(tiny, lambda number: number < 4 or closed.wait(30)) as passes:
        events = LocalEngine(tiny, pool="neural", **CPU).stream(ask(max_tokens=500))
        next(events)
        next(events)
        events.close()
        closed.set()
    assert len(passes) <= 4


def test_a_sync_call_on_a_loop_waits_without_it(tiny: Path) -> None:
    """As in a cell of a notebook, whose thread has a running loop."""

    async def cell() -> None:
        engine = LocalEngine(tiny, pool="neural", **CPU)
        assert engine.complete(ask("Say it.")).text == "one two three four"
        assert [e.type for e in engine.stream(ask(max_tokens=1))] == ["start", "delta", "end"]

    asyncio.run(cell())


def test_the_worker_that_has_the_model_is_preferred(tiny: Path) -> None:
    pool = ThreadWorkers()
    engine = LocalEngine(tiny, pool=pool, **CPU)
    engine.complete(ask(max_tokens=1))
    list(engine.stream(ask(max_tokens=1)))
    (first, one), (second, two) = pool.asked
    assert (first, second) == ("answer", "write")
    assert "place" not in one
    assert two["place"] == "place of neural-0"
    assert one["idempotent"]
    assert one["label"] == f"local/{tiny}"
    pool.close()


def test_a_folder_is_found_by_workers_that_are_elsewhere(
    tiny: Path, pool: ThreadWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny.parent)
    assert LocalEngine(tiny.name, pool="neural", **CPU).complete(ask("Say it.")).text == "one two three four"
    assert pool.sent[-1][0].path == str(tiny)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnsupportedModelError, match=r"some-one/some-model.*HF_HUB_OFFLINE"):
        LocalEngine("some-one/some-model", pool="neural", **CPU).complete(ask())
    assert pool.sent[-1][0].offline  # the worker's own environment may say otherwise


def test_this_process_needs_no_torch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Canned(ThreadWorkers):
        async def call(self, fn: Any, /, *args: Any, **options: Any) -> Any:
            return Answer("yes", "stop", 3, 1)

        async def stream(self, fn: Any, /, *args: Any, **options: Any) -> Any:
            for item in (Begun(), Piece("y"), Piece("es"), Answer("yes", "stop", 3, 1)):
                yield item

    for package in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    pool = Canned()
    lm = make_lm(f"local/{tiny}", pool=pool, cache=False)
    assert lm("Hello") == ["yes"]
    assert [e.type for e in lm.engine.stream(ask())] == ["start", "delta", "delta", "end"]
    with pytest.raises(ConfigurationError, match="torch"):
        make_lm(f"local/{tiny}")
    pool.close()


# --- where it runs ------------------------------------------------------------------------------------------------


def test_the_pool_is_kept_by_its_name(tiny: Path, pool: ThreadWorkers) -> None:
    lm = make_lm(f"local/{tiny}", pool=pool, temperature=0, cache=False, **CPU)
    assert lm.engine.dump_state()["pool"] == "neural"
    assert repr(lm.engine).endswith(", dtype='auto', pool='neural')")
    before = len(pool.asked)
    travelled = from_portable(json.loads(json.dumps(portable(lm))))
    saved = dspy.LM.load_state(lm.dump_state(), allow_custom_lm_class=True)
    for again in (travelled, saved):
        assert again("Say it.") == ["one two three four"]
    assert pickle.loads(pickle.dumps(lm.engine)).complete(ask("Say it.")).text == "one two three four"  # noqa: S301
    assert len(pool.asked) == before + 3


@pytest.mark.parametrize("find", [None, lambda name: None])
def test_where_no_pool_can_be_reached_it_answers_on_the_spot(find: Any, tiny: Path, pool: ThreadWorkers) -> None:
    """As in a worker: a step on the pool does not send its model's calls to the pool again."""
    use_pools(find)
    before = len(pool.asked)
    engine = LocalEngine(tiny, pool="neural", **CPU)
    assert engine.complete(ask("Say it.")).text == "one two three four"
    assert asyncio.run(AsyncLocalEngine(tiny, pool="neural", **CPU).complete(ask("Say it."))).text == "one two three four"
    assert len(pool.asked) == before
    kept = engine.load()
    engine.close()
    assert kept in worker._held.values()  # the next step's engine is another one


def test_a_pool_that_is_none_or_gone_is_told(tiny: Path) -> None:
    for wrong in (3, "", object()):
        with pytest.raises(ConfigurationError, match="is no pool"):
            LocalEngine(tiny, pool=wrong)  # type: ignore[arg-type]
    assert name_of_pool(None) is None
    pool = ThreadWorkers("short-lived")
    submit = submit_to(pool)
    assert submit_to(pool) is submit
    pool.close()
    del pool
    gc.collect()
    with pytest.raises(ConfigurationError, match="'short-lived' is gone"):
        submit.call_here(len, "x", key="k", label="l")  # type: ignore[union-attr]


# --- what the worker keeps ----------------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_anew_where_its_files_changed(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    checkpoint = LocalEngine(folder, **CPU)._checkpoint
    first = worker.kept(checkpoint)
    assert worker.kept(checkpoint) is first
    make_checkpoint(folder, seed=7)
    second = worker.kept(checkpoint)
    assert second is not first
    assert worker.kept(checkpoint) is second
    assert [m for m in worker._held.values() if m.checkpoint.path == str(folder)] == [second]


def test_in_a_worker_a_model_without_a_pool_stays_when_its_step_is_over(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, worker_is = portable(local_lm(tiny, **CPU)), threading.Event()
    monkeypatch.setattr(_submit, "_staying", worker_is)
    worker._held.clear()
    gc.collect()
    for in_worker in (False, True):
        if in_worker:
            _submit.stay()
        ref = weakref.ref(from_portable(state).engine.load())
        gc.collect()
        assert (ref() is not None) == in_worker
    assert from_portable(state).engine.load() is ref()


def test_what_is_loaded_can_be_asked(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    assert str(folder) not in [m["model"] for m in loaded_models()]
    worker.kept(LocalEngine(folder, dtype="bfloat16", **CPU)._checkpoint)
    (about,) = [m for m in loaded_models() if m["model"] == str(folder)]
    size = about.pop("bytes")
    assert 50_000 < size < 500_000
    assert about == {"model": str(folder), "kind": "lm", "device": "cpu", "dtype": "bfloat16"}


def test_other_models_make_room_for_one_that_memory_does_not_hold_beside_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = worker.kept(LocalEngine(tiny, **CPU)._checkpoint).checkpoint
    real, refused = worker.load, []

    def full(checkpoint: Any) -> Any:
        if other in worker._held:
            refused.append(checkpoint)
            raise out_of_memory("the model", "cpu", MemoryError())
        return real(checkpoint)

    monkeypatch.setattr(worker, "load", full)
    made = worker.kept(LocalEngine(make_checkpoint(tmp_path / "model"), **CPU)._checkpoint)
    assert len(refused) == 1
    assert list(worker._held.values()) == [made]


def test_what_a_pools_forkserver_imports_is_what_loading_a_model_needs() -> None:
    preload = importlib.import_module("dspex_lab.lms.engines._local_preload")
    needed = (*preload._PARTS, "torch", "dspex_lab.lms.engines._local_worker")
    assert [name for name in needed if name not in sys.modules] == []
