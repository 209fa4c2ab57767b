"""Settings of a Lab: code goes before the environment, that before the file, that before the default."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from dspex_lab.config import Config
from dspex_lab.errors import ConfigurationError


def write(text: str) -> None:
    Path("dspex.toml").write_text(text)


def test_the_file_says_what_nobody_else_says(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        'lm = "offline"\nconcurrency = 3\nrecord_messages = false\nstore_memory = 100\nbudget = "$2"\n'
        "[pools.general]\nworkers = 2\n"
    )
    assert Config().filled() == Config("offline", 3, False, 100, "$2")
    monkeypatch.setenv("DSPEX_LM", "openai/other")
    monkeypatch.setenv("DSPEX_RECORD_MESSAGES", "yes")
    monkeypatch.setenv("DSPEX_STORE_MEMORY", "200")
    monkeypatch.setenv("DSPEX_BUDGET", "$3")
    assert Config.from_environment() == Config("openai/other", 3, True, 200, "$3")
    assert Config(lm="x", budget=1.5).filled() == Config("x", 3, True, 200, 1.5)


def test_a_default_that_code_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    write("concurrency = 3")
    monkeypatch.setenv("DSPEX_LM", "offline")
    assert Config(concurrency=16, lm=None).filled() == Config()
    assert Config(None, 16).filled() == Config()


def test_filling_twice_changes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    write("concurrency = 3")
    once = Config(policy="p", pools={"general": {"workers": 1}}).filled()
    assert (once.concurrency, once.policy, once.pools) == (3, "p", {"general": {"workers": 1}})
    write("concurrency = 4")
    assert once.filled().concurrency == 3


def test_it_can_be_copied_and_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    write("concurrency = 3")
    config = Config(concurrency=16)
    for made in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):  # noqa: S301 - our own
        assert made == config
        assert made.filled().concurrency == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("concurrency", True),
        ("concurrency", 1.5),
        ("concurrency", None),
        ("record_messages", 3),
        ("record_messages", None),
        ("store_memory", -1),
        ("store_memory", "x" * 500),
        ("budget", []),
    ],
)
def test_each_bad_value_of_code_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Config\({name}=\) is") as caught:
        Config(**{name: value}).filled()
    assert caught.value.key == name
    assert caught.value.expected
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DSPEX_CONCURRENCY", "many"),
        ("DSPEX_CONCURRENCY", "0"),
        ("DSPEX_CONCURRENCY", "٣"),
        ("DSPEX_RECORD_MESSAGES", "perhaps"),
        ("DSPEX_STORE_MEMORY", "1.5"),
        ("DSPEX_LM", "  "),
    ],
)
def test_each_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError, match=f"{variable} is '{text}'") as caught:
        Config.from_environment()
    assert caught.value.key == variable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("concurency = 3", r"line 1: 'concurency' is no setting. Did you mean 'concurrency'\?"),
        ("\n\nconcurrency = 'x'", r"dspex.toml, line 3: concurrency is 'x'"),
        ("lm = 3", "line 1: lm is 3"),
        ("record_messages = 'perhaps'", "record_messages is 'perhaps'"),
        ("budget = [1]", r"budget is \[1\]"),
        ("store_memory = 0", "store_memory is 0"),
        ("[policy]", "policy is set in code only"),
    ],
)
def test_each_bad_setting_of_the_file_is_named_with_its_line(text: str, said: str) -> None:
    write(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        Config().filled()
    assert caught.value.hint
    assert caught.value.line
