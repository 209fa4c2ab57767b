"""How a random pipeline must end, by a plain walk through its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from random_pipelines import LASTING, SHOWN, Act, Plan, blanks, gives_of, source, takes_of


@dataclass
class Expected:
    """How a step must end."""

    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    parts: dict[str, Expected] = field(default_factory=dict)


class Fails(Exception):
    """A step fails: by an error of this name; ``kept`` are the fields that came all the same."""

    def __init__(self, error: str, again: bool, kept: dict[str, Any] | None = None) -> None:
        super().__init__(error)
        self.error, self.again, self.kept = error, again, kept or {}


def value_of(act: Act, fields: Mapping[str, Any], calls: int) -> int:
    """Return what a function that works gives."""
    total = act.salt + (7 * calls if act.drifts else 0)
    for name, value in sorted(fields.items()):
        total += len(name) + (sum(v or 0 for v in value) if isinstance(value, list) else 11 if value is None else value)
    return total % 50


def raises(act: Act, fields: Mapping[str, Any], calls: int) -> bool:
    """Say whether a call fails; ``calls`` were made before it."""
    return calls < act.fails or ("item" in fields and fields["item"] in act.bad)


class Walk:
    """Does a pipeline's steps one by one, without doing anything."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.attempt = 0  # what was wrong with the answer before is part of what a model or a cache is asked
        self.answers: dict[Any, dict[str, Any]] = {}

    def pipeline(self, steps: tuple[Plan, ...], inputs: Mapping[str, Any]) -> dict[str, Expected]:
        ended: dict[int, Expected] = {}

        def end(index: int) -> Expected:
            if index not in ended:
                ended[index] = self.reached(steps, index, inputs, end)
            return ended[index]

        return {s.name: end(i) for i, s in enumerate(steps)}

    def reached(
        self, steps: tuple[Plan, ...], index: int, inputs: Mapping[str, Any], end: Callable[[int], Expected]
    ) -> Expected:
        fields: dict[str, Any] = {}
        for name in takes_of(steps[index]):
            giver = source(steps, index, name)
            if giver is None:
                if name in inputs:
                    fields[name] = inputs[name]
                continue
            found = end(giver)
            if name in found.outputs:
                fields[name] = found.outputs[name]
            elif found.status == "failed" and steps[giver].on_error == "continue":
                fields[name] = None
            else:
                return Expected("skipped")
        return self.step(steps[index], fields)

    def step(self, plan: Plan, given: Mapping[str, Any]) -> Expected:
        fields = {f: given[f] for f in takes_of(plan) if f in given}
        parts: dict[str, Expected] = {}
        key = (id(plan), self.attempt, repr(sorted(fields.items())))
        if plan.cached and key in self.answers:
            return Expected("complete", self.answers[key])
        for attempt in range(plan.retries + 1):
            try:
                outputs, short = self.work(plan, fields, parts)
            except Fails as failure:
                if failure.again and attempt < plan.retries:
                    continue
                return self.failed(plan, failure, parts)
            if plan.cached and not short:
                self.answers[key] = outputs
            return Expected("partial" if short else "complete", outputs, None, parts)
        raise AssertionError

    def failed(self, plan: Plan, failure: Fails, parts: dict[str, Expected]) -> Expected:
        if plan.on_error != "fallback":
            return Expected("failed", failure.kept, failure.error, parts)
        if plan.fallback == "fails":
            return Expected("failed", failure.kept, "LookupError", parts)
        return Expected("fallback", blanks(plan), failure.error, parts)

    def work(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        done: tuple[dict[str, Any], bool] = getattr(self, f"do_{plan.kind}")(plan, fields, parts)
        return done

    def do_native(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        act, calls = plan.act, self.calls[id(plan)]
        self.calls[id(plan)] += 1
        if raises(act, fields, calls):
            if act.error in ("wrong", "hangs"):
                raise Fails("PipelineError", act.error == "hangs")
            raise Fails(SHOWN.get(act.error, act.error), act.error not in LASTING)
        return {plan.gives: value_of(act, fields, calls)}, False

    def holds(self, plan: Plan, value: Any) -> bool:
        if type(value) is not int:
            raise Fails("PipelineError" if plan.as_text else "TypeError", False)
        return value >= plan.bound

    def taken(self, plan: Plan, ended: Expected) -> tuple[dict[str, Any], bool]:
        if ended.status == "failed" and plan.on_error != "continue":
            raise Fails("PipelineError", False)
        return {f: ended.outputs.get(f) for f in gives_of(plan)}, ended.status != "complete"

    def do_when(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        chosen = 0 if self.holds(plan, fields[plan.reads[0]]) else 1
        if chosen >= len(plan.parts):
            return {plan.gives: None}, False
        part = plan.parts[chosen]
        parts[part.name] = self.step(part, fields)
        return self.taken(part, parts[part.name])

    def do_each(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        items, part = fields[plan.reads[0]], plan.parts[0]
        if not isinstance(items, list):
            raise Fails("PipelineError", False)
        ended = [self.step(part, {**fields, "item": item}) for item in items]
        parts.update({f"item[{i}]": e for i, e in enumerate(ended)})
        if part.on_error != "continue" and any(e.status == "failed" for e in ended):
            raise Fails("PipelineError", False)
        return {plan.gives: [e.outputs.get(plan.gives) for e in ended]}, any(e.status != "complete" for e in ended)

    def do_loop(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        part, known, short = plan.parts[0], dict(fields), False
        found: dict[str, Any] = {}
        for index in range(plan.count):
            ended = parts[f"round[{index}]"] = self.step(part, known)
            found, less = self.taken(part, ended)
            short = short or less
            known.update(found)
            if self.holds(plan, found[plan.gives]):
                return found, short
        return found, True

    def checked(
        self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected], strict: bool
    ) -> tuple[dict[str, Any], bool]:
        part = plan.parts[0]
        found: dict[str, Any] = {}
        for attempt in range(1, plan.count + 1):
            self.attempt = attempt - 1
            ended = parts[f"try[{attempt}]"] = self.step(part, fields)
            self.attempt = 0
            if ended.status == "failed" and found and not strict:
                return found, True
            found, short = self.taken(part, ended)
            if ended.status == "failed" or self.holds(plan, found[plan.gives]):
                return found, short
        if strict:
            raise Fails("PipelineError", False)
        return found, True

    def do_assert(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        return self.checked(plan, fields, parts, True)

    def do_suggest(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        return self.checked(plan, fields, parts, False)

    def do_pipeline(self, plan: Plan, fields: dict[str, Any], parts: dict[str, Expected]) -> tuple[dict[str, Any], bool]:
        parts.update(self.pipeline(plan.parts, fields))
        outputs = last_of(plan.parts, parts, lost=True)
        if outputs.keys() != set(gives_of(plan)):
            raise Fails("PipelineError", False, outputs)
        return outputs, any(e.status != "complete" for e in parts.values())

    do_parallel = do_pipeline


def last_of(steps: tuple[Plan, ...], ended: Mapping[str, Expected], *, lost: bool = False) -> dict[str, Any]:
    """Return each field as the last step that gives it gave it."""
    givers = {f: s for s in steps for f in gives_of(s)}
    out: dict[str, Any] = {}
    for name, giver in givers.items():
        found = ended[giver.name]
        if name in found.outputs:
            out[name] = found.outputs[name]
        elif lost and found.status == "failed" and giver.on_error == "continue":
            out[name] = None
    return out


def status_of(ended: Mapping[str, Expected]) -> str:
    if all(e.status == "complete" for e in ended.values()):
        return "complete"
    gave = any(e.status in ("complete", "partial", "fallback") or e.outputs for e in ended.values())
    return "partial" if gave else "failed"
