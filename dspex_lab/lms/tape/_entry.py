"""One call on a tape: what was asked, what came back, and how long it took."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from dspex_lab.lms.tape._errors import error_from
from dspex_lab.lms.tape._request import Asked, Masker, dumps
from dspex_lab.security import MASK

if TYPE_CHECKING:
    from dspy.lm15 import Request, Response

#: How an engine was asked: for a whole answer, for a stream, in DSPy's form for LiteLLM, for vectors.
Kind: TypeAlias = Literal["complete", "stream", "legacy", "embed"]

_KEYS = {"take", "number", "kind", "request", "rollout", "answer", "error", "seconds", "at"}
_MEDIA = ("image", "audio", "video", "document", "binary")


@dataclass(frozen=True, slots=True)
class Entry:
    """One call.

    Args:
        kind: how the engine was asked.
        asked: the request.
        answer: what came back, as JSON-able data: a response, the pieces of a stream ``[[seconds, event], …]``, DSPy's
            record of a LiteLLM answer, vectors. None where it failed before anything came.
        error: how it failed, of :func:`error_data`; None where it did not.
        seconds: how long it took.
        take: the recording it belongs to, from 1; ``number`` is its place among the calls of that recording, by when it was
            asked.
        line: its line in the file; 0 where there is none.
    """

    kind: Kind
    asked: Asked
    answer: Any
    error: dict[str, Any] | None
    seconds: float
    take: int = 1
    number: int = 1
    line: int = 0

    def write(self, mask: Masker, at: str) -> bytes:
        """Return the entry as a line of a tape; ``at`` is the time in words."""
        answer = self.answer
        if self.kind == "stream" and answer:
            answer = mask_pieces(answer, mask)
        record = {
            "take": self.take,
            "number": self.number,
            "at": at,
            "kind": self.kind,
            "seconds": round(self.seconds, 6),
            **({} if self.asked.rollout is None else {"rollout": self.asked.rollout}),
            "request": self.asked.request,  # masked already
            **({} if answer is None else {"answer": mask.data(answer)}),
            **({} if self.error is None else {"error": mask.data(self.error)}),
        }
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def read(cls, data: Any, line: int) -> Entry:
        """Return the entry that a line of a tape holds, whose answer was made once to see that it can be.

        Raises:
            ValueError, TypeError, KeyError: it holds none.
        """
        if not isinstance(data, dict) or (unknown := set(data) - _KEYS):
            raise ValueError("it is no call" if not isinstance(data, dict) else f"unknown: {', '.join(sorted(unknown))}")
        kind, request = data["kind"], data["request"]
        if kind not in get_args(Kind) or not isinstance(request, dict):
            raise ValueError("the kind or the request is none")
        entry = cls(
            kind=kind,
            asked=Asked.masked_already(request, data.get("rollout")),
            answer=data.get("answer"),
            error=data.get("error"),
            seconds=_number(data, "seconds", float | int),
            take=_number(data, "take", int),
            number=_number(data, "number", int),
            line=line,
        )
        entry._check()
        return entry

    def _check(self) -> None:
        if self.answer is None and self.error is None:
            raise ValueError("it has neither an answer nor an error")
        if self.error is not None:
            error_from(self.error)
        if self.answer is None:
            return
        if self.kind == "complete":
            _no_files(self.response().message.parts)
        elif self.kind == "stream":
            for _ in self.pieces():
                pass
        elif self.kind == "legacy":
            self.call_result()
        else:
            self.vectors()

    def response(self) -> Response:
        """Return the answer of a ``complete`` call."""
        from dspy._vendor.lm15.serde import response_from_dict

        made: Response = response_from_dict(self.answer)
        return made

    def pieces(self) -> Iterator[tuple[float, Any]]:
        """Yield the events of a stream, and after how many seconds each came."""
        from dspy._vendor.lm15.serde import stream_event_from_dict

        for after, event in self.answer or ():
            if isinstance(after, bool) or not isinstance(after, int | float) or not 0 <= after < 1e9:
                raise ValueError("a piece of a stream came at no time")
            yield float(after), stream_event_from_dict(event)

    def assembled(self, request: Request) -> Response:
        """Return the whole answer, also of a stream.

        Raises:
            LM15Error: the stream broke off, or has no end.
        """
        if self.kind == "complete":
            return self.response()
        from dspy._vendor.lm15.result import StreamAccumulator
        from dspy.clients.engines.stream_guard import checked_stream

        whole = StreamAccumulator(request)
        for event in checked_stream(self._events()):
            whole.push(event)
        made: Response = whole.response()
        return made

    def _events(self) -> Iterator[Any]:
        for _, event in self.pieces():
            yield event
        if self.error is not None:
            raise error_from(self.error)

    def call_result(self) -> Any:
        """Return DSPy's ``CallResult`` of a LiteLLM answer, with the usage it had."""
        from dspy.clients.call_result import CallResult

        if not isinstance(self.answer["outputs"], list) or not isinstance(self.answer["usage"], dict):
            raise TypeError("the outputs or the usage are none")
        result = CallResult.load(self.answer)
        result.usage, result.cache_hit = dict(self.answer["usage"]), False
        return result

    def vectors(self) -> list[list[float]]:
        """Return the vectors of an embedding."""
        rows = self.answer["vectors"]
        if not isinstance(rows, list) or not all(isinstance(row, list) and all(map(_is_number, row)) for row in rows):
            raise TypeError("the vectors are none")
        if len({len(row) for row in rows}) > 1:
            raise ValueError("the vectors have several lengths")
        return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(data: Mapping[str, Any], key: str, kind: Any) -> Any:
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value < 1e12:
        raise ValueError(f"{key} is {value!r}")
    return value


def _no_files(parts: Iterable[Any]) -> None:
    """Refuse an answer that names a file of the machine it is replayed on."""
    for part in parts:
        if part.type in _MEDIA and part.path is not None:
            raise ValueError("an answer names a file of this machine")


def mask_pieces(pieces: Sequence[Sequence[Any]], mask: Masker) -> list[list[Any]]:
    """Return the pieces of a stream with secrets masked that lie across several of them.

    The text of each part of the answer is masked as a whole and cut again where it was cut; a mask stands in the piece in
    which its secret began.
    """
    copy = [[after, json.loads(dumps(event))] for after, event in pieces]
    streams: dict[tuple[Any, ...], list[tuple[dict[str, Any], str]]] = {}
    for _, event in copy:
        delta = event.get("delta") or {}
        for key in ("text", "input"):
            if isinstance(delta.get(key), str):
                streams.setdefault((delta.get("type"), delta.get("part_index"), key), []).append((delta, key))
    for parts in streams.values():
        texts = [delta[key] for delta, key in parts]
        whole = "".join(texts)
        masked = mask(whole)
        if masked != whole:
            for (delta, key), text in zip(parts, _cut_again(texts, whole, masked), strict=True):
                delta[key] = text
                delta.pop("logprobs", None)  # they spell the text token by token
    return copy


def _cut_again(texts: Sequence[str], whole: str, masked: str) -> Iterator[str]:
    """Cut ``masked`` where ``whole`` was cut into ``texts``; what is yielded joins to ``masked``."""
    origin: list[tuple[int, str]] = []  # where in the whole each kept character, or the mask, began
    at = 0
    for number, kept in enumerate(masked.split(MASK)):
        if number:
            origin.append((at, MASK))
        found = whole.find(kept, at) if kept else at
        found = at if found < 0 else found
        origin += [(found + i, char) for i, char in enumerate(kept)]
        at = found + len(kept)
    end, taken = 0, 0
    for number, text in enumerate(texts):
        end += len(text)
        start, last = taken, number == len(texts) - 1
        while taken < len(origin) and (last or origin[taken][0] < end):
            taken += 1
        yield "".join(char for _, char in origin[start:taken])
