"""The real ``openai`` client and ``curl`` at a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import openai
import pytest
from web_helpers import LONG, Ends, ask, chat, events, same

import dspex_lab as dx
from dspex_lab.testing import Gate, scripted_lm
from dspex_lab.web._server import Served

TALK = dspy.Signature("question -> answer", "Answer a question about the weather.")
TEXT = "It will rain in the north, and the sun will shine in the south."


def count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


@pytest.fixture
def served(lab: dx.Lab, serving: Callable[..., Served]) -> Served:
    lab.use(scripted_lm({"answer": TEXT}, usage={"input_tokens": 11, "output_tokens": 7}))
    return serving(
        {
            "weather": dx.pipeline("weather", talk=dspy.Predict(TALK)),
            "words": dx.pipeline("words", n=dx.step(count)),
        }
    )


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0, timeout=LONG) as made:
        yield made


def told(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_each_pipeline_is_a_model(client: openai.OpenAI) -> None:
    models: Any = list(client.models.list())
    assert [model.id for model in models] == ["weather", "words"]
    assert models[0].description == "Answer a question about the weather."
    assert models[1].inputs["properties"] == {"text": {"type": "string"}}
    one: Any = client.models.retrieve("words")
    assert (one.owned_by, one.outputs) == ("dspex-lab", ["n"])
    with pytest.raises(openai.NotFoundError, match="There is no pipeline 'word'; there are: weather, words"):
        client.models.retrieve("word")


def test_a_question_is_answered_by_the_pipeline_that_is_named(client: openai.OpenAI) -> None:
    found: Any = client.chat.completions.create(model="weather", messages=told("Will it rain?"))
    assert (found.object, found.model) == ("chat.completion", "weather")
    assert found.choices[0].message.content == TEXT
    assert found.choices[0].finish_reason == "stop"
    assert found.usage.model_dump(exclude_none=True) == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    about = found.dspex
    assert (about["pipeline"], about["routed_by"], about["status"]) == ("weather", "named", "complete")
    assert (about["fallback_used"], about["fallback_reason"], about["simulated"]) == (False, None, True)
    assert about["outputs"] == {"answer": TEXT}
    assert found.id == f"chatcmpl-{about['request_id']}"


def test_auto_leaves_it_to_the_router_which_says_what_it_compared(client: openai.OpenAI) -> None:
    found: Any = client.chat.completions.create(model="auto", messages=told("count the words of this text, please"))
    assert (found.model, found.choices[0].message.content) == ("words", "7")
    assert found.dspex["routed_by"] == "similarity"
    assert [each["pipeline"] for each in found.dspex["ranking"]] == ["words", "weather"]


def test_a_stream_brings_the_text_as_it_is_written(lab: dx.Lab, client: openai.OpenAI) -> None:
    gate = Gate()
    lab.use(scripted_lm({"answer": TEXT}, gate=gate))
    coming = iter(client.chat.completions.create(model="weather", messages=told("Rain?"), stream=True))
    pieces = [next(coming)]
    assert pieces[0].choices[0].delta.role == "assistant"
    assert gate.reached(1)
    gate.open(12)  # the markers around the field are pieces too
    pieces.append(next(coming))  # while the model is held before its thirteenth piece
    early = pieces[1].choices[0].delta.content
    assert early
    assert TEXT.startswith(early)
    assert early != TEXT
    gate.open()
    pieces += coming
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == TEXT
    assert pieces[-1].choices[0].finish_reason == "stop"
    last: Any = pieces[-1]
    assert last.dspex["outputs"] == {"answer": TEXT}
    assert len({piece.id for piece in pieces}) == 1
    assert {piece.model for piece in pieces} == {"weather"}


def test_a_stream_says_its_usage_only_where_it_is_asked(client: openai.OpenAI) -> None:
    asked = {"model": "weather", "messages": told("Rain?"), "stream": True}
    plain: list[Any] = list(client.chat.completions.create(**asked))
    assert [piece.usage for piece in plain] == [None] * len(plain)
    counted: list[Any] = list(client.chat.completions.create(**asked, stream_options={"include_usage": True}))
    assert (counted[-1].choices, counted[-1].usage.total_tokens) == ([], 18)


def test_an_output_that_is_no_text_is_streamed_as_its_json(client: openai.OpenAI) -> None:
    pieces = list(client.chat.completions.create(model="words", messages=told("one two"), stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "2"


def test_a_pipeline_of_several_outputs_answers_with_an_object(serving: Callable[..., Served]) -> None:
    served = serving({"both": dx.pipeline("both", n=dx.step(count), twice=dx.step(lambda n: n * 2))})
    status, headers, body = chat(served, "one two", model="both")
    assert status == 200
    assert json.loads(body["choices"][0]["message"]["content"]) == {"n": 2, "twice": 4}
    assert headers["x-dspex-pipeline"] == "both"
    assert headers["x-dspex-run"] == body["dspex"]["run_id"]
    assert headers["x-dspex-fallback"] == "false"
    assert float(headers["x-dspex-seconds"]) >= 0


@pytest.mark.parametrize(
    ("wrong", "kind", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"messages": []}, openai.UnprocessableEntityError, "invalid_request"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError, "invalid_messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         openai.BadRequestError, "unsupported"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "unsupported_parameter"),
        ({"logit_bias": {"1": 5}}, openai.BadRequestError, "unsupported_parameter"),
        ({"frequency_penalty": 3}, openai.UnprocessableEntityError, "invalid_request"),
        ({"temperature": 9}, openai.UnprocessableEntityError, "invalid_request"),
        ({"n": 2}, openai.UnprocessableEntityError, "invalid_request"),
        ({"extra_body": {"deadline": 0}}, openai.UnprocessableEntityError, "invalid_request"),
        ({"extra_body": {"deadline": "5"}}, openai.UnprocessableEntityError, "invalid_request"),
        ({"extra_body": {"inputs": {"qestion": "x"}}}, openai.UnprocessableEntityError, "invalid_inputs"),
    ],
)  # fmt: skip
def test_what_is_wrong_comes_as_the_clients_own_exception(
    client: openai.OpenAI, wrong: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "weather", "messages": told("x"), **wrong})
    assert caught.value.code == code
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param is not None


def test_a_wrong_key_is_the_clients_authentication_error(served: Served) -> None:
    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="x" * 40, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_what_openai_sends_that_changes_nothing_is_taken(client: openai.OpenAI) -> None:
    more: dict[str, Any] = {"response_format": {"type": "text"}, "tool_choice": "none", "n": 1, "user": "me", "stop": None}
    more |= {"logit_bias": {}, "extra_body": {"stream": None, "stream_options": None, "frequency_penalty": None}}
    found = client.chat.completions.create(model="words", messages=told("one two three"), **more)
    assert found.choices[0].message.content == "3"


def test_settings_reach_the_model_of_this_request_only(lab: dx.Lab, client: openai.OpenAI) -> None:
    engine = lab.lm.engine
    chosen = {
        "temperature": 0.25,
        "max_completion_tokens": 77,
        "top_p": 0.5,
        "seed": 5,
        "frequency_penalty": -1,
        "presence_penalty": 0.5,
    }
    for settings in (chosen, {"frequency_penalty": 0, "presence_penalty": 0}):
        client.chat.completions.create(model="weather", messages=told("Rain?"), **settings)
    first, second = (request.config for request in engine.requests)
    assert (first.temperature, first.max_tokens, first.top_p) == (0.25, 77, 0.5)
    assert (first.frequency_penalty, first.presence_penalty) == (-1, 0.5)
    assert (second.frequency_penalty, second.presence_penalty) == (None, None)
    assert second.temperature != 0.25
    assert second.max_tokens != 77


def test_fields_may_be_given_beside_the_text(client: openai.OpenAI, served: Served) -> None:
    extra = {"inputs": {"text": "one two three four"}}
    found = client.chat.completions.create(model="words", messages=told("ignored"), extra_body=extra)
    assert found.choices[0].message.content == "4"
    status, _, body = ask(served, "POST", "/v1/chat/completions", {"model": "words", "messages": [], **extra})
    assert (status, body["error"]["param"]) == (422, "messages")
    found = client.chat.completions.create(
        model="words", messages=[{"role": "system", "content": "x"}], extra_body={"inputs": {"text": "one"}}
    )
    assert found.choices[0].message.content == "1"


def test_a_conversation_reaches_a_pipeline_that_takes_one(lab: dx.Lab, serving: Callable[..., Served]) -> None:
    def step(text: str, history: list[dict[str, str]]) -> str:
        return " | ".join([*(f"{turn['role']}: {turn['content']}" for turn in history), text])

    class Talk(dspy.Signature):
        """Talk."""

        history: dspy.History = dspy.InputField()
        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    served = serving({"turns": dx.pipeline("turns", out=dx.step(step)), "talk": dx.pipeline("talk", t=dspy.Predict(Talk))})
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "Bye"},
    ]
    _, _, body = ask(served, "POST", "/v1/chat/completions", {"model": "turns", "messages": messages})
    assert body["choices"][0]["message"]["content"] == "system: Be kind. | user: Hello | assistant: Hi! | Bye"
    status, _, body = ask(served, "POST", "/v1/chat/completions", {"model": "talk", "messages": messages})
    assert (status, body["dspex"]["status"]) == (200, "complete")


def test_curl_streams_from_it(served: Served) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    body = json.dumps({"model": "weather", "messages": told("Rain?"), "stream": True})
    done = subprocess.run(
        [curl, "-sN", "--noproxy", "*", "--fail-with-body", "-H", f"Authorization: Bearer {served.token}",
         "-H", "Content-Type: application/json", "-d", body, f"{served.url}/v1/chat/completions"],
        capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [event["data"] for event in events(done.stdout)]
    assert found[-1] == "[DONE]"
    pieces = [json.loads(data) for data in found[:-1]]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == TEXT


def test_runs_are_recorded_with_the_request_they_answer(lab: dx.Lab, client: openai.OpenAI) -> None:
    ends = Ends(lab)
    found: Any = client.chat.completions.create(model="words", messages=told("a b"), extra_body={"session": "s1"})
    record = ends.next()
    assert record.run_id == found.dspex["run_id"]
    assert (record.tags, record.session) == (("web", f"request:{found.dspex['request_id']}"), "s1")


@pytest.mark.parametrize("value", [float("nan"), "half \ud800", {"a\udfff": float("inf")}, object(), b"\xff\x00", [[]] * 3])
def test_whatever_a_pipeline_gives_goes_out_as_json(serving: Callable[..., Served], value: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    served = serving(
        {
            "odd": dx.pipeline("odd", text2=dx.step(same), out=dx.step(lambda text: value)),
            "loop": dx.pipeline("loop", out=dx.step(lambda text: loop)),
        }
    )
    for model in ("odd", "loop"):
        status, _, body = chat(served, "x", model=model)
        assert status == 200
        assert isinstance(body["choices"][0]["message"]["content"], str)
        status, _, text = chat(served, "half \ud800", model=model, stream=True)
        assert status == 200
        assert [event["data"] for event in events(text)][-1] == "[DONE]"
        for event in events(text)[:-1]:
            json.loads(event["data"], parse_constant=pytest.fail)


def test_a_body_that_is_no_json_says_where(served: Served) -> None:
    said = ask(served, "POST", "/v1/chat/completions", b'{"text": oops}')[2]["error"]
    assert (said["message"], said["param"]) == ("The body is no JSON: Expecting value, at character 9.", "body")
