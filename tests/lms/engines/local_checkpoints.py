"""Language models small enough for tests: two layers of random weights, and a tokenizer trained on a few sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = 'the quick brown fox jumps over the lazy dog. How are you? Hello world {"label": "billing", "n": 1} true false é ü ☃'


def make_checkpoint(
    folder: Path,
    *,
    template: str | None = TEMPLATE,
    context: int = 256,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    **config: Any,
) -> Path:
    """Write a checkpoint into ``folder`` and return it; ``config`` goes into its ``generation_config.json``."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokens.train_from_iterator([WORDS] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=special[0])
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    shape = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    about = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.5,
        **shape,
    )
    weights = LlamaForCausalLM(about)
    # It never ends by itself: a test that wants an end says which token it is.
    weights.lm_head.weight.data[: len(special)] = 0.0
    weights.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if config:
        path = folder / "generation_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def teach(folder: Path, *answers: str, prompts: Sequence[str] = ("Say it.",), steps: int = 120) -> Path:
    """Train a checkpoint until it says one of ``answers``, the first one rather; a second of work. Returns the folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = AutoModelForCausalLM.from_pretrained(folder).train()
    texts = [f"<|user|>{p}<|end|><|assistant|>{a}<|end|>" for p in prompts for a in (answers[0], *answers)]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    labels = padded.masked_fill(mask == 0, -100)
    learner = torch.optim.AdamW(weights.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = weights(input_ids=padded, attention_mask=mask, labels=labels).loss
        learner.zero_grad()
        loss.backward()
        learner.step()
    weights.eval().save_pretrained(folder)
    return folder


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch use one thread: more are no faster for models so small, and wait for each other on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
