"""``%dspex tape``: what is recorded or replayed, and its end; ``%dspex record`` and ``%dspex replay`` begin it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_lab.errors import ConfigurationError, DspexError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import Line


def run(call: Call) -> None:
    """Say whether a tape records or answers, and how many calls did; stop ends it."""
    word, tape = call.line.strip(), call.lab.gateway.tape
    if word not in ("", "stop"):
        raise ConfigurationError(
            f"{word!r} is not expected here.{did_you_mean(word, ('stop',))}", key="tape", hint=f"Write: {COMMAND.usage}"
        ).at(call.line, 1, 1)
    if tape is None:
        print("tape: none — models are asked, and nothing is recorded")
    elif word == "stop":
        tape.close()
        print(f"tape: ended — {told(tape)}")
    else:
        print(f"tape: {told(tape)}")


def told(tape: Any) -> str:
    """Return in a line what a tape does and has done."""
    does = {"record": "records on", "replay": "answers from", "fill": "answers from, and records what is missing on,"}
    parts = [f"{does[tape.mode]} {tape.path}", f"{tape.recorded:,} recorded", f"{tape.replayed:,} replayed"]
    if tape.mode != "record":
        parts.insert(1, f"{len(tape):,} call{'' if len(tape) == 1 else 's'} on it{', each given once' if tape.exact else ''}")
    parts += [
        f"{number:,} {what}" for number, what in ((tape.missed, "not found"), (tape.lost, "could not be written")) if number
    ]
    if tape.cut:
        parts.append(f"its last line was cut off ({tape.cut:,} bytes) and is left out")
    return ", ".join(parts)


def insert(call: Call, line: Line, start: Callable[[Any, str], Any]) -> None:
    """Begin another tape in the place of the present one, and say what it does.

    Args:
        start: ``start(lab, path)`` returns the tape.

    Raises:
        ConfigurationError: no file is named.
        DspexError: the file is not there, is no tape, or cannot be written; the present tape goes on.
    """
    if not line.words:
        raise ConfigurationError("Which file?", key="tape", hint="Such as: %dspex record calls.jsonl")
    path = line.words[0].strip("\"'")
    lab = call.lab
    before = lab.gateway.tape
    if before is not None and before.path is not None and Path(before.path).resolve() == Path(path).resolve():
        before.close()  # two tapes cannot write on one file
    try:
        tape = start(lab, path)
    except DspexError as error:
        raise error.at(line.text, 1, line.text.find(path) + 1) from error.__cause__
    if before is not None:
        if not before.closed:
            before.close()
        print(f"tape: ended — {told(before)}")
    print(f"tape: {told(tape)}; %dspex tape stop ends it")


COMMAND = Command(
    "tape",
    "%dspex tape [stop]",
    "say what is recorded or replayed, or end it",
    run,
    names=lambda namespace: ["stop"],
)
