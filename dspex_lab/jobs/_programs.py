"""Programs as candidates: what tells two apart, what one changed of the other, and which was made from which. Pure."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex_lab.events import TrialRecord


@dataclass(frozen=True, slots=True)
class PartState:
    """One predictor of a program, as it can be compared.

    Args:
        fields: its signature: ``"in question: str"``, ``"out answer: str"``.
        demos: each as JSON text.
        config: temperature and the like, JSON; DSPy does not save it.
        lm: the model of its own, without key; None where it takes the one in use.
        kind: the class of the module.
    """

    instructions: str
    fields: tuple[str, ...]
    demos: tuple[str, ...]
    config: str
    lm: str | None
    kind: str


def parts_of(program: Any) -> dict[str, PartState]:
    """Return the predictors of a DSPy program by path; those too in a sub-module that was compiled, which
    ``named_predictors`` leaves out."""
    found: dict[str, PartState] = {}
    for path, module in _modules(program):
        signature = getattr(module, "signature", None)
        if signature is None or not hasattr(module, "demos"):
            continue
        fields = [f"in {n}: {_type(f)}" for n, f in signature.input_fields.items()]
        fields += [f"out {n}: {_type(f)}" for n, f in signature.output_fields.items()]
        lm = getattr(module, "lm", None)
        found[path] = PartState(
            signature.instructions,
            tuple(fields),
            tuple(_json(demo) for demo in module.demos),
            _json(getattr(module, "config", {}) or {}),
            None if lm is None else str(getattr(lm, "model", type(lm).__name__)),
            type(module).__name__,
        )
    return found


def fingerprint_program(program: Any) -> str:
    """Return what tells versions of a program apart: class, signatures, instructions, demonstrations, configuration and models,
    the same in every process."""
    parts = {path: [getattr(part, name) for name in PartState.__slots__] for path, part in parts_of(program).items()}
    text = json.dumps([type(program).__qualname__, parts], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class PartDiff:
    """What one predictor's candidate changed.

    Args:
        instructions: as a unified diff; empty where they are the same.
        added, removed: demonstrations, as JSON texts.
        other: further changes, as ``name: before → after``.
    """

    path: str
    instructions: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether it changed anything."""
        return bool(self.instructions or self.added or self.removed or self.other)

    def __str__(self) -> str:
        lines = [f"{self.path}:", *self.instructions.splitlines()]
        lines += [f"- demonstration {demo}" for demo in self.removed] + [f"+ demonstration {demo}" for demo in self.added]
        return "\n".join([*lines, *self.other])


def diff_programs(before: Any, after: Any) -> list[PartDiff]:
    """Return what the predictors of ``after`` changed of those of ``before``; only those that did.

    Args:
        before, after: DSPy programs, or what :func:`parts_of` gave of them.
    """
    old = before if isinstance(before, Mapping) else parts_of(before)
    new = after if isinstance(after, Mapping) else parts_of(after)
    blank = PartState("", (), (), "{}", None, "")
    found = (_diff(path, old.get(path, blank), new.get(path, blank)) for path in dict.fromkeys((*old, *new)))
    return [diff for diff in found if diff.changed]


def diff_candidates(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[PartDiff]:
    """As :func:`diff_programs`, for the candidates of trials: texts and demonstrations by path."""
    found = []
    for path in dict.fromkeys((*before, *after)):
        one, other = before.get(path), after.get(path)
        if isinstance(one, str | None) and isinstance(other, str | None):
            found.append(PartDiff(path, unified(one or "", other or "", path)))
        elif isinstance(one, list | tuple | None) and isinstance(other, list | tuple | None):
            found.append(PartDiff(path, "", *_demos([_json(d) for d in one or ()], [_json(d) for d in other or ()])))
        elif one != other:
            found.append(PartDiff(path, other=(f"{_json(one)} → {_json(other)}",)))
    return [diff for diff in found if diff.changed]


def unified(before: str, after: str, path: str = "instructions") -> str:
    """Return the change of a text as a unified diff, empty where there is none."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"{path} before", f"{path} after", lineterm="")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which candidate was made from which.

    Args:
        trials: by number, the last of each.
        children: the numbers of those that were made from one, by its number; under None those that were made from none.
    """

    trials: Mapping[int, TrialRecord]
    children: Mapping[int | None, Sequence[int]]

    @property
    def best(self) -> TrialRecord | None:
        """The complete candidate of the highest score, of equal ones the first; None where there is none."""
        scored = [t for t in self.trials.values() if t.score is not None and t.status in ("complete", "repeated")]
        return max(scored, key=lambda t: (t.score, -t.number), default=None)

    def ancestry(self, number: int) -> list[TrialRecord]:
        """Return a candidate with those it was made from, the first one first."""
        found: list[TrialRecord] = []
        at: int | None = number
        while at is not None and at in self.trials and all(trial.number != at for trial in found):
            found.append(self.trials[at])
            at = self.trials[at].parent
        return found[::-1]

    def changes(self, number: int) -> list[PartDiff]:
        """Return what a candidate changed of the one it was made from; all of it where that is not known."""
        trial = self.trials[number]
        parent = None if trial.parent is None else self.trials.get(trial.parent)
        return diff_candidates((parent.candidate if parent else None) or {}, trial.candidate or {})

    def __str__(self) -> str:
        best = self.best
        return "\n".join(self._lines(None, "", None if best is None else best.number))

    def _lines(self, parent: int | None, indent: str, best: int | None) -> Iterator[str]:
        for number in self.children.get(parent, ()):
            trial = self.trials[number]
            score = "" if trial.score is None else f" {trial.score:.4g}"
            status = "" if trial.status == "complete" else f" {trial.status}"
            yield f"{indent}{number}{score}{status}{' ★' if number == best else ''}"
            yield from self._lines(number, indent + "  ", best)


def lineage(trials: Sequence[TrialRecord]) -> Lineage:
    """Return which candidate was made from which. One whose parent is not among them, or comes after it, has none."""
    known = {trial.number: trial for trial in trials}
    children: dict[int | None, list[int]] = {}
    for number in sorted(known):
        parent = known[number].parent
        # Numbers grow from parent to child: what says otherwise would go round in a circle.
        children.setdefault(parent if parent in known and parent < number else None, []).append(number)
    return Lineage(known, children)


def _modules(program: Any) -> Iterator[tuple[str, Any]]:
    named = getattr(program, "named_sub_modules", None)
    if not callable(named):
        return
    for path, module in named():
        yield path.removeprefix("self.") or path, module


def _diff(path: str, old: PartState, new: PartState) -> PartDiff:
    pairs = (
        ("fields", ", ".join(old.fields), ", ".join(new.fields)),
        ("config", old.config, new.config),
        ("lm", old.lm or "the one in use", new.lm or "the one in use"),
        ("kind", old.kind, new.kind),
    )
    other = tuple(f"{name}: {one or 'none'} → {another or 'none'}" for name, one, another in pairs if one != another)
    return PartDiff(path, unified(old.instructions, new.instructions, path), *_demos(old.demos, new.demos), other)


def _demos(old: Sequence[str], new: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    before, after = set(old), set(new)
    return tuple(d for d in new if d not in before), tuple(d for d in old if d not in after)


def _type(field: Any) -> str:
    kind = getattr(field, "annotation", None)
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _json(value: Any) -> str:
    to_dict = getattr(value, "toDict", None)
    return json.dumps(to_dict() if callable(to_dict) else value, sort_keys=True, default=repr, ensure_ascii=False)
