"""References to functions, types and modules: how a file names them, and which ones a loader may follow."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pipelines._modules import is_dspy_module


@dataclass(frozen=True, eq=False, slots=True)
class Ref:
    """An object that a file can only name; ``wish`` is the name it would have."""

    target: Any
    wish: str

    def __str__(self) -> str:
        return self.wish


def path_of(target: Any) -> str | None:
    """Return ``module:name`` of what another process could import, else None."""
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__" or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is target else None


def wish_of(target: Any, otherwise: str) -> str:
    """Return the name ``target`` would have in a file."""
    own = getattr(target, "__name__", None)
    wish = own if isinstance(own, str) and own.isidentifier() else otherwise
    return path_of(target) or wish


class Names:
    """Gives every object of a file its own name."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def of(self, ref: Ref) -> str:
        """Return the name of an object; another object of that name has one with a number."""
        name, count = ref.wish, 1
        while name in self.given and not alike(self.given[name], ref.target):
            count += 1
            name = f"{ref.wish}_{count}"
        self.given.setdefault(name, ref.target)
        return name


class Allowed:
    """What a file may refer to.

    Args:
        functions: objects by the name a file uses (functions, types, DSPy modules, indexes, models), or a list of functions
            and classes, which go by their own names.
        modules: Python modules, or their names, in which ``module:name`` is looked up. They are imported because the caller
            says so; a file can only choose among them.

    Raises:
        ConfigurationError: one of them is none of these.
    """

    def __init__(
        self, functions: Mapping[str, Any] | Iterable[Any] | None = None, modules: Iterable[Any] | str | None = None
    ) -> None:
        self.objects = _by_name(functions)
        listed = [modules] if isinstance(modules, str | types.ModuleType) else list(modules or ())
        for one in listed:
            if not isinstance(one, str | types.ModuleType):
                raise ConfigurationError(
                    f"modules= takes Python modules or their names, found {type(one).__name__}.",
                    key="modules",
                    actual=one,
                    hint='As in modules=["mypackage.steps"]; hand objects in by functions={"name": object}.',
                )
        self.modules = {one if isinstance(one, str) else one.__name__ for one in listed}

    def find(self, name: str) -> Any:
        """Return the object called ``name``.

        Raises:
            LookupError: it may not be used, or is not there; with a message and what to do as its arguments.
        """
        if name in self.objects:
            return self.objects[name]
        module, colon, path = name.partition(":")
        if not colon:
            near = did_you_mean(name, self.objects)
            raise LookupError(
                f"{name!r} is not among what was handed in.{near}",
                f"Hand it in: load_pipeline(..., functions={{{name!r}: ...}}).",
            )
        if module not in self.modules:
            raise LookupError(
                f"{name!r} is in a module that was not allowed; a file imports nothing by itself.",
                f"Allow it: load_pipeline(..., modules=[{module!r}]), or hand it in: functions={{{name!r}: ...}}.",
            )
        return self._in_module(name, module, path)

    def _in_module(self, name: str, module: str, path: str) -> Any:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            if part.startswith("_") or not part.isidentifier():
                raise LookupError(f"{name!r} is no public name.", "Hand the object in by functions={...}.")
            found = inspect.getattr_static(found, part, None) if isinstance(found, type) else getattr(found, part, None)
            if isinstance(found, staticmethod | classmethod):
                found = found.__func__
        if found is None:
            known = [n for n in vars(sys.modules[module]) if not n.startswith("_")]
            raise LookupError(f"There is no {path!r} in {module}.{did_you_mean(path, known)}", "Correct the name.")
        home = str(getattr(found, "__module__", ""))
        if home != module and not home.startswith(module + "."):
            # "steps:os.system" would be a way from an allowed module to any other.
            raise LookupError(
                f"{name!r} is not defined in {module}, but in {home or 'no module'}.", "Name it where it is defined."
            )
        return found


def _by_name(given: Mapping[str, Any] | Iterable[Any] | None) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    made = {}
    for one in given:
        name = getattr(one, "__name__", None)
        if not isinstance(name, str):
            raise ConfigurationError(
                f"functions= takes a mapping, or functions that have a name; found {type(one).__name__}.",
                key="functions",
                actual=one,
                hint='Write functions={"name": object}.',
            )
        made[name] = one
    return made


# --- sameness -----------------------------------------------------------------------------------------------------


def alike(one: Any, other: Any) -> bool:
    """Say whether two objects do the same: one object, or functions and classes of the same code, defaults and cells."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, types.FunctionType):
        return _function(one) == _function(other)
    if isinstance(one, type):
        return _same_class(one, other)
    if isinstance(one, functools.partial):
        return alike(one.func, other.func) and one.args == other.args and one.keywords == other.keywords
    if is_dspy_module(one):
        return alike(type(one), type(other))  # what it has learned is compared by its predictors
    if isinstance(one, types.MethodType):
        return alike(one.__func__, other.__func__) and alike(one.__self__, other.__self__)
    return _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # a value's own comparison may do anything
        return False


class _Alike:
    """Compares by :func:`alike`, for values inside tuples."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alike) and alike(self.value, other.value)

    __hash__ = None  # type: ignore[assignment]


def _function(function: types.FunctionType) -> tuple[Any, ...]:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(_Alike(cell.cell_contents))
        except ValueError:  # not filled yet
            cells.append(_Alike(None))
    defaults = [_Alike(v) for v in function.__defaults__ or ()]
    named = {k: _Alike(v) for k, v in (function.__kwdefaults__ or {}).items()}
    types_ = {k: _Alike(v) for k, v in function.__annotations__.items()}
    return (function.__qualname__, _code(function.__code__), defaults, named, types_, cells)


def _code(code: types.CodeType) -> tuple[Any, ...]:
    consts = tuple(_code(c) if isinstance(c, types.CodeType) else (type(c), c) for c in code.co_consts)
    shape = (code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_varnames, code.co_freevars)
    return (code.co_code, consts, code.co_names, shape)


_NOISE = frozenset({"__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl"})

#: What ``dataclasses`` writes into a class from its fields.
_GENERATED = frozenset(
    {
        *("__dataclass_fields__", "__dataclass_params__", "__match_args__", "__doc__", "__init__", "__repr__", "__eq__"),
        *("__setattr__", "__delattr__", "__hash__", "__getstate__", "__setstate__", "__replace__"),
        *("__lt__", "__le__", "__gt__", "__ge__"),
    }
)


def _same_class(one: type, other: type) -> bool:
    if (one.__qualname__, one.__module__) != (other.__qualname__, other.__module__):
        return False
    if len(one.__bases__) != len(other.__bases__) or not all(map(alike, one.__bases__, other.__bases__)):
        return False
    if hasattr(one, "model_json_schema"):
        return _equal(_schema(one), _schema(other))
    if len(getattr(one, "__members__", ())) or len(getattr(other, "__members__", ())):
        return [(m.name, m.value) for m in one] == [(m.name, m.value) for m in other]  # type: ignore[attr-defined]
    if dataclasses.is_dataclass(one) and not _same_fields(one, other):
        return False
    made = _GENERATED if dataclasses.is_dataclass(one) else frozenset[str]()
    mine, theirs = ({k: v for k, v in vars(c).items() if k not in _NOISE | made} for c in (one, other))
    return mine.keys() == theirs.keys() and all(_same_member(mine[k], theirs[k]) for k in mine)


def _same_fields(one: Any, other: Any) -> bool:
    sides = [dataclasses.fields(c) for c in (one, other)]
    told = [
        [(f.name, f.kw_only, f.init, _Alike(f.type), _Alike(f.default), _Alike(f.default_factory)) for f in s] for s in sides
    ]
    return told[0] == told[1]


def _same_member(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    if isinstance(one, types.MemberDescriptorType):
        return type(one) is type(other)
    return alike(one, other)


def _schema(model: Any) -> Any:
    try:
        return model.model_json_schema()
    except Exception:  # a type without a schema
        return repr(model.model_fields)
