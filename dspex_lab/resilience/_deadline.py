"""One budget of time, handed down a path of calls."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from dspex_lab.errors import ConfigurationError, PipelineError


@dataclass(frozen=True)
class Deadline:
    """A moment after which an answer is of no use. It goes down with the work; whoever takes a part narrows it.

    Attributes:
        at: seconds of ``time.monotonic()``, or None for no deadline. It means nothing in another process: send
            ``remaining()`` there, and make another with ``Deadline.after``.
    """

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline ``seconds`` from now; None is no deadline.

        Raises:
            ConfigurationError: ``seconds`` is negative or no number.
        """
        return cls().narrowed(seconds)

    def remaining(self) -> float | None:
        """Return the seconds left, 0.0 where it has passed, None where there is no deadline."""
        return None if self.at is None else max(self.at - time.monotonic(), 0.0)

    @property
    def passed(self) -> bool:
        """No time is left."""
        return self.at is not None and time.monotonic() >= self.at

    def narrowed(self, seconds: float | None) -> Deadline:
        """Return the sooner of this and ``seconds`` from now; None leaves it as it is."""
        if seconds is None:
            return self
        if math.isnan(seconds) or seconds < 0:
            raise ConfigurationError(f"A time limit is 0 seconds or more, not {seconds!r}.", key="deadline", actual=seconds)
        at = time.monotonic() + seconds
        return self if self.at is not None and self.at <= at else Deadline(None if math.isinf(at) else at)

    def check(self, what: str) -> None:
        """Refuse to begin ``what``, a clause such as "step 'reply' began", where no time is left.

        Raises:
            PipelineError: the deadline has passed.
        """
        if self.passed:
            raise PipelineError(f"The deadline passed before {what}.", hint="Give it more time.")
