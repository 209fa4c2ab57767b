"""Structures: equal as a whole, or field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics._base import Metric, Outcome, bad_option, check_choice
from dspex_lab.native.metrics._fields import record_of, wanted
from dspex_lab.native.metrics._lookup import metric
from dspex_lab.native.metrics._values import as_record, plain, same, short

Path: TypeAlias = tuple[str | int, ...]

_FENCE = re.compile(r"\A\s*```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_PART = re.compile(r"(?:\.|\A)([^.\[\]]+)|\[(\d+)\]")
_NOTHING: Any = object()
#: Differences that a feedback names.
_MOST_TOLD = 8


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class JsonMatch(Metric):
    """1 where two structures are equal as JSON, else 0.

    Equal as RFC 8259 has it: the order of keys does not count, that of lists does; 1 is 1.0 and true is not 1. A text is
    read as JSON (RFC 8259 strictly: no NaN, no comments; a Markdown fence around it is taken off) and is itself where it is
    none. Pydantic models, dataclasses, enums and dicts are what they are written as. Without ``field`` all output fields of
    the example are compared with the prediction's. Symmetric.

    Args:
        ordered: whether the order of lists counts.
    """

    name: ClassVar[str] = "json_match"
    usual_threshold: ClassVar[float] = 1.0
    structured: ClassVar[bool] = True

    ordered: bool = True

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        made, hoped = read_json(prediction), read_json(reference)
        equal = same(made, hoped, ordered=self.ordered)
        return Outcome(float(equal), lambda: "equal." if equal else _differences(made, hoped))

    def assess(self, example: Any, prediction: Any) -> Outcome:
        """Compare a prediction with an example, whole where no field is named."""
        whole = _whole(self, example, prediction)
        return self.compare(*whole) if whole else super().assess(example, prediction)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FieldMatch(Metric):
    """The share of the reference's fields that the prediction has right.

    Fields are the leaves of the structure, by path: ``name``, ``address.city``, ``items[0].price``. It is the recall of slots
    that information extraction reports (MUC-5 Evaluation Metrics, Chinchor and Sundheim 1993: correct / possible; with
    ``extra="count"`` spurious ones go into the denominator). Values, also texts that hold JSON, are read and compared as
    :class:`JsonMatch` does. Without ``field`` all output fields of the example are taken.

    Args:
        fields: the paths that count; with a mapping also the metric for each (a name or a metric), such as
            ``{"name": "normalised_match", "price": "numeric"}``. None is every leaf of the reference, compared exactly.
        extra: ``"count"`` makes each field that only the prediction has count as a wrong one; ``"ignore"`` does not.
    """

    name: ClassVar[str] = "field_match"
    usual_threshold: ClassVar[float] = 1.0
    structured: ClassVar[bool] = True

    fields: Any = None
    extra: Literal["ignore", "count"] = "ignore"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "extra", ("ignore", "count"))
        if self.fields is None:
            return
        given = self.fields if isinstance(self.fields, Mapping) else dict.fromkeys(_paths(self))
        if not given:
            raise bad_option(self, "fields", "one path or more")
        object.__setattr__(self, "fields", {p: m and metric(m) for p, m in given.items()})
        for path in self.fields:
            parse_path(path)

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        """Compare with one reference."""
        made, hoped = read_json(prediction), read_json(reference)
        needed = self._wanted(hoped)
        found = dict(leaves(made))
        outcomes = {path: self._field(how, at(made, path), at(hoped, path)) for path, how in needed.items()}
        right = sum(score for score, _ in outcomes.values())
        surplus = [p for p in found if not _covered(p, needed)] if self.extra == "count" else []
        total = len(outcomes) + len(surplus)

        def why() -> str:
            wrong = [f"{write_path(p)}: {o.why()}" for p, o in outcomes.items() if o.score < 1]
            wrong += [f"{write_path(p)}: not in the reference." for p in surplus]
            told = f"{right:g} of {total} fields are right."
            more = f" and {len(wrong) - _MOST_TOLD} more" if len(wrong) > _MOST_TOLD else ""
            return " ".join([told, *wrong[:_MOST_TOLD]]) + more

        return Outcome(right / total, why)

    def assess(self, example: Any, prediction: Any) -> Outcome:
        """Compare a prediction with an example, whole where no field is named."""
        whole = _whole(self, example, prediction)
        return self.compare(*whole) if whole else super().assess(example, prediction)

    def _wanted(self, hoped: Any) -> dict[Path, Metric | None]:
        if self.fields is not None:
            return {parse_path(path): how for path, how in self.fields.items()}
        return {path: None for path, _ in leaves(hoped)}

    @staticmethod
    def _field(how: Metric | None, made: Any, hoped: Any) -> Outcome:
        if made is _NOTHING or hoped is _NOTHING:
            equal = made is hoped
            return Outcome(
                float(equal),
                lambda: (
                    "absent, as it should be."
                    if equal
                    else (f"missing, expected {short(hoped)}." if made is _NOTHING else f"found {short(made)}, expected none.")
                ),
            )
        if how is not None:
            outcome = how.measure(made, hoped)
            return Outcome(how._checked(outcome), outcome.why)
        equal = same(made, hoped)
        return Outcome(float(equal), lambda: f"expected {short(hoped)}, found {short(made)}.")


def _paths(metric: FieldMatch) -> list[str]:
    if isinstance(metric.fields, str) or not isinstance(metric.fields, list | tuple | set | frozenset):
        raise bad_option(metric, "fields", "a list of paths, or a mapping from path to metric")
    return list(metric.fields)


def _whole(metric: Metric, example: Any, prediction: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return prediction and example as records where whole ones are compared, else None."""
    made = as_record(prediction)
    if metric.field is not None or metric.reference is not None or made is None:
        return None
    hoped = wanted(example)
    if len(hoped) == len(record_of(example)):  # it does not say which fields are inputs
        hoped = {k: v for k, v in hoped.items() if k in made}
    if not hoped:
        return None
    return {k: v for k, v in made.items() if k in hoped or k not in ("reasoning", "rationale")}, hoped


def read_json(value: Any) -> Any:
    """Return ``value`` as plain data: a text is read as JSON, and stays a text where it is none."""
    value = plain(value)
    if not isinstance(value, str):
        return value
    fenced = _FENCE.match(value)
    try:
        return plain(json.loads(fenced[1] if fenced else value, parse_constant=_refuse))
    except (ValueError, RecursionError, ConfigurationError):
        return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path and value of every leaf; an empty list or mapping is a leaf."""
    inside: Any = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    if not inside or not value:
        yield path, value
        return
    for key, part in inside:
        yield from leaves(part, (*path, key))


def at(value: Any, path: Path) -> Any:
    """Return what lies at ``path``, or a mark that nothing does."""
    for key in path:
        within = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        if key not in within:
            return _NOTHING
        value = value[key]
    return value


def parse_path(path: str) -> Path:
    """Return the steps of a path such as ``items[0].price``.

    Raises:
        ConfigurationError: it is no path.
    """
    parts: list[str | int] = []
    end = 0
    for match in _PART.finditer(path) if isinstance(path, str) and not path.startswith(".") else ():
        if match.start() != end:
            break
        parts.append(match[1] if match[1] is not None else int(match[2]))
        end = match.end()
    if not parts or end != len(path):
        raise ConfigurationError(
            f"{path!r} is no path to a field.", key="fields", expected="such as 'address.city' or 'items[0].price'", actual=path
        )
    return tuple(parts)


def write_path(path: Path) -> str:
    """Return a path as text; the whole is ``value``."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".") or "value"


def _covered(path: Path, wanted: Mapping[Path, Any]) -> bool:
    return any(path[:n] in wanted for n in range(len(path) + 1))


def _differences(made: Any, hoped: Any) -> str:
    told = []
    if isinstance(made, str) and isinstance(hoped, dict | list):
        told.append("The answer is a text and no JSON.")
    there, needed = dict(leaves(made)), dict(leaves(hoped))
    for path in [*needed, *(p for p in there if p not in needed)]:
        if path not in there:
            told.append(f"{write_path(path)}: missing, expected {short(needed[path])}.")
        elif path not in needed:
            told.append(f"{write_path(path)}: not in the reference, found {short(there[path])}.")
        elif not same(there[path], needed[path]):
            told.append(f"{write_path(path)}: expected {short(needed[path])}, found {short(there[path])}.")
    return " ".join(told[:_MOST_TOLD]) + (f" And {len(told) - _MOST_TOLD} more." if len(told) > _MOST_TOLD else "")
