"""What differs between two pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dspex_lab.errors import DspexError
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step
from dspex_lab.pipelines.files._refs import Ref, alike
from dspex_lab.pipelines.files._writer import Named, Tree, Writer

#: Settings whose values are too long to be shown.
_LONG = frozenset({"template", "system", "demos"})
_INNER = ("do", "then", "otherwise")


def same(one: Pipeline, other: Pipeline) -> list[str]:
    """Return what differs from ``one`` to ``other``, a line for each difference; nothing where they are equal.

    Equal are: name, defaults of inputs, and the steps in their order, each with its kind, its options and what it does.
    Functions and classes are the same where their code is, also when a cell defined them again; DSPy modules where class,
    signatures, demonstrations and settings are.
    """
    found = [] if one.name == other.name else [f"the name was {one.name!r}, is {other.name!r}"]
    found += _steps(one.steps, other.steps)
    for name in dict.fromkeys([*one.defaults, *other.defaults]):
        before, after = (repr(p.defaults[name]) if name in p.defaults else None for p in (one, other))
        if not (before and after and alike(one.defaults[name], other.defaults[name])) and before != after:
            found.append(_told("the default of " + repr(name), before, after))
    for what, was, now in (("inputs", one.inputs, other.inputs), ("outputs", one.outputs, other.outputs)):
        if list(was) != list(now) and found:
            found.append(f"{what} {_fields(list(was), list(now))}")
    return found


def _fields(was: list[str], now: list[str]) -> str:
    added, removed = [n for n in now if n not in was], [n for n in was if n not in now]
    told = [f"{word}: {', '.join(names)}" for word, names in (("added", added), ("removed", removed)) if names]
    return "; ".join(told) or f"in another order: {', '.join(now)}"


def _steps(one: dict[str, Step], other: dict[str, Step]) -> list[str]:
    found = [f"step {n!r} removed" for n in one if n not in other]
    found += [f"step {n!r} added" for n in other if n not in one]
    for name in one:
        if name in other and one[name] is not other[name]:
            found += _step(name, one[name], other[name])
    kept = [[n for n in side if n in one and n in other] for side in (one, other)]
    if kept[0] != kept[1]:
        found.append(f"the order was {', '.join(kept[0])}, is {', '.join(kept[1])}")
    return found


def _step(name: str, one: Step, other: Step) -> list[str]:
    try:
        trees = [Writer().steps({name: item})[name] for item in (one, other)]
    except DspexError:
        # A kind of the user's own without dump(): then what it does is compared as it is.
        trees = [_outside(item) for item in (one, other)]
    return [f"step {name!r}: {line}" for line in _tree("", *trees)]


def _outside(item: Step) -> Tree:
    import dataclasses

    tree: Tree = {f.name: getattr(item, f.name) for f in dataclasses.fields(item) if f.name not in ("target", "how", "name")}
    tree = {k: v if isinstance(v, str | int | float | bool | type(None)) else Ref(v, k) for k, v in tree.items()}
    return {"type": item.kind, "target": Ref(item.target, item.how.label(item)), **tree}


def _tree(path: str, one: Tree, other: Tree) -> Iterator[str]:
    if one.get("type") != other.get("type"):
        yield _told(f"{path}type", one.get("type"), other.get("type"))
        return
    for key in dict.fromkeys([*one, *other]):
        before, after = one.get(key), other.get(key)
        if key in _INNER and isinstance(before, dict) and isinstance(after, dict):
            yield from _tree(f"{path}{key}.", before, after)
        elif key in ("steps", "predictors") and isinstance(before, dict) and isinstance(after, dict):
            yield from _parts(path, before, after)
        elif key == "pipeline" and isinstance(before, dict) and isinstance(after, dict):
            yield from _tree(path, before, after)
        elif not _equal(before, after):
            yield from _changed(f"{path}{key}", key, before, after)


def _parts(path: str, one: Tree, other: Tree) -> Iterator[str]:
    for name in dict.fromkeys([*one, *other]):
        if name not in other:
            yield f"{path}{name} removed"
        elif name not in one:
            yield f"{path}{name} added"
        else:
            yield from _tree(f"{path}{name}.", one[name], other[name])
    if one.keys() == other.keys() and list(one) != list(other):
        yield f"{path}the order was {', '.join(one)}, is {', '.join(other)}"


def _changed(what: str, key: str, one: Any, other: Any) -> Iterator[str]:
    from dspex_lab.signatures import diff

    if key == "signature" and one is not None and other is not None:
        named = [v["text"] if isinstance(v, dict) else v for v in (one, other)]
        lines = [str(change) for change in diff(named[0].signature, named[1].signature)]
        calls = [v["name"] if isinstance(v, dict) else "none" for v in (one, other)]
        if calls[0] != calls[1]:
            lines.append(f"name was {calls[0]}, is {calls[1]}")
        if not lines:
            texts = [v.text for v in named]
            lines = ["a type was defined anew"] if texts[0] == texts[1] else [_told("text", *texts)]
        yield from (f"{what}: {line}" for line in lines)
    elif isinstance(one, Ref) and isinstance(other, Ref) and str(one) == str(other):
        yield f"the code of {one} changed" if callable(one.target) else f"{what} {one} changed"
    elif key in _LONG and one is not None and other is not None:
        yield f"{what} changed" + (f" ({len(one)} → {len(other)})" if key == "demos" else "")
    else:
        yield _told(what, one, other)


def _told(what: str, before: Any, after: Any) -> str:
    shown = [_shown(v) for v in (before, after)]
    if before is None:
        return f"{what} is {shown[1]}"
    return f"{what} was {shown[0]}" + (", is not said any more" if after is None else f", is {shown[1]}")


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "function" in value:
        value = value["function"]
    text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Ref):
        return isinstance(other, Ref) and alike(one.target, other.target)
    if isinstance(one, Named):
        return (
            isinstance(other, Named)
            and (one.text == other.text or one.signature == other.signature)
            and one.names.keys() == other.names.keys()
            and all(alike(v, other.names[n]) for n, v in one.names.items())
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(_equal(v, other[k]) for k, v in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other) or (one != one and other != other)
