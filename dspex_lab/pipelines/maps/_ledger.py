"""Which rows of a map have an outcome, and where in the journal it stands: nine bytes a row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dspex_lab.pipelines.maps._outcome import COMPLETE, FAILED, LACKING, PARTIAL, RETRIED

_NONE = 0
_LETTERS = {ord(c) for c in (COMPLETE, PARTIAL, LACKING, FAILED)}
#: No row is begun so far ahead of the number of outcomes.
_AHEAD = 1_000_000


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


def read_ledger(rows: Path, ledger: Ledger) -> int:
    """Note in ``ledger`` what the file ``rows`` of a journal holds, and return where its last whole line ends.

    What is no line of a journal is passed over: that row has no outcome, and runs again.
    """
    place, size = 0, rows.stat().st_size
    with rows.open("rb", buffering=1 << 20) as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            index, _, rest = line.partition(b" ")
            whole = rest[:1] and rest[0] in _LETTERS and rest[1:3] == b" {" and rest.endswith(b"}\n")
            # A damaged number must not ask for all the memory there is.
            if whole and index.isdigit() and int(index[:19]) <= size + _AHEAD:
                ledger.mark(int(index), place, chr(rest[0]))
            place += len(line)
    return place


def in_order(rows: Path, ledger: Ledger) -> Iterator[bytes]:
    """Give the JSON of each row's last outcome, in the order of the rows."""
    if not len(ledger):
        return
    with rows.open("rb", buffering=1 << 20) as file:
        for place in ledger.places():
            file.seek(place)
            yield file.readline().split(b" ", 2)[2].rstrip(b"\n")
