"""What the lines that start jobs have in common: the program, the rows, the metric, and how it is carried out."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_lab.errors import ConfigurationError, DspexError, did_you_mean
from dspex_lab.magics._base import Call
from dspex_lab.magics._line import Line, parse
from dspex_lab.magics._run import resolve

#: Those that all of them have.
FLAGS = ("metric", "pool", "budget", "seed", "name", "into", "wait")
SWITCHES = ("wait",)


@dataclass(frozen=True)
class Start:
    """A line that starts a job, read."""

    call: Call
    line: Line
    target: Any

    @property
    def lab(self) -> Any:
        """The kernel's Lab."""
        return self.call.lab

    def metric(self) -> Any:
        """Return what ``--metric`` names: a function of the notebook, else a registered metric.

        Raises:
            ConfigurationError: there is no such flag, or no such metric.
        """
        word = self.line.flags.get("metric")
        if word is None:
            raise ConfigurationError(
                "By which metric are answers scored?",
                key="metric",
                hint="Give --metric NAME; %dspex score lists those there are.",
            )
        found = self.call.shell.user_ns.get(word)
        if callable(found):
            return found
        from dspex_lab.native.metrics import names

        if word not in names():
            own = [n for n, v in self.call.shell.user_ns.items() if callable(v) and not n.startswith("_")]
            raise self.at(
                f"--metric {word}",
                ConfigurationError(
                    f"There is no metric {word!r}.{did_you_mean(word, [*names(), *own])}",
                    key="metric",
                    expected=list(names()),
                    actual=word,
                ),
            )
        return word

    def rows(self, word: str | None, what: str) -> Any:
        """Return what a word names: a value of the notebook, a data set of the Lab or a part of one, or a file.

        Raises:
            ConfigurationError: it names nothing, or was left out.
        """
        if word is None:
            raise ConfigurationError(f"Which rows are the {what}?", key=what, hint=f"Give --{what} NAME.")
        space = self.call.shell.user_ns
        if word in space:
            return space[word]
        if word[0] in "\"'":
            return str(ast.literal_eval(word))
        known = data_names(self.lab)
        if word in known or word.rpartition(".")[0] in known or Path(word).exists():
            return word
        near = did_you_mean(word, [*_frames(space), *known])
        raise self.at(
            word,
            ConfigurationError(
                f"There is nothing called {word!r} that has rows.{near}",
                key=what,
                hint="Give the name of a DataFrame or list of the notebook, of a data set (lab.dataset), or a file.",
            ),
        )

    def how(self) -> dict[str, Any]:
        """Return how it is carried out, as arguments of the Lab's doors."""
        made: dict[str, Any] = {"name": self.line.flags.get("name"), "budget": self.line.flags.get("budget")}
        made["seed"] = self.line.flag("seed", int)
        if "pool" in self.line.flags:
            made["pool"] = None if self.line.flags["pool"] == "none" else self.line.flags["pool"]
        return made

    def at(self, text: str, error: DspexError) -> DspexError:
        """Return an error that points at ``text`` in the line."""
        place = self.line.text.find(text)
        return error.at(self.line.text, 1, max(place, 0) + 1)

    def started(self, job: Any) -> Any:
        """Show a job that was just started; with ``--wait`` return what came of it."""
        from dspex_lab.widgets import show_job

        if (into := self.line.flags.get("into")) is not None:
            self.call.shell.user_ns[into] = job
        show_job(self.lab, job)
        if "wait" in self.line.flags:
            return job.result()
        return None


def read(call: Call, text: str, *, usage: str, words: int, flags: tuple[str, ...], switches: tuple[str, ...] = ()) -> Start:
    """Read a line that starts a job.

    Raises:
        ConfigurationError: it names no program, or a flag is wrong; the place is marked.
    """
    line = parse(text, words=words, flags=(*flags, *FLAGS), switches=(*SWITCHES, *switches), fields=True)
    if not line.words:
        raise ConfigurationError("Of which program?", key="job", hint=f"Write: {usage}")
    into = line.flags.get("into")
    if into is not None and not into.isidentifier():
        raise ConfigurationError(f"{into!r} is no name of a variable.", key="into").at(line.text, 1, line.text.find(into) + 1)
    return Start(call, line, resolve(call, line.words[0]))


def begin(start: Start, door: Any, arguments: dict[str, Any]) -> Any:
    """Start the job and show it; an error that has no place yet points at what it names.

    Raises:
        DspexError: what the Lab refuses, with the place in the line.
    """
    try:
        job = door(start.target, **arguments)
    except DspexError as error:
        if error.text is None:
            key = str(getattr(error, "key", "") or "")
            flag = f"--{key.partition('.')[0].partition('[')[0]}"
            raise start.at(flag if flag in start.line.text else start.line.words[-1], error) from error.__cause__
        raise
    return start.started(job)


def data_names(lab: Any) -> list[str]:
    """Return the names of the data sets of a Lab."""
    return [] if lab is None or lab.closed else lab.datasets


def _frames(space: Mapping[str, Any]) -> list[str]:
    return [n for n, v in space.items() if (hasattr(v, "columns") or isinstance(v, list)) and not n.startswith("_")]


def programs(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names of pipelines and of programs of the notebook, for completion."""
    from dspex_lab.magics._lab import known_pipelines

    own = [n for n, v in namespace.items() if hasattr(v, "named_predictors") and not n.startswith("_")]
    return list(dict.fromkeys([*known_pipelines(namespace), *own]))
