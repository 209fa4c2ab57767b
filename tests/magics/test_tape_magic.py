"""``%dspex record``, ``replay`` and ``tape``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from magic_helpers import magic

import dspex_lab as dx
from dspex_lab.errors import ConfigurationError
from dspex_lab.lms import TapeError
from dspex_lab.magics import COMMANDS, _complete
from dspex_lab.testing import scripted_lm


def ask(question: str = "What?") -> Any:
    return dx.lab().predict("question -> answer", question=question)


@pytest.fixture
def answers(shell: Any) -> list[str]:
    """What the model was asked so far; it answers with how often that was."""
    asked: list[str] = []

    def answer(prompt: Any) -> dict[str, str]:
        asked.append(str(prompt))
        return {"answer": str(len(asked))}

    dx.lab().use(scripted_lm(answer, model="acme/one"))
    return asked


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_what_is_recorded_is_replayed_without_the_model(
    shell: Any, answers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    magic(shell, "tape")
    assert "tape: none" in said(capsys)
    magic(shell, "record calls.jsonl")
    assert "records on" in said(capsys)
    assert ask()["answer"] == "1"
    magic(shell, "tape")
    assert "1 recorded" in said(capsys)
    magic(shell, "tape stop")
    assert "ended" in said(capsys)
    assert (tmp_path / "calls.jsonl").exists()
    magic(shell, "replay 'calls.jsonl'")
    assert "1 call on it" in said(capsys)
    assert ask()["answer"] == "1"
    missing = ask("Never asked")
    assert missing.status == "failed"
    assert "is not on calls.jsonl" in str(missing.error)
    magic(shell, "tape")
    assert "1 replayed, 1 not found" in said(capsys)
    assert len(answers) == 1
    magic(shell, "tape stop")
    assert ask()["answer"] == "2"


def test_fill_asks_for_what_is_missing_and_exact_gives_each_once(
    shell: Any, answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    magic(shell, "record calls.jsonl")
    ask()
    magic(shell, "replay calls.jsonl --fill")
    out = said(capsys)
    assert "tape: ended — records on" in out, "one tape follows the other"
    assert ask("Another?")["answer"] == "2"
    magic(shell, "replay calls.jsonl --exact")
    assert "2 calls on it, each given once" in said(capsys)
    assert ask("Another?")["answer"] == "2"
    assert ask("Another?").status == "failed"


def test_a_tape_that_cannot_be_opened_leaves_the_present_one(shell: Any, answers: list[str]) -> None:
    magic(shell, "record calls.jsonl")
    with pytest.raises(TapeError, match="no tape") as found:
        magic(shell, "replay gone.jsonl")
    assert found.value.line == 1
    tape = dx.lab().gateway.tape
    assert tape is not None
    assert tape.mode == "record"


def test_recording_goes_on_on_the_same_file(shell: Any, answers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    magic(shell, "record calls.jsonl")
    ask()
    magic(shell, "record calls.jsonl")
    assert "1 recorded" in said(capsys)
    assert dx.lab().gateway.tape is not None


def test_a_torn_tape_and_answers_that_were_lost_are_said(
    shell: Any, answers: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    magic(shell, "record calls.jsonl")
    ask()
    magic(shell, "tape stop")
    with (tmp_path / "calls.jsonl").open("ab") as file:
        file.write(b'{"torn')
    magic(shell, "replay calls.jsonl")
    assert "its last line was cut off (6 bytes)" in said(capsys)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("record", "Which file"),
        ("replay --fill", "Which file"),
        ("tape stpo", "Did you mean 'stop'"),
        ("replay calls.jsonl --fil", "Did you mean '--fill'"),
        ("record calls.jsonl more", "not expected"),
    ],
)
def test_what_is_mistyped_is_refused(shell: Any, line: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        magic(shell, line)


def test_words_are_completed(shell: Any) -> None:
    found = _complete.candidates("%dspex tape s", COMMANDS, shell.user_ns)
    assert found is not None
    assert found[1] == ["stop"]
    found = _complete.candidates("%dspex replay x --", COMMANDS, shell.user_ns)
    assert found is not None
    assert found[1] == ["--fill", "--exact"]
