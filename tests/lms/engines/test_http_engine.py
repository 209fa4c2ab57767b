"""HttpEngine beyond the conformance suite: what goes on the wire, where to, and as a ``dspy.LM``."""

from __future__ import annotations

import base64
import subprocess
import sys

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
)
from http_helpers import KEY, WAYS, ask, failure, ways

from dspex_lab.errors import ConfigurationError, LMError
from dspex_lab.lms.engines import HttpEngine, http_lm
from dspex_lab.testing import Fault, FaultyServer, Reply

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
