"""What a faulty server saw: its requests, their fates, and waits for them that need no sleep."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from dspex_lab.lms.exemplar._prompt import Prompt, read_prompt

_SECRET_HEADERS = frozenset(["authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "x-goog-api-key"])


def masked(secret: str) -> str:
    """Return a secret as OpenAI shows it: its first eight and its last four characters; short ones not at all."""
    return f"{secret[:8]}{'*' * 8}{secret[-4:]}" if len(secret) > 16 else "*" * 8


class Headers(dict[str, str]):
    """Header fields by lower-case name. Their secrets can be read one by one, and are not shown by ``repr``."""

    def __repr__(self) -> str:
        return repr({name: "<masked>" if name in _SECRET_HEADERS else value for name, value in self.items()})


@dataclass(frozen=True, eq=False)
class Arrival:
    """One request as it arrived.

    Attributes:
        number: counted from 1 over all requests; ``connection``: the same over the connections.
        body: the JSON of the body; None where there is none or it cannot be read.
        at: seconds on the server's clock.
        key: the bearer token, not shown by ``repr``.
    """

    number: int
    connection: int
    method: str
    path: str
    headers: Headers
    body: dict[str, Any] | None = field(repr=False)
    at: float = 0.0

    @property
    def key(self) -> str | None:
        """The bearer token, or what stands in ``x-api-key`` or ``api-key``."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token
        return self.headers.get("x-api-key") or self.headers.get("api-key")

    @property
    def model(self) -> str:
        """The model asked for; empty where none is."""
        model = (self.body or {}).get("model")
        return model if isinstance(model, str) else ""

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for."""
        return bool((self.body or {}).get("stream"))

    @cached_property
    def turns(self) -> list[tuple[str, str]]:
        """The messages as role and text."""
        messages = (self.body or {}).get("messages")
        if not isinstance(messages, list):
            return [("user", _text((self.body or {}).get("prompt")))]
        return [(str(m.get("role")), _text(m.get("content"))) for m in messages if isinstance(m, Mapping)]

    @cached_property
    def prompt(self) -> Prompt:
        """The messages read as a DSPy prompt: ``.text``, ``.question``, ``.demonstrations``, ``.task``."""
        system = "".join(text for role, text in self.turns if role in ("system", "developer"))
        return read_prompt(system, [turn for turn in self.turns if turn[0] not in ("system", "developer")])


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(p.get("text") or "") if isinstance(p, Mapping) else str(p) for p in content)
    return ""


class Counts(NamedTuple):
    """How many requests arrived, were answered to their end, were left by their client, were billed (a provider would),
    are under way, and were at most at once; how many connections were opened, and how many are open."""

    arrived: int = 0
    answered: int = 0
    abandoned: int = 0
    paid: int = 0
    in_flight: int = 0
    peak: int = 0
    connections: int = 0
    open_connections: int = 0


class Log:
    """Counts, keeps and tells. Written by the server's thread, read and waited for by any.

    Args:
        keep: how many requests are kept, the latest ones.
    """

    def __init__(self, keep: int) -> None:
        self._changed = threading.Condition()
        self._counts: dict[str, int] = dict.fromkeys(Counts._fields, 0)
        self._arrivals: deque[Arrival] = deque(maxlen=keep)
        self._faults: Counter[str] = Counter()

    @property
    def counts(self) -> Counts:
        """All counts, taken at one moment."""
        with self._changed:
            return Counts(**self._counts)

    @property
    def arrivals(self) -> list[Arrival]:
        """The requests that are kept, in their order."""
        with self._changed:
            return list(self._arrivals)

    @property
    def faults(self) -> dict[str, int]:
        """How many requests met a fault, by its kind."""
        with self._changed:
            return dict(self._faults)

    def arrived(self, arrival: Arrival) -> None:
        """Keep a request that begins."""
        with self._changed:
            self._arrivals.append(arrival)
            self._counts["peak"] = max(self._counts["peak"], self._counts["in_flight"] + 1)
        self.count(arrived=1, in_flight=1)

    def met(self, fault: str) -> None:
        """Count a fault that comes into effect."""
        with self._changed:
            self._faults[fault] += 1

    def count(self, **more: int) -> None:
        """Add to counts, and tell those who wait."""
        with self._changed:
            for name, by in more.items():
                self._counts[name] += by
            self._changed.notify_all()

    def wait(self, holds: Callable[[Counts], bool], timeout: float) -> bool:
        """Wait until something holds of the counts, and say whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(Counts(**self._counts)), timeout)

    def clear(self) -> None:
        """Forget the requests and the faults, and count them from 0; what is under way and open stays."""
        with self._changed:
            self._arrivals.clear()
            self._faults.clear()
            kept = {name: self._counts[name] for name in ("in_flight", "open_connections")}
            self._counts = {**dict.fromkeys(Counts._fields, 0), **kept, "peak": kept["in_flight"]}
