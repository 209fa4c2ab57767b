"""What a dry run found, as data, as text and as a table in the notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from dspex_lab.pipelines.dryrun._spend import FREE, Bounds, Spend, dollars

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the user should know. An ``error`` will happen, a ``warning`` is hardly meant, a ``note`` is worth knowing."""

    severity: Severity
    step: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {f'{self.step}: ' if self.step else ''}{self.text}"


@dataclass(frozen=True, slots=True)
class Connection:
    """A field on its way from a step (``""``: an input of the pipeline) to another, with the types both declare.

    ``checked`` says that both declare one.
    """

    field: str
    source: str
    target: str
    given: str
    wanted: str
    checked: bool


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step may ask of a model in one run.

    ``model`` is None where it is not known, and where it asks none; ``basis`` says where tokens and price come from.
    """

    step: str
    spend: Spend
    model: str | None
    basis: str


@dataclass(frozen=True)
class CheckReport:
    """What is known of a run before anything is run.

    Attributes:
        name: the pipeline's name.
        findings: errors first, then warnings, then notes.
        connections: every field between two steps, or between an input and a step.
        results: the output fields that no step reads: what the pipeline gives.
        levels: the steps by how soon they can begin; those of one level begin together where their inputs come together.
        width: the most steps that can be under way at once.
        path: the critical path: the steps that decide how long it takes; ``path_seconds`` is the sum of their usual times, None
            where they were not all measured (then the path with the most LM calls).
        steps: what each step may ask of a model, those in others (``reply.then``) included.
        run: what one run may spend, as if no step failed for good. ``most`` is None where it cannot be told.
        rows: how many rows ``all_rows`` is for.
        assumptions: what the estimate takes for granted.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    connections: tuple[Connection, ...] = ()
    results: tuple[str, ...] = ()
    levels: tuple[tuple[str, ...], ...] = ()
    width: int = 1
    path: tuple[str, ...] = ()
    path_seconds: float | None = None
    steps: Mapping[str, StepCost] = field(default_factory=dict)
    run: Spend = FREE
    rows: int = 1
    assumptions: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Say whether nothing was found that is sure to fail."""
        return not any(f.severity == "error" for f in self.findings)

    @property
    def all_rows(self) -> Spend:
        """What ``rows`` runs may spend."""
        return self.run.times(Bounds(self.rows, self.rows))

    @property
    def calls(self) -> Bounds:
        """The LM calls of one run."""
        return self.run.calls

    @property
    def tokens(self) -> Bounds:
        """The tokens of one run, of prompts and answers together."""
        return self.run.tokens

    @property
    def cost(self) -> Bounds | None:
        """The US dollars of one run, None where a price is unknown."""
        return self.run.cost

    def summary(self) -> str:
        """Return one line: whether it can run, and what it may spend."""
        errors = sum(f.severity == "error" for f in self.findings)
        state = "can run" if self.ok else f"cannot run as it is: {errors} error{'s' if errors > 1 else ''}"
        rows = f" · {self.rows:,} rows: {self.all_rows}" if self.rows > 1 else ""
        return f"{self.name}: {state} · {self.run}{rows}"

    def __repr__(self) -> str:
        lines = [self.summary(), *(f"  {f}" for f in self.findings)]
        lines += [f"  {c.step}: {c.spend} ({', '.join(filter(None, [c.model, c.basis]))})" for c in self.asking]
        lines += [f"  {label}: {text}" for label, text in self._facts()]
        return "\n".join(lines)

    @property
    def asking(self) -> list[StepCost]:
        """The steps that may ask a model."""
        return [c for c in self.steps.values() if c.spend.calls.most != 0]

    def _facts(self) -> list[tuple[str, str]]:
        steps = " → ".join(" | ".join(level) for level in self.levels)
        took = f" (about {self.path_seconds:.3g} s)" if self.path_seconds is not None else ""
        return [
            ("gives", ", ".join(self.results) or "nothing that no step reads"),
            ("order", f"{steps} (at most {self.width} at once)"),
            ("critical path", " → ".join(self.path) + took),
            *(("assumed", a) for a in self.assumptions),
        ]

    def _repr_html_(self) -> str:
        colours = {"error": "var(--jp-error-color1,#c62828)", "warning": "var(--jp-warn-color1,#b26a00)", "note": "inherit"}
        found = "".join(
            f'<li><span style="color:{colours[f.severity]}">{f.severity}</span> '
            f"{f'<b>{escape(f.step)}</b>: ' if f.step else ''}{escape(f.text)}</li>"
            for f in self.findings
        )
        head = _row("th", "step", "LM calls", "tokens", "US dollars", "model", "from")
        body = "".join(
            _row("td", c.step, str(c.spend.calls), str(c.spend.tokens), dollars(c.spend.cost), c.model or "unknown", c.basis)
            for c in self.asking
        )
        facts = "".join(f"<div>{escape(label)}: {escape(text)}</div>" for label, text in self._facts())
        return (
            # "$0.10 … $0.20" is no formula: the classes keep MathJax 3 (JupyterLab) and 2 (nbconvert) away.
            f'<div class="dspex-check mathjax_ignore tex2jax_ignore"><div><b>{escape(self.summary())}</b></div>'
            f"{f'<ul>{found}</ul>' if found else ''}{f'<table>{head}{body}</table>' if body else ''}{facts}</div>"
        )


def _row(cell: str, *texts: str) -> str:
    return "<tr>" + "".join(f'<{cell} style="text-align:left">{escape(t)}</{cell}>' for t in texts) + "</tr>"
