"""What everything that turns texts into vectors by asking a provider must do."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from dspex_lab.testing._faulty import FaultyServer
from dspex_lab.testing._faulty_fault import Fault
from dspex_lab.testing._faulty_openai import embed
from dspex_lab.testing._provider_cases import REFUSALS, Case, check_error, lm15, names
from dspex_lab.testing._provider_suite import KEY

_TEXTS = ["a card", "a bill", "a card", "ünïcødé 🙂"]


class EmbedderConformance:
    """Inherit, and make an embedder for the address of a :class:`FaultyServer` (:meth:`make`)."""

    #: The environment variable that holds the key while a test runs.
    key_variable: ClassVar[str] = "OPENAI_API_KEY"

    def make(self, server: FaultyServer, *, key: str) -> Callable[[list[str]], Any]:
        """Return a function from texts to one vector each, in their order, that asks ``server.url`` with ``key``. Where it has
        ``close()``, that is called at the end."""
        raise NotImplementedError("say how the embedder is made")

    @pytest.fixture(autouse=True)
    def _conformance(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv(self.key_variable, KEY)
        with contextlib.ExitStack() as self._stack:
            yield

    def asking(self, **options: Any) -> tuple[FaultyServer, Callable[[list[str]], Any]]:
        """Return a server and an embedder that asks it; both are closed when the test is over."""
        server = self._stack.enter_context(FaultyServer(**options))
        embedder = self.make(server, key=KEY)
        self._stack.callback(getattr(embedder, "close", lambda: None))
        return server, embedder

    def test_each_text_gets_its_vector(self) -> None:
        server, embedder = self.asking()
        for vector, text in zip(embedder(_TEXTS), _TEXTS, strict=True):
            assert [float(x) for x in vector] == pytest.approx(embed(text), abs=1e-6)
        assert server.requests[0].key == KEY

    def test_many_texts_keep_their_order(self) -> None:
        _, embedder = self.asking()
        texts = [f"text {number}" for number in range(700)]
        found = embedder(texts)
        assert len(found) == len(texts)
        assert [float(x) for x in found[-1]] == pytest.approx(embed(texts[-1]), abs=1e-6)

    @pytest.mark.parametrize("case", REFUSALS, ids=names(REFUSALS))
    def test_a_refusal_is_named_with_the_providers_words(self, case: Case) -> None:
        server, embedder = self.asking(faults=case.fault)
        with pytest.raises(lm15("LM15Error")) as caught:
            embedder(_TEXTS)
        check_error(caught.value, case)
        assert server.counts.arrived == 1, "one attempt"

    @pytest.mark.parametrize("fault", [Fault.empty(), Fault.garbage(), Fault.empty("body"), Fault.cut(), Fault.reset()])
    def test_an_answer_without_vectors_is_an_error(self, fault: Fault) -> None:
        _, embedder = self.asking(faults=fault)
        with pytest.raises(lm15("LM15Error")):
            embedder(_TEXTS)

    def test_the_key_is_nowhere_to_be_seen(self) -> None:
        _, embedder = self.asking(faults=Fault.wrong_key(echo=True))
        with pytest.raises(lm15("AuthError")) as caught:
            embedder(_TEXTS)
        for shown in (repr(embedder), str(embedder), str(caught.value), repr(caught.value), repr(caught.value.args)):
            assert KEY not in shown
        assert KEY.encode() not in pickle.dumps(embedder)
