"""``%dspex run NAME field=value …``: one run, with its widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_lab._options import RunOptions
from dspex_lab.errors import ConfigurationError, PipelineError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines
from dspex_lab.magics._line import parse
from dspex_lab.magics._show import watched

FLAGS = ("deadline", "seed", "budget", "pin", "tags", "checkpoint", "fresh")

#: Those without a value.
SWITCHES = ("fresh",)


def resolve(call: Call, word: str) -> Any:
    """Return what ``word`` names: a pipeline of the Lab, else a value of the notebook."""
    lab = call.lab
    if word in lab.pipelines:
        return lab.pipelines[word]
    return call.shell.user_ns.get(word, word)


def options(line: Any) -> RunOptions:
    """Return the flags of a line as options of a run."""
    pin = dict(p.partition("=")[::2] for p in line.flags.get("pin", "").split(",") if p)
    return RunOptions(
        deadline=line.flag("deadline", float),
        seed=line.flag("seed", int),
        budget=line.flag("budget", str),
        pin=pin,
        tags=tuple(t for t in line.flags.get("tags", "").split(",") if t),
        checkpoint=line.flags.get("checkpoint"),
        fresh="fresh" in line.flags,
    )


def pointed(line: Any, check: Callable[[], Any]) -> None:
    """Call ``check``; where it refuses, point at the field it names, else at what is to be run."""
    try:
        check()
    except (PipelineError, ConfigurationError) as error:
        named = next((column - len(n) - 1 for n, (_, column) in line.fields.items() if f"{n!r} " in error.message), None)
        raise error.at(line.text, 1, named or line.text.find(line.words[0]) + 1) from error.__cause__


def asked(call: Call, command: Command) -> tuple[Any, dict[str, Any], RunOptions]:
    """Return what is to be run, with which fields and how; it is checked, and nothing has run yet."""
    line = parse(call.line, words=1, flags=FLAGS, switches=SWITCHES, fields=True)
    if not line.words:
        raise ConfigurationError("What is to be run?", key=command.name, hint=f"Write: {command.usage}")
    target = resolve(call, line.words[0])
    values = line.values(call.shell.user_ns)
    how = options(line)
    pointed(line, lambda: call.lab.accept(target, values))
    return target, values, how


def run(call: Call) -> Any:
    """Run it once and return its Result; where nothing came of it the cell fails, and the result is ``lab.last_result``."""
    target, values, how = asked(call, COMMAND)
    lab = call.lab
    with watched(lab, target, budget=how.budget):
        try:
            result = lab.run(target, values, options=how)
        except KeyboardInterrupt:
            raise _stopped(lab.last_result) from None
    if result.status == "failed":
        result.raise_for_status()
    return result


def _stopped(result: Any) -> PipelineError:
    mine = result is not None and result.cancelled
    done = [name for name, outcome in result.steps.items() if outcome.status != "cancelled"] if mine else []
    kept = f"what {', '.join(map(repr, done))} gave is in lab.last_result" if done else "no step had ended"
    return PipelineError(
        f"The run was stopped by you; {kept}.",
        outcomes=result.steps if mine else None,
        hint="With --checkpoint NAME the next run goes on from there.",
    )


COMMAND = Command(
    "run",
    "%dspex run NAME field=value … [--deadline S] [--seed N] [--budget '$2, 50k tokens'] [--pin OPERATION=IMPLEMENTATION] "
    "[--tags a,b] [--checkpoint NAME] [--fresh]",
    "run a pipeline once; values are Python",
    run,
    flags=FLAGS,
    names=known_pipelines,
)
