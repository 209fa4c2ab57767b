"""Which providers could be asked: those whose key is there and the servers that were configured. Nothing is called."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.lms._html import table
from dspex_lab.lms.choice._keys import Keys
from dspex_lab.lms.choice._prices import listed_models
from dspex_lab.lms.choice._providers import known_providers, own_address

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Offered:
    """A provider that could be asked.

    Args:
        provider: what a model's name begins with; ``why`` says what makes it available.
        models: the names of its models for text, as far as the public tables list them; empty for a server that has what was
            loaded into it.
    """

    provider: str
    why: str
    models: tuple[str, ...]

    @property
    def choice(self) -> str:
        """Say which models it has, in words."""
        if not self.models:
            return f"{self.provider}/… (whatever it has)"
        shown = ", ".join(self.models[:_SHOWN])
        return f"{len(self.models)} known models: {shown}{', …' if len(self.models) > _SHOWN else ''}"


class Available(tuple[Offered, ...]):
    """The providers that could be asked, to be shown."""

    def __repr__(self) -> str:
        lines = [f"{o.provider} ({o.why}): {o.choice}" for o in self]
        return "\n".join(lines) or "No provider has a key, and no server is configured. %dspex key PROVIDER enters a key."

    def _repr_html_(self) -> str:
        return table(("provider", "because of", "models"), [(o.provider, o.why, o.choice) for o in self], "Available")


def available(keys: Keys, provider: str | None = None) -> Available:
    """Return the providers whose key is there or whose address the environment gives.

    Args:
        provider: only this one.

    Raises:
        ConfigurationError: that one is not available.
    """
    found = {state.provider: f"{state.variable}, {state.source}" for state in keys()}
    for name in known_providers():
        address = own_address(name)
        if address is not None:
            found[name] = f"its server at {_host(address)}"
    if provider is not None and provider not in found:
        raise ConfigurationError(
            f"{provider!r} is not available.{did_you_mean(provider, found)}",
            key="provider",
            expected=sorted(found),
            actual=provider,
            hint=f"Available: {', '.join(sorted(found)) or 'none'}. %dspex key PROVIDER enters a key.",
        )
    wanted = [provider] if provider is not None else sorted(found)
    return Available(Offered(name, found[name], tuple(listed_models(name))) for name in wanted)


def _host(address: str) -> str:
    """Return the part of an address that holds no password."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # a port that is no number
        port = ""
    return f"{parts.hostname or 'an address without a name'}{port}"
