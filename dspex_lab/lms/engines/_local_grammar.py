"""Answers held to a JSON schema while they are written, by ``llguidance`` (extra ``neural``).

llguidance is one Rust wheel of 3 MB without needs of its own; vLLM, SGLang and llama.cpp use it. Its alternatives bring more:
xgrammar needs a compiler at run time, outlines and lm-format-enforcer index the vocabulary in Python. Without it answers are
checked when they are whole.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
from typing import Any

from dspex_lab.lms.engines._local_errors import bad_request, garbled

#: JSON as Python writes it. Free white space would let a weak model write blanks until max_tokens.
_STYLE: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@functools.cache
def can_constrain() -> bool:
    """Say whether llguidance is installed."""
    return importlib.util.find_spec("llguidance") is not None


def grammar_tokenizer(tokenizer: Any, vocabulary: int) -> Any:
    """Return the tokenizer as llguidance reads it; None for one it cannot read. Takes up to a second.

    Args:
        vocabulary: how many logits the model gives, which may be more than there are tokens.
    """
    from llguidance import LLTokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.eos_token_id is None:
        return None
    plain = copy.copy(backend)
    plain.no_padding()
    plain.no_truncation()
    try:
        return LLTokenizer(plain.to_str(), n_vocab=vocabulary, eos_token=tokenizer.eos_token_id)
    except ValueError:
        return None


class Grammar:
    """Says at each place of one answer which tokens may come.

    Args:
        tokenizer: from :func:`grammar_tokenizer`.
        schema: the JSON schema of the answer.

    Raises:
        InvalidRequestError: llguidance cannot hold to this schema.
    """

    def __init__(self, tokenizer: Any, schema: dict[str, Any]) -> None:
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_STYLE)
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise bad_request(f"The answer cannot be held to this JSON schema: {self._matcher.get_error()[:500]}")

    def mask(self, scores: Any) -> Any:
        """Return the scores with minus infinity for what may not come next."""
        import torch

        bias = bytearray(self._matcher.compute_logit_bias())
        self._refuse_error()
        allowed = torch.frombuffer(bias, dtype=torch.uint8).to(scores.device)[: scores.shape[-1]] != 0
        if allowed.shape[-1] < scores.shape[-1]:
            allowed = torch.nn.functional.pad(allowed, (0, scores.shape[-1] - allowed.shape[-1]))
        return scores.masked_fill(~allowed, float("-inf"))

    def take(self, token: int) -> bool:
        """Take note of the token that came; return whether the answer is whole and nothing may follow."""
        self._matcher.consume_token(token)
        self._refuse_error()
        return bool(self._matcher.is_stopped())

    def _refuse_error(self) -> None:
        if self._matcher.is_error():
            raise garbled(f"The answer left its JSON schema: {self._matcher.get_error()[:500]}")
