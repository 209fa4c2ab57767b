"""The other side of a tune job, and what both find together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dspex_lab.jobs._card import Sheet
from dspex_lab.jobs._work import Work
from dspex_lab.jobs.tune._attribution import Attribution
from dspex_lab.jobs.tune._building import Knobs
from dspex_lab.jobs.tune._tuned import Tuned
from dspex_lab.security import one_line


class Side(Protocol):
    """The other side of a tune job: works in rounds, each of which begins with the newest values. Picklable."""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that it writes; the tune job moves none of them."""
        ...

    @property
    def called(self) -> str:
        """What people call it."""
        ...

    def work(self, program: Any, number: int) -> Work:
        """Return the work of a round.

        Args:
            program: with the newest values of all variables.
            number: counts from 0.
        """
        ...

    def found(self, result: Any) -> Mapping[str, Any]:
        """Return the values that a work's result has for :attr:`names`; none where it found nothing."""
        ...


@dataclass(frozen=True)
class Optimizes:
    """An optimizer as a :class:`Side`: whatever work gives a program back, itself or as ``.program`` of its result.

    Args:
        make: ``make(program, number)`` gives the work of a round.
        names: the variables that it writes: instructions, demonstrations.
        build: how programs and variables belong together.
    """

    make: Callable[[Any, int], Work]
    names: tuple[str, ...]
    build: Knobs
    called: str = "optimizer"

    def work(self, program: Any, number: int) -> Work:
        """Return the work of a round."""
        return self.make(program, number)

    def found(self, result: Any) -> Mapping[str, Any]:
        """Return the values that the program of a result has."""
        program = getattr(result, "program", result)
        if program is None:
            return {}
        values = self.build.read(program)
        return {name: values[name] for name in self.names if name in values}


@dataclass(frozen=True)
class Round:
    """One round of the other side.

    Args:
        number: counts from 0.
        before, after: the mean score of what there was and of what was found, on the same rows and with the same numbers.
        status: ``"committed"``, ``"rejected"``, ``"nothing"``, ``"failed"`` or ``"unfinished"``.
        measured: how often: each commit of the tune job while it was being measured asks for one more.
        version: of the space, where it was committed.
    """

    number: int
    status: str
    before: float | None = None
    after: float | None = None
    measured: int = 0
    version: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class Joint:
    """What two sides found together.

    Args:
        values: of the variables of both, at the end.
        tuned: what the tune job found; None where it was stopped before it began.
        rounds: of the other side.
        attribution: what gained what; None where the job was stopped, its budget was spent, or a program cannot be (``notes``).
    """

    values: Mapping[str, Any]
    tuned: Tuned | None
    rounds: Sequence[Round]
    attribution: Attribution | None = None
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> float | None:
        """The score with both; None where that was not measured."""
        return None if self.attribution is None else self.attribution.means["both"]

    def sheet(self) -> Sheet:
        """Return it as a table: what each side did, and what that gained."""
        rows = [
            (f"round {r.number + 1}", r.status, scored(r.before), scored(r.after), one_line(r.note or "")) for r in self.rounds
        ]
        if self.tuned is not None:
            rows.insert(0, ("tune", f"{len(self.tuned.tried)} trials", "", scored(self.tuned.score), one_line(self.tuned.note)))
        title = "Both at once: " + ("no score" if self.score is None else f"score {self.score:.4g}")
        return Sheet(title, ("side", "what", "before", "after", "note"), rows, title)

    def __repr__(self) -> str:
        return repr(self.sheet()) + ("" if self.attribution is None else f"\n{self.attribution!r}")

    def _repr_html_(self) -> str:
        return self.sheet()._repr_html_() + ("" if self.attribution is None else self.attribution._repr_html_())

    def summary(self) -> dict[str, Any]:
        """Return what is kept of it for people, as plain data."""
        found = {"score": self.score, "rounds": [each.status for each in self.rounds]}
        return found if self.attribution is None else {**found, "means": self.attribution.means}


def scored(value: float | None) -> str:
    """Return a score in up to four digits."""
    return "–" if value is None else f"{value:.4g}"
