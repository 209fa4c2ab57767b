"""Random pipelines as plain data, for hypothesis to draw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

LIMIT = 0.02


#: What a step may raise; one raised by the step itself is never a cancelled run, nor the end of the process.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("bad"),
    "KeyError": lambda: KeyError("none"),
    "TimeoutError": lambda: TimeoutError("of its own"),
    "SystemExit": lambda: SystemExit(3),
    "CancelledError": lambda: asyncio.CancelledError("of its own"),
    "StopIteration": lambda: StopIteration(1),
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), OSError("b")]),
}


#: Python has no coroutine, and asyncio no future, that raises it.
SHOWN = {"StopIteration": "RuntimeError"}


#: A step that raises these is not tried again.
LASTING = {"SystemExit", "CancelledError", "wrong"}


@dataclass(frozen=True)
class Act:
    """What a function does: the first ``fails`` calls raise ``error``, and so do those for an item in ``bad``."""

    salt: int = 0
    error: str = "ValueError"
    fails: int = 0
    bad: frozenset[int] = frozenset()
    drifts: bool = False


@dataclass(frozen=True)
class Plan:
    """One step; ``error`` may also be ``"wrong"`` (a value of another type) and ``"hangs"`` (until its timeout)."""

    name: str
    kind: str
    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    gives: str = ""
    act: Act = Act()
    is_async: bool = False
    on_error: str = "stop"
    fallback: str | int = 0
    retries: int = 0
    cached: bool = False
    replaces: bool = False
    bound: int = 0
    count: int = 1
    as_text: bool = True
    parts: tuple[Plan, ...] = ()


INPUTS = ("x", "y", "xs")


@st.composite
def acts(draw: Any, *, items: bool = False) -> Act:
    failing = draw(st.sampled_from([0, 0, 0, 1, 2, 99]))
    error = draw(st.sampled_from([*ERRORS, "wrong"]))
    bad = draw(st.frozensets(st.integers(0, 3), max_size=2)) if items else frozenset()
    return Act(draw(st.integers(0, 9)), error, 0 if items else failing, bad, not items and draw(st.booleans()))


@st.composite
def natives(draw: Any, name: str, fields: tuple[str, ...], *, gives: str = "", items: bool = False, own: bool = True) -> Plan:
    act = draw(acts(items=items))
    is_async = draw(st.booleans())
    if own and is_async and draw(st.integers(0, 11)) == 0:
        act = replace(act, error="hangs", fails=99)
    return Plan(
        name,
        "native",
        tuple(draw(st.lists(st.sampled_from(fields), max_size=3, unique=True))) if fields else (),
        ("o",) if draw(st.integers(0, 5)) == 0 else (),
        gives or name,
        act,
        is_async,
        draw(st.sampled_from(["stop", "stop", "continue", "fallback"])),
        draw(st.sampled_from([7, 7, "works", "fails"])),
        draw(st.integers(0, 2)),
        not items and draw(st.integers(0, 5)) == 0,
    )


@st.composite
def plans(draw: Any, name: str, fields: tuple[str, ...], depth: int) -> Plan:
    simple = ["native", "native", "native", "when", "each", "loop", "assert", "suggest"]
    kind = draw(st.sampled_from([*simple, "parallel", "pipeline"] if depth else simple))
    if kind == "native":
        gives = draw(st.sampled_from(fields)) if draw(st.integers(0, 7)) == 0 else name
        return untyped(replace(draw(natives(name, fields, gives=gives)), replaces=gives != name), gives != name)
    made = Plan(
        name,
        kind,
        gives=name,
        on_error=draw(st.sampled_from(["stop", "stop", "continue", "fallback"])),
        fallback=draw(st.sampled_from(["works", "fails"])),
        bound=draw(st.integers(0, 40)),
        count=draw(st.integers(1, 3)),
        as_text=draw(st.booleans()),
        cached=draw(st.integers(0, 7)) == 0,
    )
    one = (draw(st.sampled_from(fields)),)
    if kind == "when":
        branches = [draw(natives(n, fields, gives=name)) for n in ("then", "otherwise")[: draw(st.integers(1, 2))]]
        return replace(made, reads=one, parts=tuple(branches))
    if kind == "each":
        inner = draw(natives("item", ("y",), gives=name, items=True, own=False))
        inner = replace(inner, reads=("item", *inner.reads))
        return replace(made, reads=draw(st.sampled_from([("xs",), ("xs",), one])), parts=(inner,))
    if kind == "loop":
        field_ = draw(st.sampled_from([name, *fields]))
        inner = draw(natives("round", fields, gives=field_))
        carried = tuple(dict.fromkeys((*inner.reads, field_))) if field_ != name else inner.reads
        return replace(
            made, gives=field_, replaces=field_ != name, parts=(untyped(replace(inner, reads=carried), field_ != name),)
        )
    if kind in ("assert", "suggest"):
        return replace(made, parts=(draw(natives("try", fields, gives=name)),))
    names = [f"{name}_{i}" for i in range(draw(st.integers(1, 3)))]
    if kind == "parallel":
        return replace(made, parts=tuple(draw(natives(n, fields)) for n in names))
    made = replace(made, parts=draw(graphs(names, fields, depth - 1)))
    return replace(made, replaces=bool(set(gives_of(made)) & set(fields)))


@st.composite
def graphs(draw: Any, names: list[str], fields: tuple[str, ...], depth: int) -> tuple[Plan, ...]:
    steps: list[Plan] = []
    known = fields
    for name in names:
        made = draw(plans(name, known, depth))
        steps.append(made)
        known = tuple(dict.fromkeys((*known, *gives_of(made))))
    if draw(st.booleans()) and not any(s.replaces for s in steps):
        steps = draw(st.permutations(steps))
    return tuple(steps)


@dataclass(frozen=True)
class Case:
    steps: tuple[Plan, ...]
    inputs: dict[str, Any] = field(default_factory=dict)
    default: int | None = None


@st.composite
def cases(draw: Any) -> Case:
    names = [f"s{i}" for i in range(draw(st.integers(1, 12)))]
    inputs = {
        "x": draw(st.integers(-5, 20)),
        "y": draw(st.sampled_from([None, 3, 17])),
        "xs": draw(st.lists(st.integers(0, 9), max_size=5)),
    }
    if draw(st.booleans()):
        inputs["o"] = draw(st.integers(0, 9))
    default = draw(st.none() | st.integers(0, 9)) if inputs["y"] is not None else None
    return Case(draw(graphs(names, INPUTS, 2)), inputs, default)


def untyped(plan: Plan, named: bool) -> Plan:
    """Return a step with no value of a wrong type where the name of its field is given, and with it no type."""
    return replace(plan, act=replace(plan.act, error="ValueError")) if named and plan.act.error == "wrong" else plan


def blanks(plan: Plan) -> dict[str, Any]:
    """Return what a fallback gives."""
    if plan.kind in ("parallel", "pipeline"):
        return {f: v for part in plan.parts for f, v in blanks(part).items()}
    return {plan.gives: [7] if plan.kind == "each" else 7}


def gives_of(plan: Plan) -> tuple[str, ...]:
    """Return the fields a step gives."""
    if plan.kind not in ("parallel", "pipeline"):
        return (plan.gives,)
    return tuple(dict.fromkeys(f for part in plan.parts for f in gives_of(part)))


def takes_of(plan: Plan) -> dict[str, bool]:
    """Return the fields a step takes, and whether it must have them."""
    out: dict[str, bool] = {}

    def add(found: Mapping[str, bool]) -> None:
        for name, needed in found.items():
            out[name] = out.get(name, False) or needed

    add(dict.fromkeys(plan.reads, True))
    add(dict.fromkeys(plan.optional, False))
    if plan.kind == "pipeline":
        for i, part in enumerate(plan.parts):
            add({f: n for f, n in takes_of(part).items() if source(plan.parts, i, f) is None})
    else:
        for part in plan.parts:
            add({f: n for f, n in takes_of(part).items() if not (plan.kind == "each" and f == "item")})
    return out


def source(steps: tuple[Plan, ...], reader: int, name: str) -> int | None:
    """Return the step whose version of a field ``reader`` reads, None for the pipeline's input."""
    givers = [i for i, s in enumerate(steps) if name in gives_of(s)]
    before = [i for i in givers if i < reader]
    after = [i for i in givers if i > reader]
    if before:
        return before[-1]
    return after[0] if after and not steps[after[0]].replaces else None
