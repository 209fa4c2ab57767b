"""What may come back over HTTP: counts, streams, and bodies that are no answer."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from dspy.lm15 import ProviderError, TransportError
from http_helpers import KEY, WAYS, ask, canned, failure, http, piece, sse, ways

from dspex_lab.lms.engines import BrokenStream, HttpEngine, UnusableAnswer
from dspex_lab.testing import Fault, FaultyServer

COMPLETION: dict[str, Any] = {
    "id": "c1",
    "model": "any",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
}


def test_reasoning_and_all_token_counts_are_read() -> None:
    usage = {
        "prompt_tokens": 50,
        "completion_tokens": 20,
        "total_tokens": 70,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    message = {"role": "assistant", "content": "Paris", "reasoning_content": "France, so"}
    body = {**COMPLETION, "choices": [{**COMPLETION["choices"][0], "message": message}], "usage": usage}
    with canned(http(json.dumps(body).encode())) as base:
        response = HttpEngine(base).complete(ask())
    assert [part.text for part in response.message.parts] == ["France, so", "Paris"]
    assert (response.usage.cache_read_tokens, response.usage.reasoning_tokens) == (40, 12)


def test_good_counts_are_kept_beside_bad_ones() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": "many", "prompt_tokens_details": {"cached_tokens": -1}}
    frames = [piece("Paris"), {**piece(finish="stop"), "usage": usage}, "[DONE]"]
    with canned(http(json.dumps({**COMPLETION, "usage": usage}).encode()), sse(*frames)) as base:
        assert HttpEngine(base).complete(ask()).usage.input_tokens == 5
        end = list(HttpEngine(base).stream(ask()))[-1]
    assert (end.finish_reason, end.usage.input_tokens, end.usage.output_tokens) == ("stop", 5, None)


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_does_not_stream_is_read_all_the_same(way: str) -> None:
    with canned(http(json.dumps(COMPLETION).encode())) as base:
        assert ways(HttpEngine(base))[way](ask()) == "Paris"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", ["[]", "3", '{"choices": [3]}', '{"choices": {"0": 1}}', '{"detail": "Not Found"}'])
def test_json_that_is_no_completion_is_named_with_its_words(way: str, body: str) -> None:
    with canned(http(body.encode())) as base:
        error = failure(lambda: ways(HttpEngine(base))[way](ask()))
    assert isinstance(error, ProviderError)
    assert error.status == 200 or isinstance(error, UnusableAnswer)
    assert body[:8] in str(error) or "empty" in str(error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("finish", "usage", "words"),
    [
        ("stop", {}, "finish reason 'stop'"),
        ("length", {}, "max_tokens was used up"),
        ("length", {"completion_tokens_details": {"reasoning_tokens": 9}}, "reasoning used up max_tokens"),
        ("content_filter", {}, "content filter"),
    ],
)
def test_an_empty_answer_says_why_and_keeps_its_tokens(way: str, finish: str, usage: dict[str, Any], words: str) -> None:
    counts = {"prompt_tokens": 7, "completion_tokens": 9, **usage}
    whole = {"choices": [{"message": {"content": ""}, "finish_reason": finish}], "usage": counts}
    answer = sse({**piece("", finish), "usage": counts}, "[DONE]") if "stream" in way else http(json.dumps(whole).encode())
    with canned(answer) as base:
        error = failure(lambda: ways(HttpEngine(base))[way](ask()))
    assert isinstance(error, UnusableAnswer)
    assert error.reason == "empty"
    assert words in str(error)
    assert error.partial.usage.input_tokens == 7


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_refusal_in_a_stream_is_an_error_with_its_words(way: str) -> None:
    with FaultyServer(faults=Fault.refusal("No, never.")) as server:
        error = failure(lambda: ways(HttpEngine(server.url))[way](ask()))
    assert (error.reason, error.partial.message.parts[0].type) == ("refused", "refusal")
    assert "No, never." in str(error)


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("line", ["{", '{"choices": [{"delta": {"tool_calls": 4}}]}', '{"choices": 3}'])
def test_a_garbled_line_is_quoted_and_what_had_come_is_kept(way: str, line: str) -> None:
    with canned(sse(piece("Par"), line, piece("is", "stop"), "[DONE]")) as base:
        error = failure(lambda: ways(HttpEngine(base))[way](ask()))
    assert isinstance(error, BrokenStream)
    assert (error.reason, error.partial.text) == ("garbled", "Par")
    assert line[:10] in str(error)


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("line", ["[1]", "3", '{"choices": [3]}', '{"other": "thing"}'])
def test_a_line_of_another_kind_is_passed_over(way: str, line: str) -> None:
    with canned(sse(piece("Par"), line, piece("is", "stop"), "[DONE]")) as base:
        assert ways(HttpEngine(base))[way](ask()) == "Paris"


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_is_none_quotes_what_came(way: str) -> None:
    with canned(http(b"<html>Please log in</html>", "text/html")) as base:
        error = failure(lambda: ways(HttpEngine(base))[way](ask()))
    assert isinstance(error, BrokenStream)
    assert "Please log in" in str(error)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_an_unnamed_tool_call_leaves_the_rest(way: str) -> None:
    call = {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}
    with canned(sse(piece("Par"), piece(**call))) as base:
        error = failure(lambda: ways(HttpEngine(base))[way](ask()))
    assert error.partial.text == "Par"


def test_a_cut_body_quotes_what_came() -> None:
    with FaultyServer("Paris", faults=Fault.cut()) as server:
        engine = HttpEngine(server.url)
        for error in (failure(lambda: engine.complete(ask())), failure(lambda: ways(engine)["acomplete"](ask()))):
            assert isinstance(error, TransportError)
            assert "chatcmpl-1" in str(error) or "chatcmpl-2" in str(error)


def test_errors_travel() -> None:
    with FaultyServer("one two three", faults=Fault.cut(2)) as server:
        error = failure(lambda: list(HttpEngine(server.url).stream(ask())))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), again.reason, again.partial.text, str(again)) == (type(error), "cut", "one two ", str(error))


@pytest.mark.parametrize("way", WAYS)
def test_what_a_server_repeats_of_the_key_is_masked(way: str) -> None:
    body = http(
        json.dumps({"error": {"message": f"bad {KEY}"}}).encode(), "application/json", f"x-request-id: {KEY}", status="400 X"
    )
    told = sse(piece(f"it is {KEY}", "stop"), "[DONE]") if "stream" in way else None
    told = told or http(json.dumps({**COMPLETION, "choices": [{"message": {"content": f"it is {KEY}"}}]}).encode())
    with canned(body, told) as base:
        engine = HttpEngine(base, api_key=KEY)
        error = failure(lambda: ways(engine)[way](ask()))
        assert KEY not in f"{error} {error.request_id} {error.__dict__}"
        assert "bad ***" in str(error)
        assert ways(engine)[way](ask()) == "it is ***"
