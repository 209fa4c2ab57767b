"""What a run may ask of its models, step by step: calls counted, tokens measured or estimated, prices looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Any, NamedTuple

from dspex_lab.errors import DspexError
from dspex_lab.lms import describe, is_simulated, price_of
from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._modules import facts_of, is_dspy_module
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step, step, step_shape
from dspex_lab.pipelines.dryrun._reach import taken
from dspex_lab.pipelines.dryrun._report import Finding, StepCost
from dspex_lab.pipelines.dryrun._shape import inner_pipeline
from dspex_lab.pipelines.dryrun._spend import FREE, NONE, ONCE, Bounds, Spend
from dspex_lab.pipelines.dryrun._tokens import ASSUMED, rendered


class Measured(NamedTuple):
    """What a step was seen to ask of one model: calls per execution, averages per call; None where nothing was told."""

    model: str
    executions: int
    least: float
    most: float
    prompt_tokens: float | None
    completion_tokens: float | None
    cost: float | None


class _PerCall(NamedTuple):
    """What one call of a step costs, and where that is from."""

    tokens: Bounds
    cost: Bounds | None
    basis: str


class Estimate:
    """Adds up what the steps of a pipeline may spend.

    Args:
        models: gives the models that a step would ask, None for one that is not known; raises where one cannot be made.
        measured: what was measured of each step, by dotted name.

    Attributes:
        steps: what each step may spend, inner ones after those they are in.
        findings: what was noticed on the way.
        assumptions: what the sums take for granted, in order.
    """

    def __init__(self, models: Callable[[Step], list[Any]], measured: Mapping[str, list[Measured]]) -> None:
        self._models, self._measured = models, measured
        self.steps: dict[str, StepCost] = {}
        self.findings: list[Finding] = []
        self.assumptions: dict[str, None] = {}

    def pipeline(self, pipeline: Pipeline, known: Mapping[str, Any], prefix: str = "") -> Spend:
        """Return what the steps of a pipeline spend together.

        Args:
            known: the values of its inputs that are known.
        """
        total = FREE
        for (name, item, shape), node in zip(pipeline.nodes, pipeline.structure.nodes, strict=True):
            own = {f: known[f] for f, slot in node.reads.items() if slot == (f, -1) and f in known}
            total = total.plus(self._step(prefix + name, name, item, shape, own))
        return total

    def _step(self, path: str, field: str, item: Step, shape: Shape, known: Mapping[str, Any]) -> Spend:
        """Return what a step spends, all that stands around it included."""
        self.steps[path] = StepCost(path, FREE, None, "")
        own, model, basis = self._own(path, item, shape, known)
        total = own.plus(self._parts(path, field, item, known))
        if item.retries:
            total = total.up_to(item.retries + 1)
        if is_dspy_module(item.fallback):
            spare = self._own(path, step(item.fallback), shape, known)[0]
            total = total.plus(FREE.either(spare))
        if item.cache:
            total = total.either(FREE)
        self.steps[path] = StepCost(path, total, model, basis)
        return total

    # --- the calls a step makes itself ------------------------------------------------------------------------

    def _own(self, path: str, item: Step, shape: Shape, known: Mapping[str, Any]) -> tuple[Spend, str | None, str]:
        """Return what a step itself spends, inner ones left out, of which model, and where the numbers are from."""
        asks, seen = item.how.asks(item), self._measured.get(path, [])
        if asks == (0, 0) and not seen:
            if item.kind == "native" and facts_of(item.target).names_dspy:
                self._note(path, "its code names dspy; model calls that it may make are not counted")
            return FREE, None, "the steps in it" if item.how.parts(item) else ""
        calls = Bounds(*asks) if asks is not None else Bounds(0, None)
        if asks is None or asks == (0, 0):
            if not seen:
                self._note(path, f"how often {item.how.label(item)} asks a model cannot be told from outside")
            else:
                calls = Bounds(sum(m.least for m in seen), sum(m.most for m in seen))
        try:
            models = self._models(item)
        except DspexError as error:
            self.findings.append(Finding("error", path, str(error)))
            return Spend(calls, calls.times(self._tokens(item, shape, known)), None), None, "no such model"
        prices = [self._per_call(m, item, shape, known, seen) for m in models]
        tokens, cost = prices[0].tokens, prices[0].cost
        for other in prices[1:]:
            tokens, cost = tokens.either(other.tokens), None if cost is None or other.cost is None else cost.either(other.cost)
        names = ", ".join(dict.fromkeys(describe(m) for m in models if m is not None)) or None
        spend = Spend(calls, calls.times(tokens), None if cost is None else calls.times(cost))
        return spend, names, ", ".join(dict.fromkeys(p.basis for p in prices))

    def _per_call(self, lm: Any, item: Step, shape: Shape, known: Mapping[str, Any], seen: list[Measured]) -> _PerCall:
        """Return what one call of ``lm`` costs: as it was measured, else as its prompt and its price say."""
        name = None if lm is None else describe(lm)
        own = next((m for m in seen if m.model == name and m.prompt_tokens is not None), None)
        if own is not None:
            sent, answered = own.prompt_tokens or 0.0, own.completion_tokens or 0.0
            basis = f"measured in {own.executions:,} execution{'s' if own.executions > 1 else ''}"
        else:
            self.assumptions[ASSUMED] = None
            (sent, answered), basis = rendered(item, shape, known), "estimated"
        tokens = Bounds(sent + answered, sent + answered)
        if lm is not None and is_simulated(lm):
            return _PerCall(tokens, NONE, f"{basis}; simulated, costs nothing")
        if own is not None and own.cost is not None:
            return _PerCall(tokens, Bounds(own.cost, own.cost), basis)
        price = None if name is None else price_of(name)
        if price is None:
            return _PerCall(tokens, None, f"{basis}; price unknown" if name else f"{basis}; model unknown")
        paid = price.of(sent, answered)
        return _PerCall(tokens, Bounds(paid, paid), f"{basis}; {price.source}")

    def _tokens(self, item: Step, shape: Shape, known: Mapping[str, Any]) -> Bounds:
        self.assumptions[ASSUMED] = None
        sent, answered = rendered(item, shape, known)
        return Bounds(sent + answered, sent + answered)

    # --- the steps in it --------------------------------------------------------------------------------------

    def _parts(self, path: str, field: str, item: Step, known: Mapping[str, Any]) -> Spend:
        """Return what the inner steps of a step spend, as often as its kind runs them."""
        parts = item.how.parts(item)
        if not parts:
            return FREE
        if item.lm is not None:
            self.findings.append(Finding("warning", path, "the steps in it use its lm=; this estimate takes the model in use"))
        inner = inner_pipeline(item)
        if inner is not None:
            return self.pipeline(inner, known, f"{path}.")
        spent = {n: self._part(f"{path}.{n}", field, part, known) for n, part in parts.items()}
        combine = {"when": self._of_when, "loop": self._of_loop, "each": self._of_each}.get(item.kind)
        return _sum(spent) if combine is None else combine(path, item, spent, known)

    def _part(self, path: str, field: str, part: Step, known: Mapping[str, Any]) -> Spend:
        shape = step_shape(field, part)
        return self._step(path, field, part, shape, {n: known[n] for n in shape.inputs if n in known})

    def _of_when(self, path: str, item: Step, spent: dict[str, Spend], known: Mapping[str, Any]) -> Spend:
        branch = taken(item)
        if branch is not None:
            return spent.get(branch, FREE)
        return spent["then"].either(spent.get("otherwise", FREE))

    def _of_loop(self, path: str, item: Step, spent: dict[str, Spend], known: Mapping[str, Any]) -> Spend:
        return _sum(spent).times(Bounds(1, item.target.limit))

    def _of_each(self, path: str, item: Step, spent: dict[str, Spend], known: Mapping[str, Any]) -> Spend:
        one, field = _sum(spent), item.target.field
        items = known.get(field)
        if isinstance(items, Sized) and not isinstance(items, str):
            return one.times(Bounds(len(items), len(items)))
        if one.calls.most == 0:
            return FREE
        self.assumptions[f"one item in {field!r} at the least: how many there are is not known ({path}: {one} for each)"] = None
        return one.times(Bounds(ONCE.least, None))

    def _note(self, path: str, text: str) -> None:
        self.findings.append(Finding("note", path, text))


def _sum(spent: Mapping[str, Spend]) -> Spend:
    total = FREE
    for one in spent.values():
        total = total.plus(one)
    return total
