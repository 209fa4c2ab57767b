"""Which rows of a map have an outcome, and where in the journal it stands: nine bytes a row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

from dspex_lab.pipelines.maps._outcome import RETRIED

_NONE = 0


class Ledger:
    """A row has its last outcome only; one that was written later replaces the one before it."""

    def __init__(self) -> None:
        self._places = array("q")
        self._letters = bytearray()
        self._counts: Counter[int] = Counter()

    def mark(self, index: int, place: int, letter: str) -> None:
        """Note that the outcome of row ``index`` stands at byte ``place``."""
        missing = index + 1 - len(self._letters)
        if missing > 0:
            self._letters.extend(bytes(missing))
            self._places.extend(array("q", bytes(8 * missing)))
        before, now = self._letters[index], ord(letter)
        if before != _NONE:
            self._counts[before] -= 1
        self._counts[now] += 1
        self._letters[index] = now
        self._places[index] = place

    def done(self, index: int, retry: bool = False) -> bool:
        """Say whether row ``index`` need not run: it has an outcome and, with ``retry``, not one that is to be retried."""
        if index >= len(self._letters) or self._letters[index] == _NONE:
            return False
        return not (retry and chr(self._letters[index]) in RETRIED)

    def count(self, letters: str) -> int:
        """Return how many rows have one of these letters."""
        return sum(self._counts[ord(c)] for c in letters)

    def __len__(self) -> int:
        return self._counts.total()

    def places(self) -> Iterator[int]:
        """Give the place of each row's outcome, in the order of the rows."""
        return (place for place, letter in zip(self._places, self._letters, strict=True) if letter != _NONE)
