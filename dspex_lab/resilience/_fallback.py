"""A chain of alternatives: the next is asked where the one before could not answer and another can mend that."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from dspex_lab.errors import ConfigurationError
from dspex_lab.resilience._breaker import first_status
from dspex_lab.resilience._change import Change, Observer, describe, tell
from dspex_lab.resilience._retryable import NEVER, chain

T = TypeVar("T")
W = TypeVar("W")

FallbackKind = Literal["lm", "implementation", "cache", "degraded"]
_KINDS = ("lm", "implementation", "cache", "degraded")

#: Kinds whose answers are less than what was asked for. They cost no time to speak of, so a deadline does not stop them.
_LESS = ("cache", "degraded")

#: HTTP statuses of a request that is wrong as it is, for whoever gets it.
_WRONG_REQUEST = frozenset({400, 405, 406, 415, 422})


def mendable(error: BaseException) -> bool:
    """Say whether another alternative may answer where this one failed with ``error``.

    - A cancellation, an interrupt, a spent budget, a wrong setting or signature, and what is caused by one: no.
    - A request that is wrong as written (HTTP 400, 405, 406, 415, 422): no. A wrong key (401, 403), a model that is not there
      (404), a prompt that is too long (413): another may do.
    - All else: yes, an open circuit, a full bulkhead, a timeout and an alternative's own bug among them.
    """
    if not isinstance(error, Exception) or first_status(error) in _WRONG_REQUEST:
        return False
    return not any(isinstance(each, NEVER) or not isinstance(each, Exception) for each in chain(error))


@dataclass(frozen=True)
class Fallback(Generic[W]):
    """One alternative.

    Attributes:
        name: what people know it by.
        kind: ``"lm"`` (another model), ``"implementation"`` (another way), ``"cache"`` (an answer from before) or
            ``"degraded"`` (less of an answer).
        work: answers; raises where it cannot.
    """

    name: str
    kind: FallbackKind
    work: Callable[[], W]

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ConfigurationError(
                f"Fallback({self.name!r}, kind={self.kind!r}): it is one of {', '.join(_KINDS)}.",
                key="kind",
                expected=_KINDS,
                actual=self.kind,
            )


@dataclass(frozen=True, slots=True)
class Left:
    """An alternative that did not answer, and why, as a clause."""

    name: str
    kind: FallbackKind
    reason: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What was answered, and by whom.

    Attributes:
        value: the answer.
        name: the alternative that gave it.
        kind: its kind.
        left: those before it, with why each was left.
    """

    value: T
    name: str
    kind: FallbackKind
    left: tuple[Left, ...] = ()

    @property
    def degraded(self) -> bool:
        """It is less than what was asked for: from a cache, or a degraded answer."""
        return self.kind in _LESS


async def first_of(
    attempts: Sequence[Fallback[Awaitable[T]]],
    *,
    mends: Callable[[BaseException], bool] = mendable,
    deadline: float | None = None,
    told: Observer | None = None,
) -> Answer[T]:
    """Await the alternatives in their order until one answers.

    Args:
        attempts: at least one.
        mends: whether another alternative may mend a failure; where not, it is raised at once.
        deadline: seconds of ``time.monotonic()``; after it only caches and degraded answers are asked.
        told: told of each use of an alternative after the first (``fallback.use``), before it is asked.

    Raises:
        ConfigurationError: there is no alternative.
        Exception: where none answered, the failure of the first one, and where a failure cannot be mended, that; its notes
            (``__notes__``) say why each was left.
    """
    walk: _Walk[Awaitable[T]] = _Walk(attempts, mends, deadline, told)
    while True:
        attempt = walk.next()
        try:
            value = await attempt.work()
        except BaseException as error:
            walk.leave(attempt, error)
        else:
            return Answer(value, attempt.name, attempt.kind, tuple(walk.left))


def first_of_sync(
    attempts: Sequence[Fallback[T]],
    *,
    mends: Callable[[BaseException], bool] = mendable,
    deadline: float | None = None,
    told: Observer | None = None,
) -> Answer[T]:
    """Call the alternatives as `first_of` does, in this thread."""
    walk: _Walk[T] = _Walk(attempts, mends, deadline, told)
    while True:
        attempt = walk.next()
        try:
            value = attempt.work()
        except BaseException as error:
            walk.leave(attempt, error)
        else:
            return Answer(value, attempt.name, attempt.kind, tuple(walk.left))


class _Walk(Generic[W]):
    """The way along the alternatives."""

    def __init__(
        self,
        attempts: Sequence[Fallback[W]],
        mends: Callable[[BaseException], bool],
        deadline: float | None,
        told: Observer | None,
    ) -> None:
        if not attempts:
            raise ConfigurationError("There is no alternative to ask.", key="attempts", hint="Give at least one Fallback.")
        self._first = attempts[0].name
        self._todo = list(reversed(attempts))
        self._mends, self._deadline, self._told = mends, deadline, told
        self._failure: BaseException | None = None
        self.left: list[Left] = []

    def next(self) -> Fallback[W]:
        """Return the alternative to ask; raise the first failure where there is no more."""
        while self._todo:
            attempt = self._todo.pop()
            if self._failure is None:
                return attempt
            if attempt.kind not in _LESS and self._deadline is not None and time.monotonic() >= self._deadline:
                self.left.append(Left(attempt.name, attempt.kind, "the deadline passed before it was asked"))
                continue
            before = self.left[-1]
            details = {"kind": attempt.kind, "first": self._first}
            tell(self._told, Change("fallback.use", attempt.name, before.name, attempt.name, before.reason, details=details))
            return attempt
        assert self._failure is not None  # noqa: S101 - there was at least one alternative
        raise self._noted(self._failure)

    def leave(self, attempt: Fallback[W], error: BaseException) -> None:
        """Take down why ``attempt`` was left; raise what no other alternative can mend."""
        if not isinstance(error, Exception):
            raise error
        mended = self._mends(error)
        self.left.append(Left(attempt.name, attempt.kind, describe(error)))
        if not mended:
            raise self._noted(error)
        self._failure = self._failure or error

    def _noted(self, error: BaseException) -> BaseException:
        if len(self.left) > 1:
            error.add_note("\n".join(f"{each.name} ({each.kind}): {each.reason}" for each in self.left))
        return error
