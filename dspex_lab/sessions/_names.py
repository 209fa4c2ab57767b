"""The names of sessions."""

from __future__ import annotations

from collections.abc import Container
from itertools import count

from dspex_lab.errors import SessionError
from dspex_lab.security import redact

LONGEST = 200


def checked_name(name: object) -> str:
    """Return a name.

    Raises:
        SessionError: it is none, or holds a secret.
    """
    if not isinstance(name, str) or not name.strip() or name != name.strip() or len(name) > LONGEST or not name.isprintable():
        shown = repr(name)
        raise SessionError(
            f"{shown if len(shown) <= 80 else shown[:80] + '…'} is no name for a session.",
            hint=f"A name is a line of 1 to {LONGEST} letters, without spaces around it.",
        )
    if redact(name) != name:
        raise SessionError(f"{redact(name)!r} is no name for a session: it holds a secret.")
    return name


def free_name(taken: Container[str]) -> str:
    """Return the first of session-1, session-2 … that is not taken."""
    return next(name for number in count(1) if (name := f"session-{number}") not in taken)
