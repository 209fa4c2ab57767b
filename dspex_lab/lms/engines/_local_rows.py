"""The token-wise half of generation: many requests in one batch, each with settings of its own.

``transformers.generate`` samples a whole batch with one set of settings and one random generator. Here a logits processor
chooses each row's next token itself and leaves only that one possible, so that ``generate``'s greedy search takes it; a
stopping criterion says which rows are done. Both are asked between any two tokens, which is where a row can be cancelled.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_lab.lms.engines._local_errors import garbled
from dspex_lab.lms.engines._local_request import Answer, Ask, Begun, Score
from dspex_lab.lms.engines._local_text import Writing


@dataclass(frozen=True)
class Sampling:
    """How the next token is taken; ``temperature`` 0 takes the likeliest."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float


class Row:
    """One request while it is answered.

    Args:
        prompt: the tokens of its prompt.
        limit: the most tokens it may have; ``clamped`` says that the request asked for more.
        ends: the tokens that end an answer.
        grammar: keeps the answer within a JSON schema (:class:`~._local_grammar.Grammar`); None where anything may be said.
        name: the text of one token.
        cancelled: says whether its answer is still wanted.
    """

    def __init__(
        self,
        ask: Ask,
        prompt: list[int],
        *,
        sampling: Sampling,
        limit: int,
        clamped: bool,
        ends: frozenset[int],
        writing: Writing,
        grammar: Any,
        name: Callable[[int], str],
        cancelled: Callable[[], bool],
    ) -> None:
        self.ask = ask
        self.prompt = prompt
        self.limit = limit
        self.cancelled = cancelled
        self.finish: str | None = None
        self.problem: BaseException | None = None
        self._sampling = sampling
        self._clamped = clamped
        self._ends = ends
        self._writing = writing
        self._grammar = grammar
        self._name = name
        self._random = random.Random(ask.seed)  # noqa: S311 - sampling, not a secret
        self._written = 0
        self._counts: Counter[int] = Counter()

    @property
    def begun(self) -> Begun:
        """What is known before the first token."""
        return Begun(self.ask.max_tokens, self.limit) if self._clamped else Begun()

    @property
    def done(self) -> bool:
        """Say whether no more tokens are wanted."""
        return self.finish is not None or self.problem is not None or self.cancelled()

    @property
    def plain(self) -> bool:
        """Say whether the likeliest token is the one to take, and nothing is to be said of the others."""
        return (
            self._sampling.temperature == 0
            and self._sampling.repetition_penalty == 1
            and not (self.ask.frequency_penalty or self.ask.presence_penalty)
            and self.ask.logprobs is None
            and self._grammar is None
        )

    def take(self, token: int, score: Score | None = None) -> None:
        """Add a token to the answer."""
        self._written += 1
        self._counts[token] += 1
        if token in self._ends:
            self._finish("stop")
            return
        self._writing.push(token, score)
        grammar_done = self._grammar is not None and self._grammar.take(token)
        if self._writing.stopped or grammar_done:
            self._finish("stop")
        elif self._written >= self.limit:
            self._finish("length")

    def _finish(self, reason: str) -> None:
        self._writing.end()
        self.finish = "stop" if self._writing.stopped else reason

    def choose(self, logits: Any) -> tuple[int, Score | None]:
        """Return the next token and, where asked for, its score.

        Args:
            logits: a vector of the vocabulary's length, float32.
        """
        import torch

        scores = logits
        if self._grammar is not None:
            scores = self._grammar.mask(scores)
        scores = self._penalised(scores)
        if self._sampling.temperature == 0:
            token = int(scores.argmax())
        else:
            token = _sample(scores, self._sampling, self._random.random())
        if self.ask.logprobs is None:
            return token, None
        known = torch.log_softmax(logits, dim=-1)
        top = known.topk(min(self.ask.logprobs, known.shape[-1])) if self.ask.logprobs else None
        likeliest = [] if top is None else list(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        others = tuple((self._name(number), number, value) for number, value in likeliest)
        return token, Score(self._name(token), token, float(known[token]), others)

    def _penalised(self, scores: Any) -> Any:
        import torch

        penalty = self._sampling.repetition_penalty
        if penalty != 1:  # Keskar et al. 2019, "CTRL", section 4.1
            seen = torch.tensor(sorted({*self.prompt, *self._counts}), device=scores.device)
            values = scores[seen]
            scores = scores.index_put((seen,), torch.where(values < 0, values * penalty, values / penalty))
        if (self.ask.frequency_penalty or self.ask.presence_penalty) and self._counts:
            seen = torch.tensor(list(self._counts), device=scores.device)
            times = torch.tensor(list(self._counts.values()), device=scores.device, dtype=scores.dtype)
            less = times * self.ask.frequency_penalty + self.ask.presence_penalty
            scores = scores.index_put((seen,), scores[seen] - less)
        return scores

    def answer(self) -> Answer:
        """Return what was written."""
        scores = None if self.ask.logprobs is None else tuple(s.score for s in self._writing.scores)
        return Answer(
            text=self._writing.text,
            finish=self.finish or "stop",
            input_tokens=len(self.prompt),
            output_tokens=self._written,
            scores=scores,
            scored=self._writing.scored,
            allowed=self.begun.allowed,
            asked=self.begun.asked,
        )


def _sample(scores: Any, how: Sampling, draw: float) -> int:
    """Return the token at the place ``draw`` (0 to 1) of the distribution, by inversion.

    One number from the request's own generator a token: neither the other rows of a batch nor the device have a say in it.
    """
    import torch

    if how.top_k and how.top_k < scores.shape[-1]:
        kept = scores.topk(how.top_k)
        scores, names = kept.values, kept.indices
    else:
        names = None
    shares = torch.softmax((scores / how.temperature).double() if scores.device.type != "mps" else scores / how.temperature, -1)
    if how.top_p < 1:  # Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1
        shares, order = shares.sort(descending=True, stable=True)
        names = order if names is None else names[order]
        # The smallest set that holds top_p of the mass; the likeliest token is always in it.
        kept_mass = shares.cumsum(-1) - shares < how.top_p
        kept_mass[0] = True
        shares = shares * kept_mass
    upto = shares.cumsum(-1)
    place = int(torch.searchsorted(upto, draw * upto[-1], right=True).clamp_max(upto.shape[-1] - 1))
    while place > 0 and shares[place] == 0:
        place -= 1  # rounding put the draw past the last token that may be taken
    return place if names is None else int(names[place])


class Choosing:
    """The logits processor of a batch: chooses each row's token and leaves no other possible."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores ``generate`` is to search: 0 for the chosen token, minus infinity for the others."""
        import torch

        likeliest = scores.max(dim=-1)
        tokens, values = likeliest.indices.tolist(), likeliest.values.tolist()
        chosen = []
        for number, row in enumerate(self._rows):
            token = tokens[number]
            if not row.done:
                token = self._step(row, token, values[number], scores[number])
            chosen.append([token])
        forced = torch.full_like(scores, float("-inf"))
        return forced.scatter_(1, torch.tensor(chosen, device=scores.device), 0.0)

    @staticmethod
    def _step(row: Row, likeliest: int, value: float, logits: Any) -> int:
        if value != value or value == float("inf"):
            row.problem = garbled(
                "The model's numbers are no numbers any more (NaN or infinite logits): float16 overflows with some models. "
                "Use dtype='float32' or 'bfloat16'."
            )
            return likeliest
        try:
            token, score = (likeliest, None) if row.plain else row.choose(logits)
            row.take(token, score)
        except Exception as problem:  # of this row alone; the others go on
            row.problem = problem
            return likeliest
        return token


class Done:
    """The stopping criterion of a batch: which rows need no more tokens."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Return one truth value per row."""
        import torch

        return torch.tensor([row.done for row in self._rows], device=input_ids.device)
