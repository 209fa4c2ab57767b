"""What a client asks, whichever way it came in, and what it is answered."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json, to_jsonable_python

from dspex_lab.pipelines import Result
from dspex_lab.web._fallbacks import Fallback
from dspex_lab.web._inputs import Misfit, Unfit, read_inputs
from dspex_lab.web._offers import Offer
from dspex_lab.web._routing import Route

#: The model's name that leaves the choice to the router.
AUTO = "auto"
#: Characters of a request that it is routed by: what it is about stands at its beginning.
READ = 4_000


@dataclass(frozen=True)
class Ask:
    """A request.

    Args:
        id: of the request; a run of it has the tag ``request:<id>``.
        model: the offer that is asked for, or :data:`AUTO`.
        text: what a person wrote; None where ``inputs`` say all.
        inputs: fields by name, as JSON.
        history: earlier turns: ``{"role": …, "content": …}``.
        settings: of the model for this request: ``temperature``, ``max_tokens`` and their like.
        deadline: seconds that it may take.
        session, tags, seed: as of :class:`~dspex_lab.RunOptions`.
    """

    id: str
    model: str = AUTO
    text: str | None = None
    inputs: Mapping[str, Any] | None = None
    history: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    session: str | None = None
    tags: tuple[str, ...] = ()
    seed: int | None = None

    def inputs_for(self, offer: Offer) -> dict[str, Any]:
        """Return the inputs that an offer gets.

        Raises:
            Unfit: it cannot start on what the request gives.
        """
        given = dict(self.inputs or {})
        if self.text is not None and offer.text_input is not None:
            given.setdefault(offer.text_input, self.text)
        elif self.text is not None and not given:
            raise Unfit(Misfit("messages", f"the pipeline {offer.name!r} takes no text; give inputs"))
        if offer.history_input is not None and self._tells_history(offer):
            given.setdefault(offer.history_input, _history(offer, self.history))
        return read_inputs(offer.pipeline, given)

    def fits(self, offer: Offer) -> bool:
        """Say whether an offer can start on what the request gives."""
        try:
            self.inputs_for(offer)
        except Unfit:
            return False
        return True

    def _tells_history(self, offer: Offer) -> bool:
        """Say whether the turns until now are an input: where it is required also none, at the first turn."""
        return bool(self.history) or offer.pipeline.inputs[offer.history_input or ""].required

    def words(self) -> str:
        """Return what the request is routed by."""
        if self.text is not None:
            return self.text[:READ]
        return " ".join(str(value) for value in (self.inputs or {}).values())[:READ]


def _history(offer: Offer, turns: Sequence[Mapping[str, Any]]) -> Any:
    """Return earlier turns as an offer's input has them: as they are, or as DSPy's history, by the names of its fields."""
    kind = offer.pipeline.inputs[offer.history_input or ""].type
    if not isinstance(kind, type):
        return [dict(turn) for turn in turns]
    asked, said = offer.text_input or "question", offer.content_output or next(reversed(offer.pipeline.outputs))
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn["role"] == "user":
            messages.append({asked: turn["content"]})
        elif turn["role"] == "assistant" and messages and said not in messages[-1]:
            messages[-1][said] = turn["content"]
    return {"messages": messages}


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Args:
        offer: the one that answered, or failed last.
        result: of its run.
        route: why it was asked.
        fallback: what was used because the first one failed; None where nothing was.
        tried: the failures before that: what failed, and of which class.
        seconds: from the request to here.
    """

    ask: Ask
    offer: Offer
    result: Result
    route: Route
    fallback: Fallback | None = None
    tried: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return answered(self.offer, self.result)

    @property
    def content(self) -> str:
        """The answer as text: the output that is it, or all outputs as a JSON object."""
        return content_of(self.offer, self.result.outputs)

    def about(self) -> dict[str, Any]:
        """Return what the response says beside the answer, as JSON."""
        return {
            "request_id": self.ask.id,
            "run_id": self.result.run_id,
            "pipeline": self.offer.name,
            "status": self.result.status,
            "seconds": round(self.seconds, 6),
            "routed_by": self.route.why,
            "ranking": [{"pipeline": each.name, "score": each.score} for each in self.route.ranking[:5]],
            "fallback_used": self.fallback is not None,
            "fallback_reason": None if self.fallback is None else self.fallback.why,
            "outputs": named(self.result.outputs),
            "simulated": self.result.simulated,
            "cost": self.result.cost,
        }


def answered(offer: Offer, result: Result) -> bool:
    """Say whether a run gave what the answer is made of."""
    wanted = [offer.content_output] if offer.content_output is not None else list(offer.pipeline.outputs)
    return result.status != "failed" and not result.cancelled and all(name in result.outputs for name in wanted)


def content_of(offer: Offer, outputs: Mapping[str, Any]) -> str:
    """Return outputs as text."""
    value = named(outputs) if offer.content_output is None else plain(outputs.get(offer.content_output))
    return value if isinstance(value, str) else written(value, ensure_ascii=False)


def named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields by name as JSON has them."""
    return {name: plain(value) for name, value in values.items()}


def written(data: Any, *, ensure_ascii: bool = True, between: tuple[str, str] = (",", ":")) -> str:
    """Return what :func:`plain` gave as JSON text; a number of thousands of digits, which Python does not write, as text.

    Args:
        between: what stands between members, and after their names.
    """
    try:
        return json.dumps(data, ensure_ascii=ensure_ascii, separators=between)
    except ValueError:
        return json.dumps(_spelled(data), ensure_ascii=ensure_ascii, separators=between)


def _spelled(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _spelled(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_spelled(value) for value in data]
    return to_json(data).decode() if isinstance(data, int) and data.bit_length() > _BITS else data


#: Bits of the longest number that Python writes in any case.
_BITS = 2_000


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what has no form there as text."""
    try:
        return to_jsonable_python(value, serialize_unknown=True, inf_nan_mode="null", bytes_mode="base64")
    except ValueError:  # it holds itself, is too deep, or has a name with half a character
        return reprlib.repr(value)
