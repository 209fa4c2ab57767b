"""What a run gives back: a status that is never a bare success flag, outputs, and the outcome of each step."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import DspexError, PipelineError
from dspex_lab.events import Status
from dspex_lab.lms import hint_of

if TYPE_CHECKING:
    from dspex_lab.pipelines._pipeline import Pipeline


@dataclass(slots=True, repr=False)
class StepOutcome:
    """How one step ended.

    ``status`` is ``"complete"``, ``"partial"`` (it gave its fields, but less than wanted: ``note`` says what), ``"failed"``,
    ``"fallback"`` (its fallback answered), ``"skipped"`` (something it needs failed) or ``"cancelled"``. ``outputs`` holds
    every field it gave, also those a DSPy module adds (``reasoning``). ``parts`` are the outcomes of its inner steps.
    """

    name: str
    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    seconds: float = 0.0
    implementation: str | None = None
    worker: str | None = None
    parts: dict[str, StepOutcome] = field(default_factory=dict)
    note: str | None = None
    on_error: str = "stop"

    @property
    def why(self) -> str:
        """Return its error and its note as one line, "" where there is neither."""
        return " · ".join(part for part in (describe(self.error), self.note) if part)

    def __repr__(self) -> str:
        why = f", {self.why}" if self.why else ""
        return f"StepOutcome({self.name!r}, {self.status}, {self.seconds:.3g} s{why})"


@dataclass(slots=True, repr=False)
class Result:
    """One execution and what came of it.

    Attributes:
        status: ``complete``: every step did its work; ``partial``: some did; ``failed``: none of the outputs came.
        outputs: the fields of the steps that ran, in order of definition.
        steps: the outcome of each step, by name.
        seconds: wall time of the run.
        prompt_tokens: tokens sent, None where no engine told; ``completion_tokens`` those answered.
        cost: US dollars, None where a price is unknown.
        lm: the model in use; ``simulated`` says that the engine only imitates a provider (the offline engine).
        cancelled: the run was stopped before its end; what had ended by then is here.
        variables: with which values of variables it ran: ``{"version": of the space, "values": {name: value}}``; None where the
            Lab has none.
        asked_again: answers that were asked for a second time, in JSON, because the first could not be read: paid for twice,
            and both are in tokens and cost.
    """

    status: Status
    outputs: dict[str, Any]
    steps: dict[str, StepOutcome]
    run_id: str
    seconds: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    lm: str | None = None
    simulated: bool = False
    name: str = ""
    cancelled: bool = False
    asked_again: int = 0
    variables: dict[str, Any] | None = None

    @property
    def tokens(self) -> int | None:
        """Return prompt and completion tokens together, None where no engine told."""
        return total(self.prompt_tokens, self.completion_tokens)

    @property
    def error(self) -> BaseException | None:
        """Return the error of the first step that failed, else of one whose fallback answered, or None."""
        return next((s.error for s in self._by_gravity() if s.error is not None), None)

    def _by_gravity(self) -> list[StepOutcome]:
        return sorted(self.steps.values(), key=lambda s: s.status != "failed")

    def raise_for_status(self) -> Result:
        """Return the result if it is complete, else raise.

        Raises:
            PipelineError: a step failed; it carries every outcome and has the step's own exception as its cause.
        """
        if self.status == "complete":
            return self
        failed = next((s for s in self._by_gravity() if s.error is not None), None)
        short = failed or next((s for s in self.steps.values() if s.status == "partial"), None)
        step, cause = (short.name, short.error) if short else (None, None)
        kept = [s.name for s in self.steps.values() if s.status == "complete"]
        if short is None:
            what = "it was stopped"
        elif cause is None:
            what = f"step {step!r} gave less than wanted: {short.note}"
        else:
            what = failure_of(step or "", cause)
        hint = hint_of(cause)
        raise PipelineError(
            f"Run {self.run_id} ended {self.status}: {what}",
            step=step,
            outcomes=self.steps,
            hint=f"Kept: the outputs of {', '.join(map(repr, kept))}." if kept else hint,
        ) from cause

    def __repr__(self) -> str:
        fields = ", ".join(f"{n}={_clip(v, 80)}" for n, v in self.outputs.items())
        return f"<{self.summary()} · {fields}>"

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    def _repr_html_(self) -> str:
        e = html.escape
        rows = "".join(
            f"<tr><td style='text-align:left'><b>{e(name)}</b></td><td style='text-align:left'>{e(_clip(value))}</td></tr>"
            for name, value in self.outputs.items()
        )
        bad = "".join(f"<div>step <b>{e(s.name)}</b> {e(s.status)}: {e(s.why)}</div>" for s in self._by_gravity() if s.why)
        skipped = [s.name for s in self.steps.values() if s.status == "skipped"]
        if skipped:
            bad += f"<div>skipped: {e(', '.join(skipped))}</div>"
        return f"<div class='mathjax_ignore tex2jax_ignore'><div>{e(self.summary())}</div><table>{rows}</table>{bad}</div>"

    def summary(self) -> str:
        """Return one line: status, time, tokens, cost and the model that answered."""
        parts = [f"{self.name or 'run'}: {'stopped, ' if self.cancelled else ''}{self.status}", f"{self.seconds:.3g} s"]
        if self.tokens is not None:
            parts.append(f"{self.tokens:,} tokens")
        if self.cost:
            parts.append(f"${self.cost:.4f}")
        if self.asked_again:
            parts.append(f"asked again in JSON {self.asked_again} x")
        if self.lm:
            parts.append(self.lm + (" (simulated, no real model)" if self.simulated else ""))
        return " · ".join(parts)


def total(*parts: int | None) -> int | None:
    """Return the sum of what is known, None where nothing is."""
    known = [p for p in parts if p is not None]
    return sum(known) if known else None


def describe(error: BaseException | None) -> str:
    """Return an error as one line: its own message for ours, type and message for any other, and what to do about DSPy's."""
    if error is None:
        return ""
    if isinstance(error, DspexError):
        return str(error)
    hint = hint_of(error)
    return f"{_named(error)}{f' → {hint}' if hint else ''}"


def message_of(error: BaseException | None) -> str:
    """Return an error as :func:`describe` does, without what is to be done about it."""
    return error.message if isinstance(error, DspexError) else _named(error) if error is not None else ""


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def failure_of(step: str, cause: BaseException | None) -> str:
    """Return what is said of a step that failed by ``cause``; one that names the step, or one in it, says it all itself."""
    what = message_of(cause)
    inner = getattr(cause, "step", None)
    named = isinstance(inner, str) and (inner + ".").startswith(step + ".") and what.startswith(f"Step {inner!r}")
    return what if named else f"step {step!r} failed: {what}"


def _clip(value: Any, limit: int = 400) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def status_of(outcomes: Mapping[str, StepOutcome]) -> Status:
    """Return ``complete`` if every step is, ``failed`` if none gave anything, else ``partial``."""
    states = [o.status for o in outcomes.values()]
    if states and all(s == "complete" for s in states):
        return "complete"
    gave = any(o.status in ("complete", "fallback", "partial") or o.outputs for o in outcomes.values())
    return "partial" if gave else "failed"


def collect(pipeline: Pipeline, outcomes: Mapping[str, StepOutcome], *, lost: bool = False) -> dict[str, Any]:
    """Return the fields that came of a pipeline's steps, in order of definition.

    A field is what the last step that gives it gave: where that one failed, an earlier version does not stand in for it.

    Args:
        lost: a field of a failed step that says ``on_error="continue"`` is there as None.
    """
    outputs: dict[str, Any] = {}
    for name, giver in pipeline.givers:
        outcome = outcomes.get(giver)
        if outcome is not None:
            if name in outcome.outputs:
                outputs[name] = outcome.outputs[name]
            elif lost and outcome.status == "failed" and outcome.on_error == "continue":
                outputs[name] = None
    return outputs
