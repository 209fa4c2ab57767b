"""Whether any values meet the constraints: found out before anything is spent."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from dspex_lab.errors import ConstraintError, VariableError
from dspex_lab.variables._protocols import Author
from dspex_lab.variables._values import Values

#: Combinations that are all tried, where there are no more.
EXHAUSTIVE = 20_000

_NOBODY = Author()


@dataclass(frozen=True, slots=True)
class Feasibility:
    """What a search for values that meet all constraints has found; true where it found some.

    Args:
        possible: True: ``values`` do. False: none do, each combination was tried. None: none of ``tries`` did.
        tries: combinations that were tried.
        values: of the variables that were searched.
        breaks: the constraints (or reasons) that stood in the way, and how often each.
    """

    possible: bool | None
    tries: int
    values: Mapping[str, Any] = field(default_factory=dict)
    breaks: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.possible is True

    def __str__(self) -> str:
        if self.possible:
            shown = ", ".join(f"{name} = {value!r:.40}" for name, value in self.values.items()) or "the present values"
            return f"Feasible: {shown}."
        worst = "; ".join(f"{name!r} {count:,}×" for name, count in list(self.breaks.items())[:5])
        if self.possible is False:
            return f"Unsatisfiable: none of the {self.tries:,} combinations meets all constraints. In the way: {worst}."
        return f"None found in {self.tries:,} tries; there may be some all the same. In the way: {worst}."

    def check(self) -> Feasibility:
        """Return it if values were found.

        Raises:
            ConstraintError: none were.
        """
        if not self:
            first = next(iter(self.breaks), None)
            raise ConstraintError(str(self), constraint=first, hint="Widen a range, or drop a constraint: space.drop(name).")
        return self


def feasible(values: Values, names: Iterable[str] | None, trials: int, seed: int) -> Feasibility:
    """Search values of ``names`` that meet all constraints, while the other variables keep theirs.

    All combinations are tried where there are few; else the corners and ``trials`` random draws, even on each domain's scale.
    """
    free, whole = _free(values, names)
    every = whole and _all_combinations(values, free)
    breaks: Counter[str] = Counter()
    tries = 0
    for tries, candidate in enumerate(_candidates(values, free, every, trials, seed), 1):
        try:
            values.check_all(values.plan(candidate, author=_NOBODY))
        except ConstraintError as error:
            breaks[error.constraint or str(error)] += 1
        except VariableError as error:  # a derived variable cannot be computed, or leaves its domain
            breaks[str(error)] += 1
        else:
            return Feasibility(True, tries, candidate)
    return Feasibility(False if every else None, tries, {}, dict(breaks.most_common()))


def _free(values: Values, names: Iterable[str] | None) -> tuple[list[str], bool]:
    """Return the variables whose values can matter, and whether these are all of them.

    They matter that a constraint reads, or that what it reads comes from. One without bounds or candidates keeps its value.
    """
    matters: set[str] = set()
    waiting = [read for constraint in values.constraints for read in constraint.reads]
    while waiting:
        name = waiting.pop()
        if name not in matters:
            matters.add(name)
            waiting.extend(values.graph.reads(name))
    chosen = [name for name in (values.entries if names is None else names) if values.entry(name)]
    wanted = [
        name for name in chosen if name in matters and not values.entries[name].derive and not values.entries[name].pinned
    ]
    free = [name for name in wanted if _bounded(values, name)]
    return free, len(free) == len(wanted)


def _bounded(values: Values, name: str) -> bool:
    try:
        values.entries[name].domain.draw(Random(0))  # noqa: S311 - no secret
    except VariableError:
        return False
    return True


def _all_combinations(values: Values, free: Sequence[str]) -> bool:
    """Say whether they can be counted, and are few."""
    total = 1
    for name in free:
        size = values.entries[name].domain.size()
        if size is None or (total := total * size) > EXHAUSTIVE:
            return False
    return True


def _candidates(values: Values, free: Sequence[str], exhaustive: bool, trials: int, seed: int) -> Iterator[dict[str, Any]]:
    domains = [values.entries[name].domain for name in free]
    if exhaustive:
        for combination in itertools.product(*(list(domain.every() or ()) for domain in domains)):
            yield dict(zip(free, combination, strict=True))
        return
    random = Random(seed)  # noqa: S311 - no secret
    yield {}
    corners = [list(domain.corners()) or [values.cells[name].value] for name, domain in zip(free, domains, strict=True)]
    for combination in itertools.islice(itertools.product(*corners), trials // 4):
        yield dict(zip(free, combination, strict=True))
    for _ in range(trials):
        yield {name: domain.draw(random) for name, domain in zip(free, domains, strict=True)}
