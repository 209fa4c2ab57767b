"""What crosses between the two ends of a space, as JSON: commits, errors, and the checks of what came in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_args

from dspex_lab.errors import ConstraintError, DspexError, LeaseError, VariableError, VersionConflict
from dspex_lab.events import VariableRecord
from dspex_lab.variables._protocols import Author, Change, Commit, Who

T = TypeVar("T")

#: Letters of a text that says who, why or what; of an error's message.
_LONGEST = 2000

#: Turns the value of a variable to JSON, or back: by the variable's domain, which it finds by the name.
Turn = Callable[[str, Any], Any]

_WHO = frozenset(get_args(Who))
_ERRORS: dict[str, tuple[type[VariableError], tuple[str, ...]]] = {
    "VersionConflict": (VersionConflict, ("expected", "actual")),
    "ConstraintError": (ConstraintError, ("constraint",)),
    "LeaseError": (LeaseError, ("holder",)),
    "VariableError": (VariableError, ()),
}


class Malformed(VariableError):
    """A message that is not one; never leaves this room but as its text."""


def field(message: Mapping[str, Any], key: str, kind: type[T] | tuple[type[T], ...], *, optional: bool = False) -> T:
    """Return what a message has under ``key``.

    Raises:
        Malformed: it has nothing there, or something of another type.
    """
    value = message.get(key)
    if value is None and optional:
        return value  # type: ignore[return-value]
    wanted = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        names = " or ".join(each.__name__ for each in wanted)
        raise Malformed(f"{key!r} is {type(value).__name__}, not {names}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise Malformed(f"{key!r} is {value!r}.")
    if isinstance(value, str) and len(value) > _LONGEST:
        raise Malformed(f"{key!r} has {len(value)} letters, more than {_LONGEST}.")
    return value


def names_of(message: Mapping[str, Any], key: str, *, optional: bool = False) -> list[str] | None:
    """Return a list of texts.

    Raises:
        Malformed: it is none.
    """
    found: list[Any] = field(message, key, list, optional=optional)
    if found is not None and not all(isinstance(each, str) for each in found):
        raise Malformed(f"{key!r} is not a list of names.")
    return found


# ---- authors -------------------------------------------------------------------------------------------------------


def author_to_json(author: Author) -> dict[str, Any]:
    """Return an author as JSON."""
    return {"who": author.who, "name": author.name, "why": author.why, "score": _number(author.score)}


def author_from_json(message: Mapping[str, Any]) -> Author:
    """Return an author.

    Raises:
        Malformed: it is none.
    """
    who = field(message, "who", str)
    if who not in _WHO:
        raise Malformed(f"nobody is {who!r}: an author is one of {', '.join(sorted(_WHO))}.")
    score = field(message, "score", (int, float), optional=True)
    return Author(
        who,  # type: ignore[arg-type]
        field(message, "name", str, optional=True),
        field(message, "why", str, optional=True),
        None if score is None else float(score),
    )


# ---- commits -------------------------------------------------------------------------------------------------------


def commit_to_json(commit: Commit, turn: Turn) -> dict[str, Any]:
    """Return a commit as JSON."""
    return {
        "version": commit.version,
        "time": commit.time,
        "changes": [
            {
                "name": change.name,
                "before": None if change.before is None else turn(change.name, change.before),
                "value": None if change.value is None else turn(change.name, change.value),
                "parent": change.parent,
                "who": change.who,
            }
            for change in commit.changes.values()
        ],
        "author": author_to_json(commit.author),
        "fence": commit.fence,
        "undone": commit.undone,
    }


def commit_from_json(message: Mapping[str, Any], turn: Turn) -> Commit:
    """Return a commit.

    Raises:
        Malformed: it is none.
    """
    changes = {}
    for found in field(message, "changes", list):
        if not isinstance(found, Mapping):
            raise Malformed("a change is not one.")
        name, parent = field(found, "name", str), field(found, "parent", int)
        who = field(found, "who", str)
        before, value = (None if found.get(key) is None else turn(name, found[key]) for key in ("before", "value"))
        changes[name] = Change(name, before, value, parent, who)  # type: ignore[arg-type]
    return Commit(
        field(message, "version", int),
        float(field(message, "time", (int, float))),
        changes,
        author_from_json(field(message, "author", dict)),
        field(message, "fence", int, optional=True),
        field(message, "undone", int, optional=True),
    )


def commits_from_records(records: Iterable[VariableRecord]) -> list[dict[str, Any]]:
    """Return what a journal has of commits as :func:`commit_to_json` does, the oldest first; ``undone`` is not in a journal."""
    kept = sorted(records, key=lambda record: record.version)
    values = {(record.name, record.version): record.value for record in kept}
    commits: dict[int, dict[str, Any]] = {}
    for record in kept:
        who = "person" if record.who == "derived" else record.who
        author = {"who": who, "name": record.author, "why": record.why, "score": _number(record.score)}
        commit = commits.setdefault(
            record.version,
            {
                "version": record.version,
                "time": record.time,
                "changes": [],
                "author": author,
                "fence": record.fence,
                "undone": None,
            },
        )
        if record.who != "derived":
            commit["author"] = author
        before = values.get((record.name, record.parent))
        commit["changes"].append(
            {"name": record.name, "before": before, "value": record.value, "parent": record.parent, "who": record.who}
        )
    return list(commits.values())


def record_to_json(record: VariableRecord) -> list[Any]:
    """Return a record as JSON; its value is JSON already."""
    return list(record._replace(score=_number(record.score)))


def record_from_json(found: Any) -> VariableRecord:
    """Return a record.

    Raises:
        Malformed: it is none.
    """
    if not isinstance(found, list) or len(found) != len(VariableRecord._fields):
        raise Malformed("a record is not one.")
    return VariableRecord(*found)


# ---- errors --------------------------------------------------------------------------------------------------------


def error_to_json(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON: one of the variables' own as it is, another one as a VariableError that says what it was."""
    kind = next((base.__name__ for base in type(error).__mro__ if base.__name__ in _ERRORS), None)
    message = error.message if kind and isinstance(error, DspexError) else f"{type(error).__name__}: {error}"
    kind = kind or "VariableError"
    hint = error.hint if isinstance(error, DspexError) else None
    rest = {key: getattr(error, key) for key in _ERRORS[kind][1]}
    name = error.name if isinstance(error, VariableError) else None
    return {"kind": kind, "message": message[:_LONGEST], "hint": hint and hint[:_LONGEST], "name": name, **rest}


def error_from_json(found: Any) -> VariableError:
    """Return an error as it was at the owner; one that cannot be read is a VariableError that says so."""
    try:
        if not isinstance(found, Mapping):
            raise Malformed("it is no error.")
        kind, keys = _ERRORS.get(field(found, "kind", str), _ERRORS["VariableError"])
        rest = {key: field(found, key, (str, int), optional=True) for key in keys}
        hint, name = field(found, "hint", str, optional=True), field(found, "name", str, optional=True)
        return kind(field(found, "message", str), name=name, hint=hint, **rest)
    except Malformed as error:
        return VariableError(f"The owner of the space refused, and its reason cannot be read: {error}")


def _number(value: float | None) -> float | None:
    """Return a number that JSON has; a NaN is none."""
    return value if value is None or math.isfinite(value) else None
