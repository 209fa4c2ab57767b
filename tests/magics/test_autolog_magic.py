"""``%dspex autolog``: plain DSPy calls of a notebook in its Lab."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from magic_helpers import magic

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.magics import COMMANDS, _complete
from dspex_lab.testing import scripted_lm


def ask(question: str) -> None:
    with dspy.context(lm=scripted_lm({"answer": "yes"})):
        dspy.Predict("question -> answer")(question=question)


def recorded() -> list[str]:
    lab = dx.lab()
    lab.store.flush()
    runs = lab.sql("SELECT inputs->>'question' AS question FROM runs WHERE list_contains(tags, 'autolog') ORDER BY started")
    return list(runs["question"])


def test_plain_calls_are_recorded_while_it_is_on(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "autolog")
    assert "autolog: off" in capsys.readouterr().out
    ask("before")
    magic(shell, "autolog on")
    magic(shell, "autolog on")
    assert "autolog: on" in capsys.readouterr().out
    ask("within")
    magic(shell, "autolog off")
    assert "autolog: off" in capsys.readouterr().out
    ask("after")
    assert recorded() == ["within"]


def test_python_does_the_same_and_closing_the_lab_ends_it(shell: Any) -> None:
    before = dspy.Module.__call__
    dx.autolog()
    assert dx.lab().autologging
    dx.autolog(False)
    assert not dx.lab().autologging
    dx.autolog()
    ask("within")
    assert recorded() == ["within"]
    dx.lab().close()
    assert dspy.Module.__call__ is before
    ask("after")


def test_another_word_is_refused(shell: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'onn' is not expected.*Did you mean 'on'"):
        magic(shell, "autolog onn")


def test_its_words_are_completed(shell: Any) -> None:
    found = _complete.candidates("%dspex autolog o", COMMANDS, shell.user_ns)
    assert {"on", "off"} <= set(found[1])
