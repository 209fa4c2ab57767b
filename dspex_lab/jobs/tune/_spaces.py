"""The spaces of this process by key: a work travels and is kept without its space, and finds it again where that is open."""

from __future__ import annotations

import weakref

from dspex_lab.errors import JobError
from dspex_lab.variables import Space

_known: weakref.WeakValueDictionary[str, Space] = weakref.WeakValueDictionary()


def know_space(space: Space, key: str | None = None) -> str:
    """Have works that were kept find a space in this process, for as long as somebody holds it; return the key.

    Args:
        key: the same in each process that opens the space; its name where None. Who has several spaces of one name (two Labs
            in a process) gives them keys of their own.
    """
    found = key or space.name
    _known[found] = space
    return found


def known_space(key: str) -> Space:
    """Return a space by its key.

    Raises:
        JobError: it is not open in this process.
    """
    found = _known.get(key)
    if found is None:
        raise JobError(
            f"The space {key!r} whose variables the job moves is not open in this process.",
            hint="Open its Lab, or give the work again: job.resume(work=tune(…)).",
        )
    return found
