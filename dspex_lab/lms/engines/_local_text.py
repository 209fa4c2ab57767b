"""From tokens to text, piece by piece: whole characters only, and nothing that may turn out to be a stop sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dspex_lab.lms.engines._local_request import Piece, Score

_UNFINISHED = "\ufffd"


class _Scored(NamedTuple):
    score: Score
    start: int
    end: int


class Decoder:
    """Decodes tokens as they come; a character that is not whole yet waits for its other tokens.

    Args:
        decode: the tokenizer's ``decode``, which leaves special tokens out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._from = self._to = 0

    def push(self, token: int) -> str:
        """Return the text that ``token`` adds."""
        self._ids.append(token)
        # Decoded along with what stands before it: a token's text depends on its neighbours (spaces, byte pairs).
        before = self._decode(self._ids[self._from : self._to])
        whole = self._decode(self._ids[self._from :])
        if len(whole) <= len(before) or whole.endswith(_UNFINISHED):
            return ""
        self._from, self._to = self._to, len(self._ids)
        return whole[len(before) :]

    def rest(self) -> str:
        """Return what is left when no more tokens come: a character that stayed in pieces."""
        before = self._decode(self._ids[self._from : self._to])
        return self._decode(self._ids[self._from :])[len(before) :]


class Writing:
    """The text of one answer as it grows.

    Args:
        decoder: turns its tokens into text.
        stops: texts at which the answer ends; they are not part of it.
        tell: takes each piece that is sure to stay; None where nobody wants them.
    """

    def __init__(self, decoder: Decoder, stops: tuple[str, ...], tell: Callable[[Piece], None] | None) -> None:
        self.text = ""
        self.stopped = False
        self.scored = True
        self.scores: list[_Scored] = []
        self._decoder = decoder
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._tell = tell
        self._told = self._told_scores = 0
        self._said_scored = False

    def push(self, token: int, score: Score | None) -> None:
        """Take one more token."""
        start = len(self.text)
        self._add(self._decoder.push(token))
        if score is not None:
            self._score(score, start)
        self._pass_on(len(self.text) if self.stopped else self._sure())

    def end(self) -> None:
        """Take note that no more tokens come."""
        if not self.stopped:
            self._add(self._decoder.rest())
        self._pass_on(len(self.text))
        if self._tell is not None and self._said_scored and not self.scored:
            self._tell(Piece("", scored=False))  # what was told has a token that a stop sequence cut in two

    def _add(self, new: str) -> None:
        begin = max(0, len(self.text) - self._longest + 1)
        self.text += new
        found = [at for stop in self._stops if (at := self.text.find(stop, begin)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True
            self._cut_scores()

    def _score(self, score: Score, start: int) -> None:
        end = len(self.text)
        if self.stopped and start >= end:
            return  # it belongs to the stop sequence
        if self.stopped and end - start < len(score.token):
            self.scored = False
            return
        self.scores.append(_Scored(score, start, end))

    def _cut_scores(self) -> None:
        kept = [s for s in self.scores if s.end <= len(self.text)]
        if any(s.start < len(self.text) for s in self.scores[len(kept) :]):
            self.scored = False
        self.scores = kept

    def _sure(self) -> int:
        """Return how much of the text cannot become part of a stop sequence any more."""
        for length in range(min(self._longest - 1, len(self.text)), 0, -1):
            tail = self.text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return len(self.text) - length
        return len(self.text)

    def _pass_on(self, upto: int) -> None:
        if self._tell is None or upto <= self._told:
            return
        ready = [s.score for s in self.scores[self._told_scores :] if s.end <= upto]
        piece = Piece(self.text[self._told : upto], tuple(ready), self.scored)
        self._told, self._told_scores = upto, self._told_scores + len(ready)
        self._said_scored = piece.scored
        self._tell(piece)
