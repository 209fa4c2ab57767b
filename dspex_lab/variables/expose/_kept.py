"""What a program was when it was exposed, so that it can be that again: the very objects, and what was in them."""

from __future__ import annotations

import types
import weakref
from collections.abc import Mapping
from typing import Any

from dspex_lab.variables.expose._adapter import Adapted
from dspex_lab.variables.expose._places import is_predict
from dspex_lab.variables.expose._settings import given_settings
from dspex_lab.variables.expose._values import UNSET
from dspex_lab.variables.expose._walk import holds_parts, is_builtin, parts

#: What a program lives through; it is no part of what it is.
_LIVED = frozenset({"callbacks", "history"})


class Kept:
    """What the parts of a program were.

    The program itself is not held by it. A user's own attributes that are neither parts nor settings (a counter, a cache) are
    not kept: they are what the program lived through.
    """

    def __init__(self, program: Any) -> None:
        self._parts = [_PartKept(part.value, program) for part in parts(program)]
        self._signatures = [_SignatureKept(s) for s in _signatures(program)]

    @property
    def kind(self) -> type:
        """The class of the program."""
        return self._parts[0].kind

    def stand_in(self, program: Any) -> Any:
        """Return an object like the program itself was, for where it has become another module."""
        return self._parts[0].stand_in(program)

    def restore(self, program: Any) -> None:
        """Let the program, and all that was part of it, be what it was."""
        for part in self._parts:
            part.restore(program)
        for signature in self._signatures:
            signature.restore()


class _PartKept:
    """The class, the attributes and the contents of the containers of one part."""

    def __init__(self, part: Any, program: Any) -> None:
        self._root = part is program
        # The program is held by whoever exposed it, not by this.
        self._part: Any = weakref.ref(part) if self._root else part
        self.kind, self._whole = type(part), is_builtin(part)
        held = {n: v for n, v in vars(part).items() if n not in _LIVED and not isinstance(v, Adapted)}
        if not self._whole:
            given = given_settings(part)
            held = {
                n: v for n, v in held.items() if n in given or holds_parts(v) or n in ("forward", "_compiled", *_OF_PREDICT)
            }
        self._held = {n: _unbound(v, program) for n, v in held.items()}
        self._contents = {n: v.copy() for n, v in held.items() if type(v) in (list, dict)}

    def restore(self, program: Any) -> None:
        part = program if self._root else self._part
        if type(part) is not self.kind:
            part.__class__ = self.kind
        there = vars(part)
        for name in [n for n, v in there.items() if n not in self._held and n not in _LIVED]:
            if self._whole or isinstance(there[name], Adapted):
                del there[name]
        for name, value in self._held.items():
            if isinstance(value, _Bound):
                there[name] = value.to(program)
            elif there.get(name, UNSET) is not value:
                there[name] = value
        for name, content in self._contents.items():
            _refill(there[name], content)

    def stand_in(self, program: Any) -> Any:
        made = object.__new__(self.kind)
        vars(made).update({n: v.to(made) if isinstance(v, _Bound) else v for n, v in self._held.items()})
        vars(made).update({n: v for n, v in vars(program).items() if n in _LIVED})
        return made


#: What a user's class that derives from Predict keeps of a predictor.
_OF_PREDICT = ("signature", "demos", "config", "lm", "fields", "traces", "train", "stage")


class _Bound:
    """A function that was bound to the program, without the program."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def to(self, program: Any) -> Any:
        return types.MethodType(self._function, program)


def _unbound(value: Any, program: Any) -> Any:
    return _Bound(value.__func__) if isinstance(value, types.MethodType) and value.__self__ is program else value


def _refill(there: Any, content: Any) -> None:
    """Let a list or dict hold what it held, the same objects in the same order."""
    if isinstance(there, list):
        if len(there) != len(content) or any(a is not b for a, b in zip(there, content, strict=True)):
            there[:] = content
    elif list(there) != list(content) or any(there[k] is not content[k] for k in content):
        there.clear()
        there.update(content)


class _SignatureKept:
    """The words of a signature, which somebody may write in place."""

    def __init__(self, signature: Any) -> None:
        self._signature, self._doc = signature, signature.__doc__
        self._extras: Mapping[str, dict[str, Any]] = {
            n: dict(f.json_schema_extra or {}) for n, f in signature.model_fields.items()
        }

    def restore(self) -> None:
        if self._signature.__doc__ != self._doc:
            self._signature.__doc__ = self._doc
        for name, extra in self._extras.items():
            there = self._signature.model_fields[name].json_schema_extra
            if there != extra:
                there.clear()
                there.update(extra)


def _signatures(program: Any) -> list[Any]:
    found = {id(s): s for p in parts(program) if is_predict(p.value) for s in [p.value.signature]}
    return list(found.values())
