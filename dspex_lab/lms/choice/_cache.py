"""DSPy's cache of answers: whether it is on, switching it, and emptying it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CacheState:
    """What DSPy's cache holds.

    Args:
        memory: answers kept in this process, None where that half is off; ``disk`` those kept in ``folder``.
    """

    memory: int | None
    disk: int | None
    folder: str | None

    @property
    def on(self) -> bool:
        """Say whether any half is on."""
        return self.memory is not None or self.disk is not None

    def __str__(self) -> str:
        if not self.on:
            return "DSPy's cache is off: every call reaches a model"
        halves = [
            f"{count:,} answer{'s' if count != 1 else ''} {where}"
            for count, where in ((self.memory, "in memory"), (self.disk, f"in {self.folder}"))
            if count is not None
        ]
        return f"DSPy's cache is on: {', '.join(halves)}"


#: The cache that was switched off, to be switched on again.
_put_aside: list[Any] = []


def cache_state() -> CacheState:
    """Return what DSPy's cache holds now."""
    import dspy

    return _state(dspy.cache)


def _state(cache: Any) -> CacheState:
    on_disk = bool(cache.enable_disk_cache)
    return CacheState(
        memory=len(cache.memory_cache) if cache.enable_memory_cache else None,
        disk=len(cache.disk_cache) if on_disk else None,
        folder=str(cache.disk_cache_dir) if on_disk else None,
    )


def switch_cache(on: bool) -> CacheState:
    """Switch DSPy's cache on or off, for everything in this process; off keeps what it holds. Returns how it is now.

    Switched on again it is the one it was, with its folder and settings.
    """
    import dspy

    current = dspy.cache
    if on and not _state(current).on:
        if _put_aside:
            dspy.cache = _put_aside.pop()
        else:
            dspy.configure_cache()
    elif not on and _state(current).on:
        _put_aside[:] = [current]
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    return cache_state()


def clear_cache() -> CacheState:
    """Remove every answer from DSPy's cache, and return what it held.

    The half on the disk belongs to all programs of this user that have the same ``DSPY_CACHEDIR``.
    """
    import dspy

    cache = dspy.cache
    before = _state(cache)
    cache.reset_memory_cache()
    if cache.enable_disk_cache:
        cache.disk_cache.clear()
    return before
