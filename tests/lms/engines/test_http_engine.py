"""HttpEngine beyond the conformance suite: what goes on the wire, what may come back, how long, how much, and from where."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy.lm15 import (
    Config,
    FunctionTool,
    ImagePart,
    Message,
    NotConfiguredError,
    ProviderError,
    RateLimitError,
    Reasoning,
    Request,
    TextPart,
    TransportError,
)
from http_helpers import KEY, ask, canned, failure, http, ways
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import ConfigurationError, LMError
from dspex_lab.lms.engines import AsyncHttpEngine, BrokenStream, Endpoint, HttpEngine, UnusableAnswer, http_lm
from dspex_lab.lms.engines._http_answers import failure as failure_of
from dspex_lab.lms.engines._http_transport import Lines, TooLarge
from dspex_lab.testing import Fault, FaultyServer, Gate, Reply

COMPLETION: dict[str, Any] = {
    "id": "c1",
    "model": "any",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
}
WAYS = ["complete", "stream", "acomplete", "astream"]


def sse(*payloads: Any) -> bytes:
    lines = [f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in payloads]
    return http("".join(lines).encode(), "text/event-stream")


def piece(text: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "delta": {**delta, **({} if text is None else {"content": text})}, "finish_reason": finish}]
    }


# What goes on the wire.


def test_a_request_is_written_as_most_servers_take_it() -> None:
    tool = FunctionTool(name="look", description="Look it up.", parameters={"type": "object", "properties": {}})
    form = {"type": "json_schema", "name": "Out", "schema": {"type": "object"}, "strict": True}
    asked = Request(
        model="http/org/model-7b",
        system="Be brief.",
        messages=(Message.user([TextPart("See:"), ImagePart(media_type="image/png", data=base64.b64encode(b"png").decode())]),),
        tools=(tool,),
        config=Config(max_tokens=9, temperature=0.5, seed=3, stop=("END",), logprobs=2, response_format=form),
    )
    with FaultyServer("Yes") as server:
        HttpEngine(server.url).complete(asked)
        body = server.requests[0].body
    assert body["model"] == "org/model-7b"
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][1]["content"][1]["image_url"]["url"] == "data:image/png;base64,cG5n"
    assert (body["max_tokens"], body["seed"], body["stop"], body["top_logprobs"]) == (9, 3, ["END"], 2)
    assert body["tools"][0]["function"]["name"] == "look"
    assert body["response_format"]["json_schema"]["strict"] is True
    assert not {"n", "stream", "user"} & set(body)


def test_the_dialect_of_a_server_is_spoken() -> None:
    with FaultyServer("Yes") as server:
        HttpEngine(server.url, dialect="openai").complete(ask(max_tokens=9))
        HttpEngine(server.url, dialect="openrouter").complete(ask(reasoning=Reasoning(effort="low")))
        first, second = (arrival.body for arrival in server.requests)
    assert first["max_completion_tokens"] == 9
    assert second["reasoning"] == {"effort": "low"}


@pytest.mark.parametrize(
    ("asked", "given", "sent"),
    [("http/m", None, "m"), ("http/m@HOST", None, "m"), ("openai/m", None, "openai/m"), ("openai/m", "other", "other")],
)
def test_the_model_is_called_what_the_server_calls_it(asked: str, given: str | None, sent: str) -> None:
    with FaultyServer("Yes", models=[sent]) as server:
        engine = HttpEngine(server.url, model=given)
        name = asked.replace("HOST", engine.endpoint.authority)
        assert engine.complete(ask(model=name)).text == "Yes"


def test_headers_are_sent_and_secret_ones_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer("Yes") as server:
        engine = HttpEngine(server.url, headers={"X-Org": "us"}, header_env={"api-key": "AZURE"})
        error = failure(lambda: engine.complete(ask()))
        assert isinstance(error, NotConfiguredError)
        assert "AZURE" in str(error)
        assert server.counts.arrived == 0
        monkeypatch.setenv("AZURE", KEY)
        engine.complete(ask())
        headers = {name.lower(): value for name, value in dict(server.requests[0].headers).items()}
    assert (headers["x-org"], headers["api-key"]) == ("us", KEY)
    assert "authorization" not in headers
    assert headers["user-agent"] == "dspex-lab"


def test_execution_controls_do_not_slip_through() -> None:
    engine = HttpEngine("http://127.0.0.1:9/v1")
    with pytest.raises(ValueError, match="extra_headers"):
        engine.complete(ask(extensions={"extra_headers": {"a": "b"}}))
    with pytest.raises(TypeError):
        engine.complete("hello")  # type: ignore[arg-type]


# What comes back.


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


# How long, and how much.


@pytest.mark.parametrize("way", WAYS)
def test_a_drip_ends_with_the_time_for_the_whole_answer(way: str) -> None:
    gate = Gate()
    gate.open(30)
    with FaultyServer("one two three", faults=Fault.drip(gate)) as server:
        error = failure(lambda: ways(HttpEngine(server.url, total_timeout=0.2))[way](ask()))
        assert isinstance(error, TimeoutError)
        assert "total_timeout=0.2" in str(error)
        assert server.abandoned(1)


@pytest.mark.parametrize("way", WAYS)
def test_silence_ends_with_the_time_between_two_bytes(way: str) -> None:
    with FaultyServer(faults=Fault.hang()) as server:
        error = failure(lambda: ways(HttpEngine(server.url, read_timeout=0.1))[way](ask()))
        assert isinstance(error, TimeoutError)
        assert "read_timeout=0.1" in str(error)
        assert server.abandoned(1)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_falls_silent_keeps_what_it_had(way: str) -> None:
    with FaultyServer("one two three", faults=Fault.hang(after=2)) as server:
        error = failure(lambda: ways(HttpEngine(server.url, total_timeout=0.2))[way](ask()))
    assert isinstance(error, TimeoutError)
    assert error.partial.text == "one two "


def test_a_server_that_cannot_be_reached_in_time_is_a_timeout() -> None:
    from dspy._vendor.lm15.transports import ConnectTimeout

    error = failure_of(ConnectTimeout("x"), Endpoint(api_base="http://h/v1"), None)
    assert isinstance(error, TimeoutError)
    assert "connect_timeout=10" in str(error)


def test_the_time_may_be_up_before_anything_is_sent() -> None:
    with FaultyServer("Yes") as server:
        for work in ways(HttpEngine(server.url, total_timeout=1e-9)).values():
            assert isinstance(failure(lambda work=work: work(ask())), TimeoutError)
        assert HttpEngine(server.url).complete(ask()).text == "Yes"


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_beyond_the_limit_is_not_read(way: str) -> None:
    with FaultyServer(faults=Fault.huge(1 << 20)) as server:
        error = failure(lambda: ways(HttpEngine(server.url, max_body=10_000))[way](ask()))
        assert server.idle(), "what was not read is not sent for ever"
    assert isinstance(error, UnusableAnswer)
    assert error.reason == "too large"
    assert "max_body=10,000" in str(error)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_line_beyond_the_limit_is_not_kept(way: str) -> None:
    with canned(sse(piece("Par"), piece("x" * 3000), "[DONE]")) as base:
        error = failure(lambda: ways(HttpEngine(base, max_event=2000))[way](ask()))
    assert error.reason == "too large"
    assert "max_event" in str(error)


@given(st.binary(max_size=200), st.lists(st.integers(1, 40)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, sizes: list[int]) -> None:
    lines, found, rest = Lines(Endpoint(api_base="http://h/v1")), [], data
    for size in [*sizes, len(data)]:
        found += lines.feed(rest[:size])
        rest = rest[size:]
    found += lines.end()
    assert b"".join(found) == data
    assert all(line.find(b"\n") in (-1, len(line) - 1) for line in found)
    assert all(line.endswith(b"\n") for line in found[:-1])
    assert lines.head == data[:512]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.integers(1, 60))
def test_no_line_is_ever_longer_than_the_limit(chunks: list[bytes], limit: int) -> None:
    lines = Lines(Endpoint(api_base="http://h/v1", max_event=limit))
    try:
        for chunk in chunks:
            assert all(len(line) <= limit for line in lines.feed(chunk))
    except TooLarge:
        assert max(len(line) + 1 for line in b"".join(chunks).split(b"\n")) > limit


# Where to.


@pytest.mark.parametrize("way", WAYS)
def test_the_key_goes_to_no_other_server(way: str) -> None:
    with FaultyServer("Yes") as other, FaultyServer(faults=Fault.redirect(f"{other.url}/chat/completions")) as server:
        error = failure(lambda: ways(HttpEngine(server.url, api_key=KEY))[way](ask()))
        assert isinstance(error, ProviderError)
        assert error.status == 307
        assert f"127.0.0.1:{other.port}" in str(error)
        assert other.counts.connections == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_on_the_same_server_is_followed_but_not_in_circles(way: str) -> None:
    with FaultyServer("Yes", faults={1: Fault.redirect()}) as server:
        assert ways(HttpEngine(server.url, api_key=KEY))[way](ask()) == "Yes"
        assert {arrival.key for arrival in server.requests} == {KEY}
    again = "/v1/chat/completions"
    with FaultyServer("Yes", faults=Fault.error(308, "again", headers={"Location": again})) as server:
        assert "circle" in str(failure(lambda: ways(HttpEngine(server.url))[way](ask())))
        assert server.counts.arrived == 4


def test_a_redirect_that_would_drop_the_question_is_not_followed() -> None:
    with FaultyServer("Yes", faults=Fault.error(303, "see", headers={"Location": "/v1/chat/completions"})) as server:
        assert failure(lambda: HttpEngine(server.url).complete(ask())).status == 303
    with FaultyServer("Yes", faults=Fault.error(307, "where?")) as server:
        assert "nowhere" in str(failure(lambda: HttpEngine(server.url).complete(ask())))


def test_a_proxy_is_asked_instead_of_the_server() -> None:
    with FaultyServer("By proxy") as proxy:
        engine = HttpEngine("http://models.example/v1", proxy=f"http://127.0.0.1:{proxy.port}")
        assert [ask_it(ask()) for ask_it in ways(engine).values()] == ["By proxy"] * 4


# Threads, loops and processes.


def test_no_more_connections_than_allowed_are_opened() -> None:
    with FaultyServer("Yes", hold=(gate := Gate())) as server:
        engine = HttpEngine(server.url, max_connections=2)
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(engine.complete, ask()) for _ in range(6)]
            assert server.flying(2)
            gate.open()
            assert [each.result().text for each in asked] == ["Yes"] * 6
        assert server.counts.peak == server.counts.connections == 2


@pytest.mark.parametrize("fault", [Fault.bad_sse(), Fault.huge(1 << 20), Fault.redirect("http://127.0.0.1:9/"), Fault.cut(1)])
def test_an_error_that_is_kept_keeps_no_place_in_the_pool(fault: Fault) -> None:
    with FaultyServer("one two", faults={1: fault, 2: fault}) as server:
        engine = HttpEngine(server.url, max_connections=1, max_body=5000, read_timeout=20)
        kept = [failure(lambda: list(engine.stream(ask()))), failure(lambda: engine.complete(ask()))]
        assert engine.complete(ask()).text == "one two"
        assert len(kept) == 2
        assert server.idle()


def test_a_connection_that_was_idle_for_long_is_not_trusted() -> None:
    def age(transport: Any) -> None:
        [[connection]] = transport._pool._idle.values()
        connection.usable_until -= 10

    async def three(engine: AsyncHttpEngine) -> None:
        for _ in range(2):
            await engine.complete(ask())
        age(engine.chat().transport)
        await engine.complete(ask())

    with FaultyServer("Yes") as server:
        engine = HttpEngine(server.url)
        for _ in range(2):
            engine.complete(ask())
        age(engine.chat().transport)
        engine.complete(ask())
        assert server.counts.connections == 2
        asyncio.run(three(engine.asynchronous()))
        assert server.counts.connections == 4


def test_pools_of_closed_loops_are_let_go() -> None:
    with FaultyServer("Yes") as server:
        engine = AsyncHttpEngine(server.url)
        for _ in range(3):
            asyncio.run(engine.complete(ask()))
        assert len(engine._made) == 1
        asyncio.run(engine.aclose())
        assert asyncio.run(engine.complete(ask())).text == "Yes"
        assert server.counts.connections == 4


def test_a_pickle_opens_its_own_pool_and_a_closed_engine_a_new_one() -> None:
    with FaultyServer("Yes") as server:
        engine = HttpEngine(server.url)
        engine.complete(ask())
        again = pickle.loads(pickle.dumps(engine))  # noqa: S301 - our own
        again.complete(ask())
        assert server.counts.connections == 2
        engine.close()
        engine.close()
        assert engine.complete(ask()).text == "Yes"
        assert server.counts.connections == 3


def _in_a_child(work: Any) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads: that is what is tried
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() == "Yes" else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_leaves_its_parents_connections_alone() -> None:
    with FaultyServer("Yes") as server:
        engine = HttpEngine(server.url)
        engine.complete(ask())
        assert _in_a_child(lambda: engine.complete(ask()).text) == 0
        assert engine.complete(ask()).text == "Yes"
        assert server.counts.connections == 2


def test_a_forked_child_leaves_its_parents_loop_alone() -> None:
    with FaultyServer("Yes") as server:
        engine = AsyncHttpEngine(server.url)
        with asyncio.Runner() as runner:
            runner.run(engine.complete(ask()))
            assert _in_a_child(lambda: asyncio.run(engine.complete(ask())).text) == 0
            assert runner.run(engine.complete(ask())).text == "Yes"
            assert server.counts.connections == 2
            runner.run(engine.aclose())


# As a dspy.LM.


def test_http_lm_is_a_dspy_lm_with_a_name_of_its_own() -> None:
    with FaultyServer({"answer": "Paris"}) as server:
        lm = http_lm("http/any", api_base=server.url, temperature=0.3, cache=False, structured=True)
        assert lm.model == f"http/any@127.0.0.1:{server.port}"
        assert (lm.supports_response_schema, lm.supports_function_calling, lm.supports_reasoning) == (True, False, False)
        assert "response_format" in lm.supported_params
        assert "tools" not in lm.supported_params
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            assert dspy.Predict("question -> answer")(question="Capital?").answer == "Paris"
        assert server.requests[0].body["temperature"] == 0.3
        assert server.requests[0].body["response_format"]["type"] == "json_schema"
        assert lm.history[-1]["usage"]["total_tokens"] > 0
        assert lm.engine.api_base == server.url


def test_http_lm_says_what_it_does_not_take() -> None:
    with pytest.raises(LMError, match="has a name"):
        http_lm("http/", api_base="http://h/v1")
    with pytest.raises(LMError, match="num_retries"):
        http_lm("m", api_base="http://h/v1", num_retries=-1)
    with pytest.raises(ConfigurationError):
        http_lm("m", api_base="nowhere")


def test_all_candidates_are_asked_for_one_by_one() -> None:
    with FaultyServer(["a", "b", "c"]) as server:
        lm = http_lm("any", api_base=server.url, cache=False)
        assert lm("hi", n=3, temperature=1.0) == ["a", "b", "c"]
        assert all("n" not in arrival.body for arrival in server.requests)


def test_dspys_error_has_the_seconds_to_wait() -> None:
    with FaultyServer(faults=Fault.rate_limit(7)) as server:
        lm = http_lm("any", api_base=server.url, cache=False, num_retries=0)
        error = failure(lambda: lm("hi"))
    assert error.retry_after == 7
    assert isinstance(error.__cause__, RateLimitError)


def test_thoughts_arrive_in_a_stream() -> None:
    with FaultyServer(Reply("Paris", thinking="France, so")) as server:
        events = list(HttpEngine(server.url).stream(ask()))
    assert "".join(e.delta.text for e in events if e.type == "delta" and e.delta.type == "thinking") == "France, so"


def test_neither_litellm_nor_an_sdk_is_imported() -> None:
    code = """
import sys
from dspex_lab.lms.engines import http_lm
from dspex_lab.testing import FaultyServer
with FaultyServer("Yes") as server:
    lm = http_lm("any", api_base=server.url, cache=False)
    assert lm("hi") == ["Yes"]
    import asyncio
    assert asyncio.run(lm.acall("hi")) == ["Yes"]
print([name for name in ("litellm", "openai", "instructor") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
