"""``%dspex feedback up``: what a person says of a run: a thumb, the right answer, or both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import ConfigurationError, DspexError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse
from dspex_lab.security import one_line

if TYPE_CHECKING:
    from dspex_lab.jobs import Sheet

FLAGS = ("run", "note", "step", "who", "list", "on", "off")
SWITCHES = ("list", "on", "off")
_COLUMNS = ("time", "pipeline", "asked", "answered", "verdict", "should have been", "note", "who")
_LAST = 20
_VERDICTS = ("up", "down")


def run(call: Call) -> Any:
    """Say of the last run (--run ID: of another) that it was good or bad: up or down, field=value for what it should have been.

    Without either, thumbs and fields to correct are shown in the cell; --on shows them under each result from then on, --off
    ends that. --list shows what was said last, here and over the web (--list NAME: of one pipeline). --note "…" says why,
    --step NAME of which step. %dspex evaluate and optimize learn from it by lab.examples.
    """
    line = parse(call.line, words=1, flags=FLAGS, switches=SWITCHES, fields=True)
    if "list" in line.flags:
        return _listed(call, line.words[0].strip("\"'") if line.words else None)
    for switch in ("on", "off"):
        if switch in line.flags:
            return _switch(call, switch == "on")
    lab, words = call.lab, line.words
    about: Any = line.flags.get("run")
    if words and words[0].strip("\"'") not in _VERDICTS:
        raise ConfigurationError(
            f"{words[0]!r} is no verdict.", key="verdict", expected=_VERDICTS, hint=f"Write: {COMMAND.usage}"
        ).at(line.text, 1, line.text.find(words[0]) + 1)
    correction = line.values(call.shell.user_ns)
    try:
        if not words and not correction and "note" not in line.flags:
            from dspex_lab.widgets import show_thumbs

            show_thumbs(lab, about)
            return None
        verdict = words[0].strip("\"'") if words else None
        said = {key: line.flags[key] for key in ("note", "step", "who") if key in line.flags}
        row = lab.feedback(about, verdict, correction or None, **said)
    except DspexError as error:
        if error.text is None:
            named = next((c - len(n) - 1 for n, (_, c) in line.fields.items() if f"{n!r}" in error.message), 1)
            error.at(line.text, 1, named)
        raise error from error.__cause__
    corrected = f", corrected: {', '.join(correction)}" if correction else ""
    print(f"run {row.run_id[:12]}: {row.verdict or 'noted'}{corrected}")
    return None


def _listed(call: Call, name: str | None) -> Sheet:
    from dspex_lab.jobs import Sheet
    from dspex_lab.store import feedback_overview

    found = feedback_overview(call.lab.store, name=name, limit=_LAST)
    found = found.astype(object).where(found.notna(), None)
    told: list[Any] = list(found.itertuples(index=False))
    rows = [
        (
            f"{row.time:%Y-%m-%d %H:%M}",
            one_line(row.name if row.step is None else f"{row.name}.{row.step}", 60),
            *(_values(text) for text in (row.inputs, row.outputs)),
            row.verdict or "",
            _values(row.correction),
            one_line(row.note or ""),
            one_line(row.who or "", 40),
        )
        for row in told
    ]
    of = "" if name is None else f" of {one_line(name, 60)}"
    return Sheet(f"What was said{of}, the newest first (UTC)", _COLUMNS, rows, f"Nothing was said{of} yet.")


def _values(text: str | None) -> str:
    """Return fields as a line: of one its value alone."""
    fields = json.loads(text or "{}")
    values = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in fields.values()]
    return one_line(values[0] if len(values) == 1 else ", ".join(f"{n}: {v}" for n, v in zip(fields, values, strict=True)))


def _switch(call: Call, on: bool) -> None:
    from dspex_lab.widgets import thumbs_under_results

    thumbs_under_results(call.shell, lambda: call.lab if on else None)
    print(f"thumbs under results: {'on' if on else 'off'}")


COMMAND = Command(
    "feedback",
    "%dspex feedback [up | down] [field=value …] [--run ID] [--note '…'] [--step NAME] [--who NAME] | --list | --on | --off",
    "say whether a run was good, and what it should have been",
    run,
    flags=FLAGS,
    names=lambda namespace: list(_VERDICTS),
)
