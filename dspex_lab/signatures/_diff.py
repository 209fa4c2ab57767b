"""What changed between two signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ._field import MISSING, Field
from ._signature import Signature

_ASPECTS = ("role", "type_text", "takes_any", "description", "default")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        kind: what happened.
        field: the field concerned; None for the instructions and the order.
        aspect: what of it differs: ``field role type takes_any description default``, ``instructions`` or ``order``.
        before: as it was; None if it was not there.
        after: as it is now; None if it is gone.
    """

    kind: Literal["added", "removed", "changed"]
    field: str | None
    aspect: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.kind != "changed":
            return f"{self.kind} {(self.after or self.before).role} {self.field}"
        told = self._plainly()
        if told:
            return f"changed {self.field}: {told}"
        where = f"{self.field}: {self.aspect}" if self.field else self.aspect
        return f"changed {where} from {self.before!r} to {self.after!r}"

    def _plainly(self) -> str | None:
        """Return what changed where one side has nothing, or where a value means little to a reader; else None."""
        if self.aspect == "takes_any":
            return "its type is declared now" if self.before else "its type is not declared any more"
        if self.aspect == "order" or self.field is None:
            return None
        nothing = MISSING if self.aspect == "default" else None
        if self.before is nothing:
            return f"{self.aspect} {self.after!r} added"
        return f"{self.aspect} {self.before!r} removed" if self.after is nothing else None


def diff(before: Signature, after: Signature) -> list[Change]:
    """Return what changed, the instructions first, then the fields in their order; equal signatures give nothing."""
    changes: list[Change] = []
    if before.instructions != after.instructions:
        changes.append(Change("changed", None, "instructions", before.instructions, after.instructions))
    old, new = before.fields, after.fields
    changes += [Change("removed", name, "field", field, None) for name, field in old.items() if name not in new]
    for name, field in new.items():
        if name not in old:
            changes.append(Change("added", name, "field", None, field))
        elif old[name] != field:
            changes += _changes(old[name], field)
    kept = [[name for name in fields if name in old and name in new] for fields in (old, new)]
    if kept[0] != kept[1]:
        changes.append(Change("changed", None, "order", kept[0], kept[1]))
    return changes


def _changes(before: Field, after: Field) -> list[Change]:
    found = []
    for aspect in _ASPECTS:
        was, now = getattr(before, aspect), getattr(after, aspect)
        if was != now or type(was) is not type(now):
            found.append(Change("changed", after.name, aspect.removesuffix("_text"), was, now))
    return found or [Change("changed", after.name, "type", before.type, after.type)]
