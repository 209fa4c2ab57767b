"""How many sessions there may be, and how large."""

from __future__ import annotations

from dataclasses import dataclass

from dspex_lab.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Limits on sessions.

    Args:
        sessions: how many may be open. One more is refused; none is closed for it, because its state would be lost.
        state_bytes: what the state and the optimisation state of a session may take, as they are stored.
        loaded: of how many the state is held in memory; that of the one used longest ago is read again when it is needed. Those
            of which a list, dict, array or frame was got or set in this kernel stay in memory beside: it may yet change.

    Raises:
        ConfigurationError: one is no whole number above 0.
    """

    sessions: int = 1_000
    state_bytes: int = 16_000_000
    loaded: int = 100

    def __post_init__(self) -> None:
        for key in ("sessions", "state_bytes", "loaded"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(
                    f"SessionLimits({key}={value!r}): it must be a whole number above 0.",
                    key=key,
                    expected="a whole number above 0",
                    actual=value,
                )
