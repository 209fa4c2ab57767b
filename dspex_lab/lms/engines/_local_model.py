"""A language model in this process: weights, tokenizer, and the batches it answers.

Knows nothing of DSPy's requests but :class:`~dspex_lab.lms.engines._local_request.Ask` and ``Answer``, so that it can live in
a worker process as well as here. Models are loaded once per process and shared; one that nobody uses is freed.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

from dspex_lab._lazy import require
from dspex_lab.lms.engines._local_batch import Batcher, Job
from dspex_lab.lms.engines._local_checkpoint import Checkpoint, read, resolved
from dspex_lab.lms.engines._local_errors import PROVIDER, bad_request, failed, is_out_of_memory, out_of_memory
from dspex_lab.lms.engines._local_grammar import Grammar, can_constrain, grammar_tokenizer
from dspex_lab.lms.engines._local_request import Ask
from dspex_lab.lms.engines._local_rows import Choosing, Done, Row, Sampling
from dspex_lab.lms.engines._local_text import Decoder, Writing

#: Names under which configurations keep the length of the context.
_LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
#: Prompts and answers of one batch, padding included.
_BATCH_TOKENS = 32_768
_COLDEST = 1e-4
#: What tokenizers say who have no limit.
_NO_LIMIT = 1_000_000_000
#: Where a model without a chat template goes on to write the user's next words, its answer is over.
_NEXT_TURN = "\n\nUser:"


_loaded: weakref.WeakValueDictionary[Checkpoint, LocalModel] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def load(checkpoint: Checkpoint) -> LocalModel:
    """Return the model, loaded if this process does not have it.

    Raises:
        ConfigurationError: torch or transformers is not installed, or there is no such device.
        UnsupportedModelError: there is no such checkpoint, or it holds code, pickles or nothing that writes text.
        LocalOutOfMemory: it is too large.
    """
    torch = require("torch", "for local models")
    require("transformers", "for local models")
    found = resolved(torch, checkpoint)
    with _loading:
        model = _loaded.get(found)
        if model is None:
            model = _loaded[found] = LocalModel(found, *read(torch, found))
        return model


def loaded_models() -> list[dict[str, Any]]:
    """Return what this process has loaded, one dict a model: ``model``, ``kind``, ``device``, ``dtype``, ``bytes`` of weights.

    Looks only at what is imported; to be asked of a worker too: ``await pool.call(loaded, place=...)``.
    """
    embed = sys.modules.get("dspex_lab.lms._embed")
    return [model.facts() for model in list(_loaded.values())] + ([] if embed is None else embed.loaded_embedders())


def release() -> None:
    """Give back the memory of models that nobody uses any more."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class LocalModel:
    """Weights and tokenizer, and the queue of what they are asked. Thread-safe.

    Args:
        checkpoint: with its device and dtype resolved.
        tokenizer: of transformers; ``weights`` is the causal language model.
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: Any, weights: Any) -> None:
        from transformers import GenerationConfig

        self.checkpoint = checkpoint
        self.tokenizer = tokenizer
        self.weights = weights
        own = weights.generation_config
        self._own = Sampling(
            temperature=(1.0 if own.temperature is None else own.temperature) if own.do_sample else 0.0,
            top_p=1.0 if own.top_p is None else own.top_p,
            top_k=(own.top_k or 0) if own.do_sample else 0,
            repetition_penalty=own.repetition_penalty or 1.0,
        )
        self._ends = _ids(own.eos_token_id) | _ids(weights.config.eos_token_id) | _ids(tokenizer.eos_token_id)
        self._pad = next(iter(_ids(tokenizer.pad_token_id) or self._ends), 0)
        # What a checkpoint's file says about generation is not let loose on generate(): only what is read above counts.
        weights.generation_config = GenerationConfig()
        self.context = _context(weights.config, tokenizer)
        self._template = bool(getattr(tokenizer, "chat_template", None))
        self._grammars: Any = None
        self._batcher = Batcher(self._answer, f"dspex-local-{Path(checkpoint.path).name}")

    def facts(self) -> dict[str, Any]:
        """Return what :func:`loaded` says of it."""
        size = sum(part.nbytes for part in self.weights.parameters())
        about = {"device": self.checkpoint.device, "dtype": str(self.weights.dtype).removeprefix("torch."), "bytes": size}
        return {"model": self.checkpoint.path, "kind": "lm", **about}

    def submit(self, job: Job) -> None:
        """Have ``job`` answered; it is told the outcome, whatever that is."""
        self._batcher.submit(job)

    def idle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is asked, ``timeout`` seconds at most, and say whether that is so."""
        return self._batcher.idle(timeout)

    # --- prompts ----------------------------------------------------------------------------------------------

    def prompt(self, ask: Ask) -> list[int]:
        """Return the tokens of the prompt, by the tokenizer's chat template, or a plain one where it has none.

        Raises:
            InvalidRequestError: the template refuses these messages.
        """
        from jinja2 import TemplateError

        turns = [{"role": role, "content": text} for role, text in ask.turns]
        if not self._template:
            return list(self.tokenizer(_plain(ask.turns))["input_ids"])
        open_end = turns[-1]["role"] == "assistant"
        how = {"tokenize": False, "add_generation_prompt": not open_end, "continue_final_message": open_end}
        try:
            text = self.tokenizer.apply_chat_template(turns, **how)
        except (TemplateError, ValueError):
            try:  # many templates know no system message, or want user and assistant in turn
                text = self.tokenizer.apply_chat_template(_merged(ask.turns), **how)
            except (TemplateError, ValueError) as problem:
                raise bad_request(f"The model's chat template refuses these messages: {problem}") from problem
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def row(self, job: Job) -> Row:
        """Return the job as a row of a batch.

        Raises:
            ContextLengthError: its prompt leaves no room for an answer.
        """
        from dspy.lm15 import ContextLengthError

        ask = job.ask
        prompt = self.prompt(ask) or [self._pad]
        wanted = ask.max_tokens or job.tokens
        room = wanted if self.context is None else self.context - len(prompt)
        if room < 1:
            raise ContextLengthError(
                f"The prompt has {len(prompt):,} tokens; the context of {self.checkpoint.path!r} holds {self.context:,}, the "
                "answer included.",
                provider=PROVIDER,
            )
        stops = ask.stop if self._template else (*ask.stop, _NEXT_TURN)
        return Row(
            ask,
            prompt,
            sampling=self._sampling(ask),
            limit=min(wanted, room),
            clamped=ask.max_tokens is not None and room < ask.max_tokens,
            ends=self._ends,
            writing=Writing(Decoder(self._decode), stops, job.piece if job.streams else None),
            grammar=self._grammar(ask),
            name=self._name,
            cancelled=job.cancelled,
        )

    def _sampling(self, ask: Ask) -> Sampling:
        own = self._own
        chosen = own.temperature if ask.temperature is None else ask.temperature
        return Sampling(
            # Near 0 the division overflows; the likeliest token has all the mass there anyway.
            temperature=chosen if chosen > _COLDEST else 0.0,
            top_p=own.top_p if ask.top_p is None else ask.top_p,
            top_k=own.top_k if ask.top_k is None else ask.top_k,
            repetition_penalty=own.repetition_penalty,
        )

    def _grammar(self, ask: Ask) -> Grammar | None:
        if ask.schema is None or not can_constrain():
            return None
        if self._grammars is None:
            self._grammars = grammar_tokenizer(self.tokenizer, self.weights.config.get_text_config().vocab_size) or False
        return Grammar(self._grammars, ask.schema) if self._grammars else None

    def _decode(self, ids: Any) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _name(self, token: int) -> str:
        text: str = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return text

    # --- answering --------------------------------------------------------------------------------------------

    def _answer(self, jobs: list[Job]) -> list[Job]:
        """Answer jobs together; return those that did not fit beside the others."""
        rows: list[tuple[Job, Row]] = []
        left: list[Job] = []
        for job in jobs:
            try:
                row = self.row(job)
            except Exception as problem:
                job.end(problem)
                continue
            if rows and _size([*(r for _, r in rows), row]) > _BATCH_TOKENS:
                left.append(job)
            else:
                rows.append((job, row))
        for job, row in rows:
            job.begin(row.begun)
        if rows:
            self._run(rows)
        return left

    def _run(self, batch: list[tuple[Job, Row]]) -> None:
        problem: BaseException | None = None
        try:
            self._generate([row for _, row in batch])
        except BaseException as raised:  # whatever it is, those who wait are told
            problem = raised
        if problem is not None:
            self._failed(batch, problem)
            return
        for job, row in batch:
            job.end(row.problem or row.answer())

    def _failed(self, batch: list[tuple[Job, Row]], problem: BaseException) -> None:
        if not is_out_of_memory(problem):
            for job, _ in batch:
                job.end(failed(problem))
            return
        # The frames of the traceback hold the tensors that filled the memory.
        problem = problem.with_traceback(None)
        problem.__context__ = None
        release()
        for job, row in batch:
            if len(batch) == 1 or job.told:
                tokens = f"a prompt of {len(row.prompt):,} tokens and an answer of up to {row.limit:,}"
                job.end(out_of_memory(tokens, self.checkpoint.device, problem))
        for job, _ in batch:  # too many at once: one after the other, they may fit
            if not job.over:
                self._answer([job])

    def _generate(self, rows: list[Row]) -> None:
        import torch
        from transformers import GenerationConfig

        longest = max(len(row.prompt) for row in rows)
        # On the left: the next token must follow the prompt itself.
        ids = [[self._pad] * (longest - len(row.prompt)) + row.prompt for row in rows]
        mask = [[0] * (longest - len(row.prompt)) + [1] * len(row.prompt) for row in rows]
        device = self.weights.device
        with torch.inference_mode():
            self.weights.generate(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=max(row.limit for row in rows),
                    pad_token_id=self._pad,
                    use_cache=True,
                ),
                logits_processor=[Choosing(rows)],
                stopping_criteria=[Done(rows)],
            )


def _size(rows: list[Row]) -> int:
    return len(rows) * (max(len(r.prompt) for r in rows) + max(r.limit for r in rows))


def _ids(value: Any) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset([value] if isinstance(value, int) else value)


def _context(config: Any, tokenizer: Any) -> int | None:
    """Return how many tokens prompt and answer may have together; None where neither says."""
    text = config.get_text_config()
    known = [n for name in _LENGTHS if isinstance(n := getattr(text, name, None), int) and n > 0]
    if isinstance(tokenizer.model_max_length, int) and 0 < tokenizer.model_max_length < _NO_LIMIT:
        known.append(tokenizer.model_max_length)
    return min(known, default=None)


def _plain(turns: tuple[tuple[str, str], ...]) -> str:
    names = {"system": "", "user": "User: ", "assistant": "Assistant: ", "tool": "Tool: "}
    told = "\n\n".join(names[role] + text for role, text in turns)
    return told if turns[-1][0] == "assistant" else f"{told}\n\nAssistant:"


def _merged(turns: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    """Return the messages without a system role, and with neighbours of one role made one."""
    out: list[dict[str, str]] = []
    for role, text in turns:
        role = "assistant" if role == "assistant" else "user"
        if out and out[-1]["role"] == role:
            out[-1]["content"] += f"\n\n{text}"
        else:
            out.append({"role": role, "content": text})
    return out
