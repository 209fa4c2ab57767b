"""The conformance suite over DSPy's own engines: what they fall short of is listed, and fails when they have learned it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import dspy

from dspex_lab.testing import Declared, FaultyServer, ProviderConformance

NO_ANSWER = "takes a response without choices for an empty answer"


class TestLM15(ProviderConformance):
    declared = Declared(partial=False, hides_key=False)
    known: ClassVar[Mapping[str, str]] = {
        "test_a_spoilt_answer_is_named[empty_choices]": NO_ANSWER,
        "test_a_spoilt_answer_is_named[no_choices]": NO_ANSWER,
        "test_a_stream_without_an_answer_is_an_error[choices]": NO_ANSWER,
        "test_a_stream_without_an_answer_is_an_error[no_choices]": NO_ANSWER,
        "test_a_broken_stream_is_named[bad_sse]": "a line that is no JSON is a bare JSONDecodeError",
        "test_a_server_that_does_not_answer_is_a_timeout": "a read that takes too long is a TransportError",
        "test_wrong_counts_of_tokens_spoil_no_answer[negative]": "the answer is lost: ValueError",
        "test_wrong_counts_of_tokens_spoil_no_answer[nonsense]": "the answer is lost: TypeError",
        "test_a_key_that_the_provider_repeats_is_masked": "the provider's words are passed on as they are",
    }

    def make_lm(self, server: FaultyServer, *, key: str, timeout: float | None = None) -> Any:
        more = {} if timeout is None else {"timeout": timeout}
        url = server.url
        return dspy.LM("openai/any-model", engine="lm15", api_base=url, api_key=key, cache=False, num_retries=0, **more)


def test_litellm_as_well() -> None:
    suite = Path(__file__).with_name("litellm_conformance.py")
    # LiteLLM leaves connections open, which is not what this is about.
    off = ["-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", *off, "-o", "addopts=", str(suite)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
