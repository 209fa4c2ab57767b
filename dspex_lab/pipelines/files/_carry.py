"""What a file of Python needs of a notebook: imports, functions, classes, signatures and constants, by name."""

from __future__ import annotations

import ast
import builtins
import datetime
import decimal
import inspect
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from dspex_lab.errors import DspexError, PipelineError
from dspex_lab.pipelines._modules import is_dspy_module
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.files._modules import write_module
from dspex_lab.pipelines.files._refs import alike
from dspex_lab.pipelines.files._source import WIDTH, as_definition, block, called, dedented, is_literal, literal, uses
from dspex_lab.pipelines.files._writer import Writer, rendered
from dspex_lab.signatures import Signature

#: Values whose ``repr`` is Python that makes them again, and the import it needs.
_BY_REPR: dict[type, str] = {
    re.Pattern: "import re",
    decimal.Decimal: "from decimal import Decimal",
    datetime.date: "import datetime",
    datetime.datetime: "import datetime",
    datetime.timedelta: "import datetime",
    frozenset: "",
}


class Carrier:
    """Collects what names mean, as lines of a module: first imports, then definitions in the order they need each other.

    Args:
        build: writes the function that makes a pipeline, and returns its name.
        cells: the cells of the notebook, in which classes are looked up, newest first.
    """

    def __init__(self, build: Callable[[Pipeline, Carrier], str], cells: Iterable[str] = ()) -> None:
        self._build = build
        self.imports: set[str] = set()
        self.definitions: list[str] = []
        self._cells = list(cells)
        self._carried: dict[str, Any] = {}
        self._classes: dict[str, str] | None = None

    @property
    def names(self) -> set[str]:
        """Return the names that are taken."""
        return set(self._carried)

    def take(self, name: str) -> None:
        """Say that a name is taken by what is written around the definitions."""
        self._carried[name] = self

    def uses_of(self, source: str, namespace: Mapping[str, Any], user: str) -> None:
        """Carry everything that source takes from ``namespace``.

        Raises:
            PipelineError: something it uses cannot be written as Python.
        """
        for name in sorted(uses(source)):
            if name in namespace:
                self.carry(name, namespace[name], user, namespace)

    def carry(self, name: str, value: Any, user: str, namespace: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Make ``name`` mean ``value`` in the module.

        Args:
            user: what uses it, for messages.
            namespace: the names around it.

        Raises:
            PipelineError: it cannot be written as Python, or the name means something else already.
        """
        if name in self._carried:
            if not (self._carried[name] is value or alike(self._carried[name], value)):
                raise PipelineError(
                    f"{name!r} means one thing in {user} and another one elsewhere in this pipeline.",
                    hint="Rename one of them.",
                )
            return
        # IPython puts names of its own there, too.
        if getattr(builtins, name, None) is value and name not in ("display", "get_ipython"):
            return
        self._carried[name] = value
        if not (self._imported(name, value) or self._defined(name, value, namespace) or self._made(name, value)):
            raise PipelineError(
                f"{user} uses {name!r}, a value of type {type(value).__name__}, which cannot be written as Python.",
                hint=f"Make it inside a function, or make it an input: give the step a parameter {name!r}.",
            )

    # --- imports ----------------------------------------------------------------------------------------------

    def _imported(self, name: str, value: Any) -> bool:
        import dspex_lab

        if isinstance(value, types.ModuleType):
            full = value.__name__
            self.imports.add(f"import {full}" if full == name else f"import {full} as {name}")
            return full != "__main__"
        if name in dspex_lab.__all__ and getattr(dspex_lab, name) is value:
            self.imports.add(f"from dspex_lab import {name}")
            return True
        found = _home(name, value)
        if found is None:
            return False
        module, own = found
        if module.partition(".")[0] in ("IPython", "ipykernel"):
            raise PipelineError(
                f"{name!r} belongs to the notebook ({module}), and the file is to run without one.", hint="Leave it out."
            )
        self.imports.add(f"from {module} import {own}" + ("" if own == name else f" as {name}"))
        return True

    # --- definitions ------------------------------------------------------------------------------------------

    def _defined(self, name: str, value: Any, namespace: Mapping[str, Any]) -> bool:
        plain = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(plain, types.FunctionType):
            self._function(name, plain)
            return True
        if isinstance(value, type):
            source = self._class_source(value)
            if source is None:
                return hasattr(value, "input_fields") and self._signature(name, Signature.from_dspy(value), ".to_dspy()")
            self.uses_of(source, {**_globals_of(value), **namespace}, f"class {value.__name__}")
            self._define(source, value.__name__, name)
            return True
        return isinstance(value, Signature) and self._signature(name, value, "")

    def _function(self, name: str, function: types.FunctionType) -> None:
        if "<locals>" in function.__qualname__ and function.__closure__:
            raise PipelineError(
                f"The function {name!r} was made inside another one and uses values of it.",
                hint="Define it on its own.",
            )
        try:
            source = as_definition(dedented(inspect.getsource(function)))
            tree = ast.parse(source)
        except (OSError, TypeError, SyntaxError) as error:
            raise PipelineError(
                f"The source of the function {name!r} is not known.", hint="Define it in a cell, or import it from a module."
            ) from error
        own = getattr(tree.body[0], "name", None)
        if own is None:
            raise PipelineError(f"The function {name!r} is a lambda inside a larger line.", hint=f"Write: def {name}(...): ...")
        self.uses_of(source, {n: v for n, v in function.__globals__.items() if v is not function}, f"function {own}")
        self._define(source, own, name)

    def _define(self, source: str, own: str, name: str) -> None:
        if source not in self.definitions:
            self.definitions.append(source)
        if own != name:
            self.definitions.append(f"{name} = {own}")

    def _class_source(self, cls: type) -> str | None:
        if self._classes is None:
            self._classes = {}
            for cell in self._cells:
                for node in _body(cell):
                    if isinstance(node, ast.ClassDef) and node.name not in self._classes:
                        lines = cell.splitlines()
                        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                        self._classes[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
        if cls.__name__ in self._classes:
            return self._classes[cls.__name__]
        try:
            return dedented(inspect.getsource(cls))
        except (OSError, TypeError):
            return None

    def _signature(self, name: str, contract: Signature, after: str) -> bool:
        self.imports.add("import dspex_lab as dx")
        for root, kind in contract.types.items():
            self.carry(root, kind, f"the signature {name}")
        arguments = [block(str(contract))]
        if contract.name != "StringSignature":
            arguments.append(f"name={literal(contract.name)}")
        self.definitions.append(f"{name} = {called('dx.signature', arguments, after, len(name) + 3)}")
        return True

    # --- values -----------------------------------------------------------------------------------------------

    def _made(self, name: str, value: Any) -> bool:
        if is_literal(value):
            self.definitions.append(f"{name} = {literal(value, 0, len(name) + 3)}")
            return True
        if isinstance(value, pathlib.PurePath):
            self.imports.add("from pathlib import Path")
            self.definitions.append(f"{name} = Path({literal(str(value))})")
            return True
        if type(value) in _BY_REPR:
            self.imports |= {_BY_REPR[type(value)]} - {""}
            said = repr(value)
            self.definitions.append(f"{name} = {said if chr(34) in said else said.replace(chr(39), chr(34))}")
            return True
        if isinstance(value, Pipeline):
            self.definitions.append(f"{name} = {self._build(value, self)}()")
            return True
        return is_dspy_module(value) and self._module(name, value)

    def _module(self, name: str, module: Any) -> bool:
        """Write a predictor of DSPy's with what it has learned."""
        try:
            tree = rendered({"steps": {}, "module": write_module(module, Writer())})["module"]
        except DspexError:
            return False
        if tree.keys() - {"module", "signature", "demos", "config"} or "signature" not in tree:
            return False
        predictor = module.predict if hasattr(module, "predict") else module
        if not is_literal(tree.get("demos", [])):
            return False
        self.imports |= {"import dspy", "import dspex_lab as dx"}
        contract = Signature.from_dspy(predictor.signature)
        for root, kind in contract.types.items():
            self.carry(root, kind, f"the module {name}")
        said = tree["signature"] if isinstance(tree["signature"], dict) else {"text": tree["signature"]}
        arguments = [block(said["text"]), *([f"name={literal(said['name'])}"] if "name" in said else [])]
        made = called("dx.signature", arguments, ".to_dspy()", WIDTH)
        lines = [f"{name} = {called('dspy.' + tree['module'], [made], '', len(name) + 3)}"]
        place = f"{name}.predict" if predictor is not module else name
        if "demos" in tree:
            lines.append(f"{name}_demos = {literal(tree['demos'], 0, len(name) + 9)}")
            lines.append(f"{place}.demos = [dspy.Example(**fields) for fields in {name}_demos]")
        if "config" in tree:
            lines.append(f"{place}.config = {literal(tree['config'], 0, len(place) + 10)}")
        self.definitions.append("\n".join(lines))
        return True


def _home(name: str, value: Any) -> tuple[str, str] | None:
    """Return the module and the name by which another process can import a value, or None."""
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or module == "__main__" or module not in sys.modules:
        return None
    for own in dict.fromkeys([getattr(value, "__qualname__", None), getattr(value, "__name__", None), name]):
        if isinstance(own, str) and own.isidentifier() and getattr(sys.modules[module], own, None) is value:
            return _shortest(module, own, value), own
    return None


def _shortest(module: str, own: str, value: Any) -> str:
    """Return the outermost package that gives the value under this name: ``dspy`` rather than ``dspy.predict.predict``."""
    parts = module.split(".")
    for end in range(1, len(parts)):
        outer = ".".join(parts[:end])
        if getattr(sys.modules.get(outer), own, None) is value:
            return outer
    return module


def _globals_of(cls: type) -> Mapping[str, Any]:
    return vars(sys.modules.get(cls.__module__, builtins))


def _body(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError):
        return []
