"""The signature: what a step takes and gives, immutable, compiled when first used."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Literal

from dspex_lab.errors import SignatureError

from ._field import Field
from ._write import Names

if TYPE_CHECKING:
    import dspy

    from ._validate import Checker

Side = Literal["inputs", "outputs"]

#: The name of a signature that nobody named, as in DSPy.
UNNAMED = "StringSignature"

#: The longest signature written on one line.
LINE = 100


def default_instructions(inputs: Iterable[str], outputs: Iterable[str]) -> str:
    """Return the instructions of a signature that has none, word for word those of DSPy."""
    listed = [", ".join(f"`{name}`" for name in names) for names in (inputs, outputs)]
    return f"Given the fields {listed[0]}, produce the fields {listed[1]}."


class Signature:
    """What a step takes and gives. Immutable; made by :func:`dspex_lab.signature`.

    Two signatures are equal when their instructions and all their fields are, in order; the name does not count, as
    it is no part of the text. ``str(sig)`` reads back: ``signature(str(sig), types=sig.types) == sig``.

    Attributes:
        name: the name.
        instructions: what the step is to do; where nobody said, the sentence DSPy would say.
    """

    __slots__ = (
        "__weakref__",
        "_cache",
        "_check_inputs",
        "_check_outputs",
        "_inputs",
        "_names",
        "_outputs",
        "instructions",
        "name",
    )

    name: str
    instructions: str
    _inputs: Mapping[str, Field]
    _outputs: Mapping[str, Field]
    _names: Mapping[str, Any]
    _cache: dict[str, Any]
    _check_inputs: Callable[..., dict[str, Any]]
    _check_outputs: Callable[..., dict[str, Any]]

    def __init__(
        self,
        fields: Iterable[Field],
        *,
        name: str = UNNAMED,
        instructions: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a signature of fields.

        Args:
            fields: inputs and outputs, each in the order they are to have.
            name: the name; also that of the class :meth:`to_dspy` makes.
            instructions: None or nothing for DSPy's own sentence. A margin that all lines share is taken off.
            names: what the types are called where the signature was written (dotted name → type).

        Raises:
            SignatureError: two fields of one name.
        """
        sides: dict[str, dict[str, Field]] = {"input": {}, "output": {}}
        for field in fields:
            if field.name in sides["input"] or field.name in sides["output"]:
                raise SignatureError(f"{name}: the field {field.name!r} is given twice.", field=field.name)
            sides[field.role][field.name] = field
        if instructions is None or not instructions.strip():
            instructions = default_instructions(sides["input"], sides["output"])
        put = object.__setattr__
        put(self, "name", name)
        put(self, "instructions", inspect.cleandoc("\n" + instructions))
        put(self, "_inputs", MappingProxyType(sides["input"]))
        put(self, "_outputs", MappingProxyType(sides["output"]))
        # A module is no type, and does not travel to other processes.
        kept = {path: value for path, value in (names or {}).items() if not isinstance(value, ModuleType)}
        put(self, "_names", MappingProxyType(kept))
        put(self, "_cache", {})
        put(self, "_check_inputs", self._first_inputs)
        put(self, "_check_outputs", self._first_outputs)

    # -- fields ---------------------------------------------------------------------------------------------------
    @property
    def inputs(self) -> Mapping[str, Field]:
        """The input fields by name, in order (read-only)."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, Field]:
        """The output fields by name, in order (read-only)."""
        return self._outputs

    @property
    def fields(self) -> dict[str, Field]:
        """All fields by name, inputs first."""
        return {**self._inputs, **self._outputs}

    @property
    def default_instructions(self) -> str:
        """The instructions the signature would have if nobody had given any."""
        return default_instructions(self._inputs, self._outputs)

    def replace(
        self, *, name: str | None = None, instructions: str | None = None, fields: Iterable[Field] | None = None
    ) -> Signature:
        """Return a signature like this one with another name, other instructions or other fields.

        Instructions that were DSPy's own sentence follow new fields.
        """
        if instructions is None and self.instructions != self.default_instructions:
            instructions = self.instructions
        new = self.fields.values() if fields is None else fields
        return Signature(new, name=name or self.name, instructions=instructions, names=self._names)

    # -- checking -------------------------------------------------------------------------------------------------
    def _checker(self, side: Side) -> Checker:
        if side not in self._cache:
            from ._validate import Checker

            self._cache[side] = Checker(self.name, side, self._inputs if side == "inputs" else self._outputs)
            object.__setattr__(self, f"_check_{side}", self._cache[side].validate)
        checker: Checker = self._cache[side]
        return checker

    # These two are pydantic-core's own functions from the first check on, so that a check that finds nothing costs one call.
    def _first_inputs(self, record: Any, *, strict: bool) -> dict[str, Any]:
        return self._checker("inputs").validate(record, strict=strict)

    def _first_outputs(self, record: Any, *, strict: bool) -> dict[str, Any]:
        return self._checker("outputs").validate(record, strict=strict)

    def validate_inputs(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``record`` checked, in the order of the fields and with defaults filled in.

        Checking is strict: nothing is coerced (``"3"`` is no int), extra and missing fields are refused. What has no JSON form
        of its own may be given in JSON form: a date as ISO text, an enum's member as its value, a model or dataclass as a dict,
        a tuple or set as a list. An input without a declared type takes any value, as in DSPy.

        Raises:
            SignatureError: naming every field that does not fit; ``field`` is the first of them.
        """
        try:
            return self._check_inputs(record, strict=True)
        except ValueError as error:
            return self._checker("inputs").again(record, error)

    def validate_outputs(self, record: Mapping[str, Any], *, lenient: bool = False) -> dict[str, Any]:
        """Return ``record`` checked as :meth:`validate_inputs` does.

        Args:
            record: the outputs by name.
            lenient: take also what Pydantic can coerce (``"3"`` for an int, ``"yes"`` for a bool) and JSON text for what is
                no text; constraints hold all the same.

        Raises:
            SignatureError: naming every field that does not fit.
        """
        try:
            return self._check_outputs(record, strict=True)
        except ValueError as error:
            return self._checker("outputs").again(record, error, lenient)

    def dump_inputs(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return inputs made of JSON's own types; what has no JSON form becomes its ``str``."""
        return self._checker("inputs").dump(record)

    def dump_outputs(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return outputs made of JSON's own types; what has no JSON form becomes its ``str``."""
        return self._checker("outputs").dump(record)

    def json_schema(self, side: Side | None = None) -> dict[str, Any]:
        """Return the JSON schema of one side's records, or of ``{"inputs": …, "outputs": …}`` when no side is given.

        An input without a declared type stands as a string, which is what DSPy takes it for; any other value is accepted too.
        """
        from ._schema import schema_of

        return schema_of(self, side)

    @classmethod
    def from_json_schema(
        cls,
        schema: Mapping[str, Any],
        name: str | None = None,
        *,
        outputs: Mapping[str, Any] | None = None,
        any_pattern: bool = False,
    ) -> Signature:
        """Return the signature that a JSON schema says: the way back of :meth:`json_schema`.

        Args:
            schema: the schema of a whole signature (an object with the properties ``inputs`` and ``outputs``), else that of
                the inputs alone, such as the parameters of a tool. Its description is the instructions.
            name: the signature's name; else the schema's title.
            outputs: the schema of the outputs, where ``schema`` is that of the inputs.
            any_pattern: take also patterns with look-around or back-references, which a text can make arbitrarily slow to
                search for; for schemas of your own.

        Objects become Pydantic models and titled enums of ``$defs`` enum classes; find them in :attr:`types`. A property that
        need not be there and has no default is None where it is absent.

        Raises:
            SignatureError: naming the place, as a JSON pointer, of what is wrong, too large or cannot be held. Nothing outside
                the schema is fetched.
        """
        from ._from_schema import from_json_schema

        return from_json_schema(schema, name, outputs, any_pattern)

    # -- DSPy -----------------------------------------------------------------------------------------------------
    def to_dspy(self) -> type[dspy.Signature]:
        """Return the same signature as a class of DSPy's, the same one each time: derive from it, do not change it.

        Descriptions and constraints are in it where DSPy's prompts show them. A signature that was made from a class of
        DSPy's returns that class.

        Raises:
            SignatureError: a type that Pydantic knows nothing of; the signature checks it, but DSPy refuses it.
        """
        if "dspy" not in self._cache:
            from ._dspy import to_dspy

            self._cache["dspy"] = to_dspy(self)
        cls: type[dspy.Signature] = self._cache["dspy"]
        return cls

    @classmethod
    def from_dspy(cls, source: type[dspy.Signature]) -> Signature:
        """Return the signature that a class of DSPy's says.

        Raises:
            SignatureError: it is no such class, or a default does not fit its type.
        """
        from ._dspy import from_dspy

        made = from_dspy(source)
        made._cache["dspy"] = source
        return made

    # -- text -----------------------------------------------------------------------------------------------------
    def _written(self) -> tuple[str, dict[str, Any]]:
        if "text" not in self._cache:
            names = Names(self._names)
            self._cache["text"] = (_to_text(self, names), names.found)
        written: tuple[str, dict[str, Any]] = self._cache["text"]
        return written

    @property
    def types(self) -> dict[str, Any]:
        """The names that ``str(self)`` uses beyond those always known; pass it as ``types`` to read the text back."""
        found: dict[str, Any] = {}
        for path, value in sorted(self._written()[1].items(), key=lambda item: item[0].count(".")):
            root, *rest = path.split(".")
            if not rest:
                found[root] = value
            elif functools.reduce(lambda owner, part: getattr(owner, part, None), rest, found.get(root)) is not value:
                owner = found.setdefault(root, _Module())
                for part in rest[:-1]:
                    owner = vars(owner).setdefault(part, _Module())
                setattr(owner, rest[-1], value)
        return found

    def __str__(self) -> str:
        return self._written()[0]

    def __repr__(self) -> str:
        return f"<Signature {self.name}: {', '.join(self._inputs)} -> {', '.join(self._outputs)}>"

    def _repr_html_(self) -> str:
        from ._html import to_html

        return to_html(self)

    # -- the usual ------------------------------------------------------------------------------------------------
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Signature):
            return NotImplemented
        return self.instructions == other.instructions and list(self.fields.values()) == list(other.fields.values())

    def __hash__(self) -> int:
        return hash((self.instructions, tuple(self._inputs), tuple(self._outputs)))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("A Signature is immutable; use sig.replace(…).")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("A Signature is immutable; use sig.replace(…).")

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled validators and DSPy's class do not travel; they are made again where they are needed.
        return (_restore, (list(self.fields.values()), self.name, self.instructions, dict(self._names)))


class _Module:
    """Stands for the module in a dotted name."""


def _restore(fields: list[Field], name: str, instructions: str, names: dict[str, Any]) -> Signature:
    return Signature(fields, name=name, instructions=instructions, names=names)


def as_docstring(instructions: str) -> str:
    """Return the docstring that ``inspect.cleandoc``, which unindents all lines but the first, makes ``instructions`` of."""
    return instructions if inspect.cleandoc(instructions) == instructions else "\n" + instructions


def _to_text(sig: Signature, names: Names) -> str:
    sides = [[field.to_text(names) for field in side.values()] for side in (sig.inputs, sig.outputs)]
    heading = "" if sig.instructions == sig.default_instructions else _docstring(sig.instructions) + "\n"
    if not any(comment for side in sides for _, comment in side):
        line = " -> ".join(", ".join(text for text, _ in side) for side in sides)
        line = line.strip()
        if len(line) <= LINE:
            return heading + line
    rows = [(text, comment) for text, comment in sides[0]]
    rows += [(("-> " if not place else "   ") + text, comment) for place, (text, comment) in enumerate(sides[1])] or [
        ("->", None)
    ]
    width = max((len(text) for text, comment in rows if comment), default=0)
    return heading + "\n".join(f"{text.ljust(width)}  # {comment}" if comment else text for text, comment in rows)


def _docstring(text: str) -> str:
    escaped = as_docstring(text).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if escaped.endswith('"'):
        escaped = escaped[:-1] + '\\"'
    for char in "\r\v\f\x00":
        escaped = escaped.replace(char, f"\\x{ord(char):02x}")
    return f'"""{escaped}"""'
