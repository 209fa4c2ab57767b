"""Demonstrations: the examples that a prompt shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.variables._frozen import Frozen
from dspex_lab.variables.domains._base import kind, refused, shown
from dspex_lab.variables.domains._choices import Labelled, label
from dspex_lab.variables.domains._plain import plain, same

#: Demonstrations of one variable, where nothing else is said.
MOST = 1_000

Demonstrations = tuple[Frozen, ...]


@kind("demos")
@dataclass(frozen=True, eq=False)
class Demos(Labelled):
    """Demonstrations, each a dict of fields; it is searched among its candidates, of which it need not be one.

    A value is a tuple of dicts as JSON has them, which do not change: ``dspy.Example(**demo)`` makes an example of one.

    Args:
        candidates: lists of demonstrations, among which Optuna chooses.
        most: demonstrations of one value.
    """

    candidates: tuple[Demonstrations, ...] = ()
    most: int = MOST

    def __post_init__(self) -> None:
        if isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 0:
            self._bad(f"most={shown(self.most)} is no number of demonstrations.")
        if isinstance(self.candidates, str | Mapping) or not hasattr(self.candidates, "__iter__"):
            self._bad(f"its candidates are lists of demonstrations, found {shown(self.candidates)}.")
        cast = tuple(self.cast(each, f"candidate {index}") for index, each in enumerate(self.candidates))
        object.__setattr__(self, "candidates", cast)

    def describe(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"kind": self.kind, "candidates": [self.to_json(each) for each in self.candidates], "most": self.most}

    def cast(self, value: Any, name: str) -> Demonstrations:
        """Return a tuple of dicts for a list of dicts or ``dspy.Example``s."""
        if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__") or hasattr(value, "toDict"):
            raise refused(name, value, "it is a list of demonstrations, each a dict or a dspy.Example.")
        found = []
        for index, demo in enumerate(value):
            if index >= self.most:
                raise refused(name, value, f"more than {self.most:,} demonstrations.", "Raise most=.")
            fields = demo.toDict() if callable(getattr(demo, "toDict", None)) else demo
            if not isinstance(fields, Mapping):
                raise refused(name, value, f"[{index}] is {shown(demo)}, and not a dict or a dspy.Example.")
            found.append(Frozen(plain(fields, name, f"[{index}]")))
        return tuple(found)

    def to_json(self, value: Any) -> list[dict[str, Any]]:
        """Return it as a list of dicts."""
        return [dict(demo) for demo in value]

    def from_json(self, value: Any) -> Demonstrations:
        """Return it as a tuple of dicts that do not change."""
        return self.cast(value, self.kind)

    def equal(self, one: Any, other: Any) -> bool:
        """Say whether they are the same demonstrations in the same order."""
        return same(one, other)

    def labels(self) -> tuple[str, ...]:
        """Return, for each candidate, how many it has and how the first begins."""
        begins = [json.dumps(each[0], ensure_ascii=False)[:200] if each else "none" for each in self.candidates]
        return tuple(
            label(index, f"({len(each)}) {begin}")
            for index, (each, begin) in enumerate(zip(self.candidates, begins, strict=True))
        )

    def _candidates(self) -> tuple[Demonstrations, ...]:
        return self.candidates

    def first(self) -> Demonstrations:
        """Return the first candidate, or no demonstrations."""
        return self.candidates[0] if self.candidates else ()
