"""``%dspex session NAME``: what a session holds and what its runs taught; rename it, close it, let runs belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError, SessionError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import open_lab
from dspex_lab.magics._line import Line, parse

_NONE = "none"


@dataclass(frozen=True)
class Inspection:
    """A session with its metrics and insights, as a cell shows it."""

    parts: tuple[Any, ...]

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self.parts)

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.parts))


def run(call: Call) -> Any:
    """Show a session: its state, the figures of its runs, and what they taught. Without a name, the one in use.

    --use lets following runs of this kernel that name no session belong to it, and opens it where it is not; %dspex session
    --use none lets them belong to none. --ttl SECONDS, --pool NAME and --affinity hint | strict-queue | strict-fail change it.
    --rename NAME gives it another name, its history stays its own; --close ends it: its state is forgotten, its runs stay.
    """
    line = parse(call.line, words=1, flags=FLAGS, switches=("close",), optional=("use",))
    try:
        return _done(call, line)
    except (SessionError, ConfigurationError) as error:
        if error.text is None:
            error.at(line.text, 1, 1)
        raise error from error.__cause__


def _done(call: Call, line: Line) -> Any:
    sessions = call.lab.sessions
    given = line.words[0].strip("\"'") if line.words else line.flags.get("use") or sessions.default
    if line.flags.get("use") == _NONE:
        sessions.use(None)
        print("session: runs belong to none")
        return None
    if given is None:
        print("session: runs belong to none; %dspex session NAME --use opens one for them, %dspex sessions lists them")
        return None
    session = sessions.open(given) if "use" in line.flags else sessions.get(given)
    settings: dict[str, Any] = {key: line.flags[key] for key in ("pool", "affinity") if key in line.flags}
    if "ttl" in line.flags:
        settings["ttl"] = None if line.flags["ttl"] == _NONE else line.flag("ttl", float)
    if settings:
        session.configure(**settings)
    if "rename" in line.flags:
        session.rename(line.flags["rename"])
        print(f"session {given} is now {session.name}")
    if "use" in line.flags:
        sessions.use(session.name)
        print(f"session: following runs belong to {session.name}; %dspex session --use none ends that")
        return None
    if "close" in line.flags:
        session.close()
        print(f"session {session.name} is closed: its state is forgotten, its runs are kept")
        return None
    return None if "rename" in line.flags else Inspection((session.sheet(), session.metrics().sheet(), session.insights()))


def _names(namespace: Mapping[str, Any]) -> list[str]:
    lab = open_lab()
    return [] if lab is None else [name if " " not in name else repr(name) for name in lab.sessions.names]


FLAGS = ("use", "rename", "close", "ttl", "pool", "affinity")

COMMAND = Command(
    "session",
    "%dspex session [NAME] [--use | --rename NAME | --close] [--ttl SECONDS] [--pool NAME] [--affinity HOW] | --use none",
    "inspect a session; let runs belong to it, rename it, close it",
    run,
    flags=FLAGS,
    names=_names,
    more=lambda words: ["none"] if words and words[-1] == "--use" else [],
)
