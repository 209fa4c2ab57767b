"""``%dspex stream NAME field=value …``: one run, whose words are shown as the models write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines
from dspex_lab.magics._run import FLAGS, asked

#: A model's text may hold control sequences, which would restyle or erase what a terminal shows.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST = 400


class Transcript:
    """Writes a run's events as text: a heading where another step, field or attempt speaks, then its words as they come.

    Args:
        write: takes each piece of text.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._speaker: Any = None
        self._spoke: set[tuple[str | None, str | None]] = set()
        self._told: dict[tuple[str, str | None], str] = {}
        self._calls: dict[str | None, dict[Any, int]] = {}

    def take(self, event: Any) -> None:
        """Write what one event says."""
        if event.kind == "token":
            self._token(event)
        elif event.kind == "field":
            self._field(event)
        elif event.kind == "step.stop" and event.data["status"] in ("failed", "fallback", "partial", "skipped"):
            self._head((event.step, event.data["status"]), event.step)
            self._write(event.data["status"])

    def _field(self, event: Any) -> None:
        value = event.value if isinstance(event.value, str) else repr(event.value)
        # A step that holds others gives again what the last of them gave.
        inner = f"{event.step}."
        again = any(s.startswith(inner) and f == event.field and v == value for (s, f), v in self._told.items())
        self._told[event.step, event.field] = value
        if again or (event.step, event.field) in self._spoke:
            return
        self._head((event.step, event.field), f"{event.step}.{event.field}")
        self._write(_clean(value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"))

    def _token(self, event: Any) -> None:
        about = event.data
        field, part, attempt = event.field, about["part"], about["attempt"]
        heading = event.step if field is None else f"{event.step}.{field}"
        notes = [part.replace("_", " ")] if part != "text" else []
        # The items of an ``each`` speak at once, each in a call of its own.
        calls = self._calls.setdefault(event.step, {})
        call = calls.setdefault(about["call_id"], len(calls) + 1)
        notes += [f"call {call}"] if call > 1 else []
        notes += [f"attempt {attempt}"] if attempt > 1 else []
        notes += ["from the cache"] if about["cached"] else []
        self._head((about["call_id"], field, part, attempt), heading + (f" ({', '.join(notes)})" if notes else ""))
        self._spoke.add((event.step, field))
        self._write(_clean(event.value))

    def _head(self, speaker: Any, heading: str) -> None:
        if speaker != self._speaker:
            self._write(f"{'' if self._speaker is None else chr(10)}{heading}: ")
            self._speaker = speaker

    def end(self) -> None:
        """End the last line."""
        if self._speaker is not None:
            self._write("\n")


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)


def run(call: Call) -> Any:
    """Run it once and return its Result; where nothing came of it the cell fails, and the result is ``lab.last_result``."""
    target, values, how = asked(call, COMMAND)
    shown = Transcript(lambda text: print(text, end="", flush=True))
    with call.lab.stream(target, values, options=how) as events:
        try:
            for event in events:
                shown.take(event)
        finally:
            shown.end()
    if events.result.status == "failed":
        events.result.raise_for_status()
    return events.result


COMMAND = Command(
    "stream",
    "%dspex stream NAME field=value … [--deadline S] [--seed N] [--budget '$2, 50k tokens'] [--pin OPERATION=IMPLEMENTATION] "
    "[--tags a,b] [--fresh]",
    "run a pipeline once and show what models write while they write it",
    run,
    flags=FLAGS,
    names=known_pipelines,
)
