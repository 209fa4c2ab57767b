"""``%dspex var NAME``: look at a variable, say what it may be, set it, pin it, bring an earlier value back, drop it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError, DspexError, VariableError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines, open_space
from dspex_lab.magics._line import Line, flag_start, parse
from dspex_lab.magics._session import Inspection

#: Values of a variable's history that a cell shows with it.
_LAST = 8

#: Two numbers as Python writes them.
RANGE = re.compile(r"\s*([-+]?[\d_.]*\d[\d_]*(?:[eE][-+]?\d+)?|[-+]?\d+\.)\s*\.\.\s*([-+]?\.?\d[\d_.]*(?:[eE][-+]?\d+)?)\s*$")
_NAME = re.compile(r"\s*([^\s=]+)\s*")


@dataclass(frozen=True)
class Asked:
    """What a line asks of a variable: ``what`` is the value or the range as it is written, at the 0-based place ``at``."""

    line: Line
    name: str
    sign: str
    what: str
    at: int


def read(text: str) -> Asked:
    """Take a line apart: a name, then nothing, a range, or ``=`` and a value; then flags.

    Raises:
        ConfigurationError: there is no name, or a flag is wrong; the place is marked.
    """
    end = flag_start(text)
    try:
        # Blanks for what is no flag, so that the places of errors are those of the line.
        line = parse(" " * end + text[end:], words=0, flags=FLAGS, switches=SWITCHES)
    except ConfigurationError as error:
        raise error.at(text, 1, error.column or 1) from error.__cause__
    line.text = text
    found = _NAME.match(text[:end])
    name = found.group(1).strip("\"'") if found else ""
    if found is None or not name:
        raise ConfigurationError("%dspex var needs the name of a variable.", key="var", hint=f"Write: {USAGE}").at(text, 1, 1)
    rest = text[found.end() : end]
    sign = "=" if rest.startswith("=") else ""
    at = found.end() + len(sign)
    what = text[at:end]
    return Asked(line, name, sign, what.strip(), at + len(what) - len(what.lstrip()))


def run(call: Call) -> Any:
    """Show a variable: its value, what it may be, its version and its last values. With a range, define it.

    NAME 0.0..1.5 defines a float (0..20 an int, ["a", "b"] a choice, bool, text); --step, --log and --default say more, --note
    what it is. A variable that is there keeps its value where it still may. A name that begins with that of a pipeline, or of a
    program of the notebook, first exposes that. NAME = VALUE sets it; --why "…" and --score say why. --pin and --unpin keep
    it from being written; --rollback VERSION brings back what it was then; --history shows all its values; --drop forgets it.
    """
    asked = read(call.line)
    try:
        return _done(call, asked)
    except DspexError as error:
        if error.text is None:
            error.at(asked.line.text, 1, asked.at + 1 if asked.what else 1)
        raise error from error.__cause__


def _done(call: Call, asked: Asked) -> Any:
    space, name, flags = call.lab.variables, asked.name, asked.line.flags
    if name not in space:
        _expose(call, name)
    if asked.what and not asked.sign:
        _define(space, asked)
    elif "step" in flags or "log" in flags or "default" in flags or "note" in flags:
        raise ConfigurationError(
            "--step, --log, --default and --note go with what a variable may be.",
            key="var",
            hint=f"Write: %dspex var {name} 0.0..1.5 --step 0.1",
        )
    if name not in space and "history" not in flags:
        raise _unknown(space, name)
    if asked.sign:
        _set(call, space, asked)
    elif "why" in flags or "score" in flags:
        raise ConfigurationError("--why and --score go with a value.", key="var", hint=f"Write: %dspex var {name} = VALUE")
    if "history" in flags:
        return space.history(name)
    if "rollback" in flags:
        made = space.rollback(asked.line.flag("rollback", int), [name])
        print(f"{name} is as it was at version {flags['rollback']}; the space is at version {made.version}")
    if "drop" in flags:
        space.drop(name)
        print(f"variable {name} is dropped; its history is kept")
        return None
    for flag in ("pin", "unpin"):
        if flag in flags:
            getattr(space, flag)(name)
    return Inspection((space[name], space.history(name, _LAST)))


def _expose(call: Call, name: str) -> None:
    """Expose the pipeline or program that the name begins with, if there is one."""
    head, dot, _ = name.partition(".")
    program = call.shell.user_ns.get(head)
    if not dot:
        return
    if head in call.lab.pipelines:
        call.lab.expose(head)
    elif hasattr(program, "named_predictors"):
        call.lab.expose(program, head)


def _define(space: Any, asked: Asked) -> None:
    from dspex_lab.variables import domain_from

    line, domain = asked.line, dict[str, Any](kind=asked.what)
    found = RANGE.match(asked.what)
    more = {flag for flag in ("step", "log") if flag in line.flags}
    if found is not None:
        domain = _range(line, *found.groups())
    elif more or asked.what not in ("bool", "text"):
        domain = {"kind": "choice", "options": _options(asked)}
        if more:
            raise ConfigurationError(f"--{min(more)} goes with a range of numbers.", key=min(more))
    default: dict[str, Any] = {}
    if "default" in line.flags:
        default["default"] = line.flags["default"]
    elif asked.name in space:
        default["default"] = _kept(space[asked.name], domain_from(domain))
    if "note" in line.flags:
        default["note"] = line.flags["note"]
    space.add(asked.name, domain_from(domain), **{k: v for k, v in default.items() if v is not None or k != "default"})


def _kept(variable: Any, domain: Any) -> Any:
    """Return the default of a variable that is there, None where it may not be that any more."""
    try:
        return domain.cast(variable.default, variable.name)
    except VariableError:
        return None


def _range(line: Line, low: str, high: str) -> dict[str, Any]:
    whole = not set(".eE") & set(low + high) and "." not in line.flags.get("step", "")
    kind = int if whole else float
    made: dict[str, Any] = {"kind": kind.__name__, "low": kind(low), "high": kind(high), "log": "log" in line.flags}
    if "step" in line.flags:
        made["step"] = line.flag("step", kind)
    return made


def _options(asked: Asked) -> list[Any]:
    try:
        found = ast.literal_eval(asked.what)
    except (ValueError, SyntaxError):
        found = None
    if isinstance(found, list | tuple | set):
        return list(found)
    raise ConfigurationError(
        f"{asked.what!r} does not say what a variable may be.",
        key="var",
        actual=asked.what,
        hint='A range (0.0..1.5), a list (["a", "b"]), bool or text. To set it: %dspex var NAME = VALUE.',
    ).at(asked.line.text, 1, asked.at + 1)


def _set(call: Call, space: Any, asked: Asked) -> None:
    from dspex_lab.variables import Author

    if not asked.what:
        raise ConfigurationError(
            f"There is no value after {asked.name} =.", key="var", hint='Values are Python: 0.5, "text".'
        ).at(asked.line.text, 1, asked.at + 1)
    value = _value(call, asked, asked.what)
    author = Author("person", why=asked.line.flags.get("why"), score=asked.line.flag("score", float))
    made = space.commit({asked.name: value}, author=author)
    others = [name for name in made.changes if name != asked.name]
    also = f", and with it {', '.join(others)}" if others else ""
    print(f"{asked.name} = {value!r}{also} (version {made.version})" if made.changes else f"{asked.name} is that already")


def _value(call: Call, asked: Asked, source: str) -> Any:
    line = Line(asked.line.text, fields={asked.name: (source, asked.line.text.find(source, asked.at) + 1)})
    return line.values(call.shell.user_ns)[asked.name]


def _unknown(space: Any, name: str) -> VariableError:
    known = list(space)
    return VariableError(
        f"There is no variable {name!r}.{did_you_mean(name, known)}",
        name=name,
        hint=f"%dspex var {name} 0.0..1.0 defines one; %dspex vars lists those there are ({len(known):,}).",
    )


def _names(namespace: Mapping[str, Any]) -> list[str]:
    programs = [name for name, value in namespace.items() if hasattr(value, "named_predictors") and not name.startswith("_")]
    return [*(open_space() or ()), *(f"{name}." for name in dict.fromkeys([*known_pipelines(namespace), *programs]))]


def _more(words: list[str]) -> list[str]:
    """Return what may follow the name: ``=``, and after that the values that can be counted."""
    space = open_space()
    if space is None or words[0] not in space:
        return []
    if len(words) == 1:
        return ["="]
    every = space[words[0]].domain.every() if words[-1] == "=" and len(words) == 2 else None
    return [] if every is None else [repr(value) for value, _ in zip(every, range(50), strict=False)]


USAGE = (
    "%dspex var NAME [LOW..HIGH [--step N] [--log] [--default VALUE] [--note TEXT] | = VALUE [--why TEXT] [--score N]] "
    "[--pin | --unpin | --rollback VERSION | --history | --drop]"
)
SWITCHES = ("log", "pin", "unpin", "history", "drop")
FLAGS = ("step", "log", "default", "note", "why", "score", "pin", "unpin", "rollback", "history", "drop")

COMMAND = Command(
    "var",
    USAGE,
    "look at a variable; say what it may be, set it, pin it, roll it back, drop it",
    run,
    flags=FLAGS,
    names=_names,
    more=_more,
)
