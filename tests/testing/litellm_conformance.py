"""The conformance suite over DSPy's LiteLLM engine; ``test_dspys_own_engines.py`` runs it in a process of its own, because
LiteLLM's clients belong to the process: their sockets stay open until it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import dspy
import pytest

from dspex_lab.testing import Declared, FaultyServer, Gate, ProviderConformance
from dspex_lab.testing._any_lm import ask, stream

REFUSED = ("test_a_refusal_is_named_with_the_providers_words", "test_a_refused_stream_is_named_alike")
NO_TIME = "drops Retry-After"
NEVER_WAS = "takes it for an error of the server's, with a status 500 that never was"


@pytest.mark.filterwarnings("ignore")
class TestLiteLLM(ProviderConformance):
    declared = Declared(partial=False, hides_key=False)
    known: ClassVar[Mapping[str, str]] = {
        **{f"{test}[{case}]": NO_TIME for test in REFUSED for case in ("rate_limit", "rate_limit_by_date", "unavailable")},
        **{f"{test}[{case}]": "takes it for a bad request" for test in REFUSED for case in ("payment", "forbidden")},
        **{f"test_a_spoilt_answer_is_named[{case}]": NEVER_WAS for case in ("reset", "reset_in_the_body", "cut", "garbage")},
        "test_a_spoilt_answer_is_named[empty_choices]": "takes a response without choices for an empty answer",
        "test_a_spoilt_answer_is_named[error_in_the_answer]": "an unexpected error without the provider's words",
        "test_a_broken_stream_is_named[cut_clean]": "half an answer passes for a whole one",
        "test_a_broken_stream_is_named[reset]": NEVER_WAS,
        "test_a_stream_without_an_answer_is_an_error": "no answer passes for an empty one",
        "test_a_server_that_is_not_there_is_named": NEVER_WAS,
        "test_wrong_counts_of_tokens_spoil_no_answer[negative]": "the counts are passed on; the answer of a stream is lost",
        "test_wrong_counts_of_tokens_spoil_no_answer[nonsense]": "the answer is lost",
        "test_a_refusal_of_the_model_is_kept_apart_from_text": "a refusal is dropped",
        "test_a_key_that_the_provider_repeats_is_masked": "the provider's words are passed on as they are",
    }

    def make_lm(self, server: FaultyServer, *, key: str, timeout: float | None = None) -> Any:
        more = {} if timeout is None else {"timeout": timeout}
        url = server.url
        return dspy.LM("openai/any-model", engine="litellm", api_base=url, api_key=key, cache=False, num_retries=0, **more)

    def test_closing_closes_the_connections(self) -> None:
        server = self.server()
        lm = self.asking(server)
        lm("Say it.")
        lm.close()
        assert server.counts.open_connections == 1, "LiteLLM's clients belong to the process, so they stay"

    def test_a_stream_that_is_left_is_closed_at_the_server(self) -> None:
        gate = Gate()
        gate.open(1)
        server = self.server(gate=gate)
        lm = self.asking(server)
        events = stream(lm, ask(lm))
        next(event for event in events if event.type == "delta")
        events.close()
        assert not server.abandoned(1, timeout=0.3), "LiteLLM leaves the request of a closed stream open"
