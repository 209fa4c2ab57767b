"""Texts, such as a predictor's instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dspex_lab.variables.domains._base import kind, refused, shown
from dspex_lab.variables.domains._choices import Labelled, label

#: Characters of a text, where nothing else is said.
LONGEST = 100_000


@kind("text")
@dataclass(frozen=True, eq=False)
class Text(Labelled):
    """Any text up to a length; it is searched among its candidates, of which it need not be one.

    Args:
        candidates: texts among which Optuna chooses.
        longest: characters.
    """

    candidates: tuple[str, ...] = ()
    longest: int = LONGEST

    def __post_init__(self) -> None:
        if isinstance(self.longest, bool) or not isinstance(self.longest, int) or self.longest < 0:
            self._bad(f"longest={shown(self.longest)} is no number of characters.")
        if isinstance(self.candidates, str) or not hasattr(self.candidates, "__iter__"):
            self._bad(f"its candidates are a list of texts, found {shown(self.candidates)}.")
        object.__setattr__(self, "candidates", tuple(self.cast(each, "a candidate") for each in self.candidates))

    def cast(self, value: Any, name: str) -> str:
        """Return it as a str. Nothing else is turned into a text."""
        if not isinstance(value, str):
            raise refused(name, value, f"it is a text, and this is of type {type(value).__name__}.")
        if len(value) > self.longest:
            raise refused(name, value, f"its {len(value):,} characters are more than {self.longest:,}.", "Raise longest=.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise refused(name, value, f"character {error.start} is half of a pair, which no file can keep.") from None
        return str(value)

    def labels(self) -> tuple[str, ...]:
        """Return the candidates' numbers and beginnings."""
        return tuple(label(index, text) for index, text in enumerate(self.candidates))

    def _candidates(self) -> tuple[str, ...]:
        return self.candidates

    def first(self) -> str:
        """Return the first candidate, or the empty text."""
        return self.candidates[0] if self.candidates else ""
