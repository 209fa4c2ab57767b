"""What answers where a pipeline has failed: what fits the class of the failure. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dspex_lab.errors import (
    BudgetExceeded,
    BulkheadFull,
    CircuitOpen,
    DspexError,
    LMError,
    PipelineError,
    PoolError,
    SandboxError,
    StoreError,
    TaskTimeout,
)
from dspex_lab.resilience import chain
from dspex_lab.web._offers import Offer

#: ``budget``: nothing may be spent any more. ``provider``: the model could not be asked. ``answer``: what it wrote could not be
#: read. ``timeout`` and ``worker``: too slow, or too much for a worker. ``tools``: a tool failed, or code that the model wrote.
Failure = Literal["budget", "provider", "answer", "timeout", "worker", "tools", "other"]


@dataclass(frozen=True)
class Fallback:
    """What is tried next.

    Args:
        offer: the offer that answers.
        model: the model that is asked in place of the one in use; None for that one.
        failure: the class of the failure it is for.
        why: a sentence for the client.
    """

    offer: Offer
    model: Any
    failure: Failure
    why: str


def failure_of(error: BaseException | None, offer: Offer) -> Failure:
    """Return the class of what a run of an offer has failed by."""
    causes = [] if error is None else list(chain(error))
    kinds = {base.__name__ for cause in causes for base in type(cause).__mro__}
    if any(isinstance(cause, BudgetExceeded) for cause in causes):
        return "budget"
    if any(isinstance(cause, TaskTimeout) for cause in causes) or ("LMError" not in kinds and "TimeoutError" in kinds):
        return "timeout"
    if any(isinstance(cause, LMError | CircuitOpen | BulkheadFull) for cause in causes) or "LMError" in kinds:
        return "provider"
    if "AdapterParseError" in kinds:
        return "answer"
    if any(isinstance(cause, PoolError) for cause in causes):
        return "worker"
    if offer.uses_tools or any(isinstance(cause, SandboxError) for cause in causes):
        return "tools"
    return "other"


def fallbacks(
    failure: Failure,
    offer: Offer,
    others: Sequence[Offer],
    fits: Callable[[Offer], bool],
    *,
    like: Container[str] = (),
    models: Sequence[Any] = (),
    declared: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Fallback]:
    """Return what may answer in the place of an offer, the best first.

    Args:
        others: all offers, the best for this request first.
        fits: says whether an offer can start on the request.
        like: the names of those that are like the request. One that nobody has declared must be among them, or give what the
            failed one gives: an answer to another question would be none.
        models: that may be asked in place of the one in use, in this order.
        declared: for an offer's name those that somebody has said to be tried for it, whatever the failure.
    """
    by_name = {each.name: each for each in others}
    named = (declared or {}).get(offer.name, ())
    for name in named:
        if name in by_name and fits(by_name[name]):
            yield Fallback(by_name[name], None, failure, f"{_said(failure, offer)}; {name!r} is declared as its fallback")
    if failure in ("provider", "answer"):
        for model in models:
            name = getattr(model, "model", model)
            yield Fallback(offer, model, failure, f"{_said(failure, offer)}; the model {name!r} was asked")
    for each in others:
        if each.name == offer.name or each.name in named or not fits(each):
            continue
        if each.name not in like and _gives(each) != _gives(offer):
            continue
        if why := _fits(failure, offer, each):
            yield Fallback(each, None, failure, f"{_said(failure, offer)}; {each.name!r} {why}")


def _gives(offer: Offer) -> set[str]:
    return {offer.content_output} if offer.content_output is not None else set(offer.pipeline.outputs)


def _fits(failure: Failure, offer: Offer, other: Offer) -> str | None:
    """Return why another offer may do where this one failed, None where it would fail by the same."""
    if failure in ("budget", "provider"):
        return "asks no model" if other.asks == 0 else None
    if failure == "tools":
        return "does without tools" if not other.uses_tools else None
    return "is simpler" if other.asks < offer.asks else None


_WORDS: Mapping[Failure, str] = {
    "budget": "may not spend any more",
    "provider": "could not ask its model",
    "answer": "could not read what its model wrote",
    "timeout": "took too long",
    "worker": "was too much for a worker",
    "tools": "failed in a tool",
    "other": "failed",
}


def _said(failure: Failure, offer: Offer) -> str:
    return f"{offer.name!r} {_WORDS[failure]}"


def told_of(error: BaseException | None) -> str:
    """Return what a client may know of an error: our own errors as they say it, of others only what they are.

    So also of the store's, which name its file.
    """
    if error is None:
        return "it gave no answer"
    if isinstance(error, PipelineError) and error.__cause__ is not None:
        return told_of(error.__cause__)
    if isinstance(error, DspexError) and not isinstance(error, StoreError):
        return error.message
    return type(error).__name__
