"""From a pipeline to a tree of plain data, in which what a file can only name is still an object."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._cell import cell_of
from dspex_lab.pipelines._kinds import BUILT_IN
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step, step_shape
from dspex_lab.pipelines.files._models import write_lm
from dspex_lab.pipelines.files._refs import Names, Ref, path_of, wish_of
from dspex_lab.pipelines.files._values import is_plain, to_plain
from dspex_lab.signatures import Field, Signature

#: Settings of a step that a file holds as they are.
PLAIN = ("pool", "timeout", "retries", "idempotent", "cache", "on_error", "replaces")
_DEFAULTS = {f.name: f.default for f in fields(Step)}

Tree = dict[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Named:
    """A text in which types are called by names; ``signature`` is what it says."""

    text: str
    names: dict[str, Any]
    signature: Signature

    def __str__(self) -> str:
        return self.text


class Writer:
    """Makes trees of steps; what a kind's ``dump(item, writer)`` is given.

    Args:
        names: what the notebook calls its objects; an object without a name of its own goes by that.
    """

    def __init__(self, names: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._path: list[str] = []
        self._names = [names]

    @property
    def path(self) -> str:
        """Return the dotted name of the step under way."""
        return ".".join(self._path)

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Say that what is written in the block belongs to ``name``."""
        self._path.append(name)
        try:
            yield
        finally:
            self._path.pop()

    def refuse(self, message: str, hint: str | None = None) -> PipelineError:
        """Return the error that this step cannot be written."""
        step = self._path[0] if self._path else None
        return PipelineError(f"Step {self.path!r} cannot be saved: {message}", step=step, hint=hint)

    def pipeline(self, made: Pipeline) -> Tree:
        """Return a pipeline."""
        tree: Tree = {"name": made.name}
        if made.description:
            tree["description"] = made.description
        if made.defaults:
            tree["variables"] = {n: to_plain(v, made.inputs[n].type, f"the default of {n!r}") for n, v in made.defaults.items()}
        cell = cell_of(made)
        self._names.append(cell.names if cell is not None else {})
        try:
            tree["steps"] = self.steps(made.steps)
        finally:
            self._names.pop()
        return tree

    def steps(self, items: Mapping[str, Step]) -> Tree:
        """Return steps under their names."""
        return {name: self.step(item, name) for name, item in items.items()}

    def step(self, item: Step, name: str, *, named: bool = False) -> Tree:
        """Return a step; with ``named`` its own name is kept, where it has one."""
        with self.at(name):
            tree: Tree = {"type": item.kind}
            if named and item.name:
                tree["name"] = item.name
            tree.update(self._target(item))
            tree.update(self._options(item, name))
            return tree

    def _target(self, item: Step) -> Tree:
        from dspex_lab.pipelines.files._kinds import DUMPERS

        dump = DUMPERS.get(item.kind) or getattr(item.how, "dump", None)
        if dump is None or (item.kind in BUILT_IN and item.kind not in DUMPERS):
            raise self.refuse(
                f"its kind {item.kind!r} does not say how.",
                "Give the kind dump(item, writer) and load(step); see pipelines.files.",
            )
        tree: Tree = dump(item, self)
        return tree

    def _options(self, item: Step, name: str) -> Tree:
        tree: Tree = {k: getattr(item, k) for k in PLAIN if getattr(item, k) != _DEFAULTS[k]}
        if item.on_error == "fallback":
            del tree["on_error"]
            tree["fallback"] = self._fallback(item, name)
        if item.batch is not None:
            tree["batch"] = {f.name: getattr(item.batch, f.name) for f in fields(item.batch)}
        if item.lm is not None:
            tree["lm"] = self.lm(item.lm)
        if item.outputs:
            tree["outputs"] = list(item.outputs)
        return tree

    def _fallback(self, item: Step, name: str) -> Any:
        if callable(item.fallback):
            return {"function": self.reference(item.fallback, f"{name}_fallback")}
        value, shape = item.fallback, step_shape(name, item)
        if isinstance(value, Mapping):
            kinds = {n: f.type for n, f in shape.outputs.items()}
            plain: Any = {n: to_plain(v, kinds.get(n, Any), f"the fallback of {name!r}") for n, v in value.items()}
        else:
            only = next(iter(shape.outputs.values()))
            plain = to_plain(value, only.type if len(shape.outputs) == 1 else Any, f"the fallback of {name!r}")
        return {"value": plain} if isinstance(plain, dict) and len(plain) == 1 and next(iter(plain)) in _MARKS else plain

    def reference(self, target: Any, otherwise: str | None = None) -> Ref:
        """Return a reference to an object that the loader's caller hands in, called ``otherwise`` where it has no name."""
        return Ref(target, wish_of(target, self._called(target) or (otherwise or self.path).replace(".", "_")))

    def _called(self, target: Any) -> str | None:
        """Return what the cell, else the one around it, else the notebook calls an object."""
        mine = (n for names in reversed(self._names) for n, v in names.items() if v is target and not n.startswith("_"))
        return next(mine, None)

    def lm(self, lm: Any) -> Any:
        """Return a model: its name, its name and settings, or a reference."""
        return write_lm(lm, self)

    def value(self, value: Any, what: str) -> Any:
        """Return ``value`` if it is plain data.

        Raises:
            PipelineError: it is not.
        """
        if not is_plain(value):
            raise self.refuse(f"{what} is {type(value).__name__}, which a file cannot hold.", "Use plain values.")
        return value

    def signature(self, contract: Signature) -> Any:
        """Return a signature as its text, with its name where it has one of its own."""
        try:
            named = Named(str(contract), dotted(contract.types), contract)
        except Exception as error:  # a type without a text
            raise self.refuse(f"its signature has no text: {error}") from error
        return named if contract.name == "StringSignature" else {"name": contract.name, "text": named}

    def type(self, kind: Any) -> Named:
        """Return a type as text."""
        contract = Signature([Field("value", kind, role="output")])
        text = str(contract).removeprefix("->").strip().removeprefix("value").strip().removeprefix(":").strip()
        return Named(text or "str", dotted(contract.types), contract)


_MARKS = ("function", "value")


def dotted(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return names of types with those inside a stand-in for a module written out, ``models.Ticket``."""
    found: dict[str, Any] = {}
    for name, value in names.items():
        if type(value).__module__ == "dspex_lab.signatures._signature":
            found.update({f"{name}.{inner}": v for inner, v in dotted(vars(value)).items()})
        else:
            found[name] = value
    return found


def rendered(tree: Tree) -> Tree:
    """Return a tree with names in the place of objects.

    Raises:
        PipelineError: two types have one name.
    """
    names, kinds = Names(), dict[str, str]()
    for named in _named(tree):
        for name, target in named.names.items():
            if names.of(Ref(target, name)) != name:
                raise PipelineError(
                    f"Two types are called {name!r} in this pipeline, and a file could not tell them apart.", hint="Rename one."
                )
            path = path_of(target)
            if path is not None and "." not in name:
                kinds[name] = path
    out: Tree = _rendered(tree, names)
    if kinds:
        steps = out.pop("steps")
        out = {**out, "types": kinds, "steps": steps}
    return out


def _named(tree: Any) -> Iterator[Named]:
    if isinstance(tree, Named):
        yield tree
    elif isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _named(part)


def _rendered(tree: Any, names: Names) -> Any:
    if isinstance(tree, Named):
        return tree.text
    if isinstance(tree, Ref):
        return names.of(tree)
    if isinstance(tree, dict):
        return {k: _rendered(v, names) for k, v in tree.items()}
    return [_rendered(v, names) for v in tree] if isinstance(tree, list) else tree


def references(tree: Tree) -> dict[str, Any]:
    """Return the objects of a tree by the names :func:`rendered` gives them; types of another module by their own name too."""
    names = Names()
    for named in _named(tree):
        for name, target in named.names.items():
            names.of(Ref(target, name))
    _rendered(tree, names)
    roots: dict[str, Any] = {}
    for name, target in names.given.items():
        if ":" not in name and "." in name:
            continue
        roots[name] = target
    for named in _named(tree):
        roots.update({n: v for n, v in named.signature.types.items() if n not in roots})
    return roots
