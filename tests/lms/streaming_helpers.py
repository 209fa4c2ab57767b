"""Somebody who watches the calls of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import dspy
import pytest

from dspex_lab.events import LMCall
from dspex_lab.lms import CONTEXT_KEY, Recorder, install
from dspex_lab.lms.calls._streaming import Token


class Watch:
    """A run's context, as far as a recorder needs it, with somebody who watches."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.closed = False
        self.calls: list[LMCall] = []
        self.listen = self

    def __call__(self, token: Token) -> None:
        self.tokens.append(token)

    def on_close(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def recorder(self) -> Recorder:
        install()
        return Recorder(lambda r: self.calls.append(r) if isinstance(r, LMCall) else None, "run", "span", "s", context=self)

    @property
    def told(self) -> list[tuple[str, str | None, str]]:
        return [(t.data["part"], t.field, t.value) for t in self.tokens]


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    with dspy.context(**{CONTEXT_KEY: made.recorder()}):
        yield made
