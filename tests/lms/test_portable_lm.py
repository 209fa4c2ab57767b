"""A model travels as plain data, and its secret does not travel at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import dspy
import pytest

from dspex_lab.errors import LMError
from dspex_lab.lms import ExemplarEngine, from_portable, make_lm, portable, register_engine
from dspex_lab.lms import _portable as room
from dspex_lab.testing import scripted_lm

SECRET = "-".join(["sk", "very", "hidden", "0123"])


class OwnEngine(ExemplarEngine):
    """An engine that a user wrote."""


def test_the_offline_engine_travels() -> None:
    state = portable(make_lm("offline", latency=0.01, temperature=0.5, cache=False))
    assert json.loads(json.dumps(state)) == state
    again = from_portable(state)
    assert isinstance(again.engine, ExemplarEngine)
    assert (again.engine.latency, again.kwargs["temperature"], again.cache) == (0.01, 0.5, False)
    assert portable(again) == state


def test_it_answers_the_same_in_another_process() -> None:
    lm = make_lm("offline", cache=False)
    code = (
        "import json, sys; from dspex_lab.lms import from_portable\n"
        "print(from_portable(json.load(sys.stdin))('Where is the train to Bergen?')[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(portable(lm)), capture_output=True, text=True, check=True
    )
    assert [done.stdout.strip()] == lm("Where is the train to Bergen?")


def test_a_key_in_the_environment_is_found_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    state = portable(dspy.LM("openai/gpt-4o-mini", api_key=SECRET))
    assert SECRET not in json.dumps(state)
    assert state["secrets"] == {"api_key": "OPENAI_API_KEY"}
    assert from_portable(state).kwargs["api_key"] == SECRET
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(LMError, match="OPENAI_API_KEY"):
        from_portable(state)


def test_any_variable_that_holds_the_secret_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_SECRET", SECRET)
    state = portable(dspy.LM("bedrock/some.model", aws_secret_access_key=SECRET))
    assert SECRET not in json.dumps(state)
    assert state["secrets"] == {"aws_secret_access_key": "TEAM_SECRET"}


def test_a_model_without_an_explicit_key_leaves_it_to_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    state = portable(make_lm("openai/gpt-4o-mini", max_tokens=100))
    assert SECRET not in json.dumps(state)
    assert state["secrets"] == {}
    assert from_portable(state).kwargs["max_tokens"] == 100


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api_key": SECRET}, "OPENAI_API_KEY"),
        ({"headers": {"Authorization": f"Bearer {SECRET}"}}, "Leave headers out"),
        ({"api_base": f"https://me:{SECRET}@gateway.example/v1"}, "OPENAI_API_BASE"),
        ({"azure_ad_token": SECRET}, "OPENAI_AZURE_AD_TOKEN"),
        ({"train_kwargs": {"password": SECRET}}, "train_kwargs"),
    ],
)
def test_a_secret_given_as_an_argument_stays_here(options: dict[str, Any], says: str) -> None:
    assert SECRET not in os.environ.values()
    with pytest.raises(LMError) as caught:
        portable(dspy.LM("openai/gpt-4o-mini", **options))
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_placeholder_for_a_key_is_no_secret() -> None:
    state = portable(make_lm("openai/mine", api_base="http://localhost:8000/v1"))
    assert state["secrets"] == {}
    assert from_portable(state).kwargs["api_key"] == "local"


def test_options_that_are_no_plain_data_are_named() -> None:
    with pytest.raises(LMError, match="'response_format'"):
        portable(dspy.LM("openai/gpt-4o-mini", response_format=OwnEngine))


def test_an_engine_of_ones_own_travels_once_registered() -> None:
    lm = dspy.LM("mine/model", engine=OwnEngine())
    with pytest.raises(LMError, match="not registered"):
        portable(lm)
    assert register_engine(OwnEngine) is OwnEngine
    try:
        assert isinstance(from_portable(portable(lm)).engine, OwnEngine)
    finally:
        room._registered.clear()


def test_a_state_may_not_name_any_class() -> None:
    state = portable(make_lm("offline"))
    for path in ("subprocess:Popen", "os:system"):
        with pytest.raises(LMError, match="not registered"):
            from_portable({**state, "state": {**state["state"], "engine": {"class": path, "state": {}}}})
    with pytest.raises(LMError, match="not registered"):
        from_portable({**state, "state": {**state["state"], "_dspy_lm_class": "os.system"}})


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(LMError, match="version"):
        from_portable({"version": 99})


def test_an_engine_that_cannot_be_saved_is_named() -> None:
    with pytest.raises(LMError, match="cannot be sent to a worker"):
        portable(scripted_lm(lambda prompt: "x"))
    with pytest.raises(LMError, match="cannot be sent to a worker"):
        portable(object())
    assert portable(scripted_lm(["x"]))["state"]["engine"]["state"]["script"] == ["x"]


def test_no_secret_in_repr() -> None:
    lm = make_lm("openai/gpt-4o-mini", api_key=SECRET)
    assert SECRET not in repr(lm)
