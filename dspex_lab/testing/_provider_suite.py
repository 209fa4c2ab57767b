"""How an engine that asks a provider is tested: its LM, its server, its key, and how a failure is had."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from dspex_lab.testing._any_lm import ask, astream, close, stream, text_of
from dspex_lab.testing._engine_conformance import TEXT, EngineConformance
from dspex_lab.testing._faulty import FaultyServer
from dspex_lab.testing._provider_cases import dspy_error

#: The key of the tests: long and unlike any word, so that it is found wherever it leaks.
KEY = "sk-zQ8vKx2LrT5nWb7YhC3mJd9PfGs4Ea"


class ProviderSuite(EngineConformance):
    """What :class:`ProviderConformance` stands on: servers that fail, LMs that ask them, and the failures that come of it."""

    #: The environment variable that holds the key while a test runs.
    key_variable: ClassVar[str] = "OPENAI_API_KEY"

    def make_lm(self, server: FaultyServer, *, key: str, timeout: float | None = None) -> Any:
        """Return a ``dspy.LM`` that asks ``server.url`` with ``key``, without cache and retries.

        Args:
            timeout: seconds to wait for the server, where the engine can be told (``declared.timeout``).
        """
        raise NotImplementedError("say how the LM is made")

    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(self.key_variable, KEY)

    def make(self, answer: Any) -> Any:
        return self.make_lm(self.server(answer), key=KEY)

    def with_key(self, state: dict[str, Any]) -> dict[str, Any]:
        return state if isinstance(state.get("engine"), dict) else {**state, "api_key": KEY}

    def server(self, answer: Any = TEXT, **options: Any) -> FaultyServer:
        """Return a server that is closed when the test is over, after the LMs."""
        return self._stack.enter_context(FaultyServer(answer, **options))

    def asking(self, server: FaultyServer, *, timeout: float | None = None) -> Any:
        """Return an LM that asks ``server`` and is closed when the test is over."""
        lm = self.make_lm(server, key=KEY, timeout=timeout)
        self._stack.callback(close, lm)
        return lm

    # How a failure is had.

    def _failure(self, lm: Any) -> Any:
        with pytest.raises(dspy_error("LMError")) as caught:
            lm(request=ask(lm))
        return caught.value

    def _async_failure(self, lm: Any) -> Any:
        with pytest.raises(dspy_error("LMError")) as caught:
            self.run(lm, lambda: lm.acall(request=ask(lm)))
        return caught.value

    def _broken(self, lm: Any) -> tuple[Any, list[str]]:
        """Return the error that ends a stream, and the pieces that came before it."""
        pieces: list[str] = []

        def collect() -> None:
            for event in stream(lm, ask(lm)):
                pieces.append(text_of([event]))

        with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is what the tests check
            collect()
        return caught.value, [piece for piece in pieces if piece]

    def _async_broken(self, lm: Any) -> tuple[Any, list[str]]:
        pieces: list[str] = []

        async def collect() -> None:
            async for event in astream(lm, ask(lm)):
                pieces.append(text_of([event]))

        with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is what the tests check
            self.run(lm, collect)
        return caught.value, [piece for piece in pieces if piece]
