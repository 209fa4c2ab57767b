"""Reads the answer of a model in DSPy's Chat or JSON format, with the field parsers made once.

An answer that is as asked for is read here. What is malformed goes to DSPy's own parser, so that what can still be
read of it, and the error where nothing can, are DSPy's (``AdapterParseError``).
"""

from __future__ import annotations

import ast
import enum
import functools
import json
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from dspex_lab.native._prompt import Format, make_adapter

_HEADER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_ADAPTER_NAMES = {"chat": "ChatAdapter", "json": "JSONAdapter"}


class AnswerReader:
    """Reads answers to one signature. Immutable, thread-safe.

    Args:
        signature: the ``dspy.Signature`` class the model was asked with.
        form: the form it was asked to answer in.
        original: the signature the caller sees, where fields of it were not asked for because the model gives them
            beside its text (``dspy.Reasoning``).
    """

    def __init__(self, signature: Any, form: Format, original: Any = None) -> None:
        from dspy import Reasoning

        self._signature = signature
        self._original = signature if original is None else original
        self._adapter = make_adapter(form)
        self._form = form
        self._split = _sections if form == "chat" else _members
        self._parsers = {n: _parser(f.annotation) for n, f in signature.output_fields.items()}
        self._reasoning = [n for n, f in self._original.output_fields.items() if f.annotation is Reasoning]

    def read(self, output: str | Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the output fields, in the order of the signature, and ``logprobs`` where the model gave some.

        Args:
            output: what an LM returned for one candidate: its text, or a dict with ``text`` and more.

        Raises:
            dspy.utils.exceptions.AdapterParseError: it cannot be read.
        """
        text, logprobs = output, None
        if isinstance(output, dict):
            text, logprobs = output.get("text"), output.get("logprobs")
        if not text:
            raise self._empty(output)
        values = self._parsed(text)
        if self._original is not self._signature:
            values = self._completed(values)
        if self._reasoning:
            self._add_reasoning(values, output)
        if logprobs:
            values["logprobs"] = logprobs
        return values

    def _parsed(self, text: Any) -> dict[str, Any]:
        values = self._quick(text)
        if values is not None:
            return values
        parsed: dict[str, Any] = self._adapter.parse(self._signature, text)
        return parsed

    def _quick(self, text: str) -> dict[str, Any] | None:
        found = self._split(text)
        if found is None:
            return None
        try:
            # In the order of the answer: a field that cannot be read hides the faults of those after it.
            values = {name: self._parsers[name](value) for name, value in found.items() if name in self._parsers}
        except ValueError:
            return None
        return {name: values[name] for name in self._parsers} if len(values) == len(self._parsers) else None

    def _completed(self, values: dict[str, Any]) -> dict[str, Any]:
        from dspy.adapters.utils import apply_output_field_defaults

        values = apply_output_field_defaults(self._original, values)
        for name in self._original.output_fields:
            values.setdefault(name, None)
        return values

    def _add_reasoning(self, values: dict[str, Any], output: Any) -> None:
        from dspy import Reasoning

        for name in self._reasoning:
            thought = Reasoning.parse_lm_response(output)
            if thought is not None:
                values[name] = thought

    def _empty(self, output: Any) -> Exception:
        from dspy.utils.exceptions import AdapterParseError

        return AdapterParseError(
            adapter_name=_ADAPTER_NAMES[self._form],
            signature=self._original,
            lm_response=str(output),
            message="The LM returned an empty or null response.",
        )


def _sections(text: str) -> dict[str, str]:
    """Return the text under each header; of a header that comes twice the first counts."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        match = _HEADER.match(line.strip()) if "[[ ##" in line else None
        if match is None:
            lines.append(line)
            continue
        # As DSPy: the end of the match in the stripped line, taken of the line as it stands.
        rest = line[match.end() :].strip()
        lines = [rest] if rest else []
        found.setdefault(match.group(1), lines)
    return {name: "\n".join(lines).strip() for name, lines in found.items()}


def _members(text: str) -> dict[str, Any] | None:
    value = _loads(text)
    return value if isinstance(value, dict) else None


def _loads(text: str) -> Any:
    """Return what ``json_repair.loads`` does, which begins with this very try."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        import json_repair

        return json_repair.loads(text)


def _parser(annotation: Any) -> Callable[[Any], Any]:
    """Return the function that turns what a model wrote into the field's type (``adapters/utils.py: parse_value``).

    It raises ValueError (Pydantic's ValidationError is one) where that is impossible.
    """
    if annotation is str:
        return str
    if isinstance(annotation, enum.EnumMeta):
        return functools.partial(_member, annotation)
    validate = _validator(annotation)
    args = get_args(annotation)
    if get_origin(annotation) is Literal:
        return functools.partial(_literal, args, validate)
    if get_origin(annotation) in (Union, types.UnionType) and type(None) in args and str in args:
        return validate
    return functools.partial(_value, validate, _is_custom(annotation))


def _validator(annotation: Any) -> Callable[[Any], Any]:
    """Return Pydantic's validation of a type; the adapter is made at first use, where its error belongs."""

    @functools.cache
    def adapter() -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(annotation)

    def validate(value: Any) -> Any:
        return adapter().validate_python(value)

    return validate


def _is_custom(annotation: Any) -> bool:
    from dspy.adapters.types import Type

    # A generic such as `list[str]` passes isinstance(…, type) on some versions and is no class for issubclass.
    return isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, Type)


def _member(kind: Any, value: Any) -> Any:
    for member in kind:
        if member.value == value:
            return member
    if value in kind.__members__:
        return kind[value]
    raise ValueError(f"{value} is not a valid name or value for the enum {kind.__name__}")


def _literal(allowed: tuple[Any, ...], validate: Callable[[Any], Any], value: Any) -> Any:
    if value in allowed:
        return value
    if isinstance(value, str):
        value = value.strip()
        if value.startswith(("Literal[", "str[")) and value.endswith("]"):
            value = value[value.find("[") + 1 : -1]
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if value in allowed:
            return value
    return _value(validate, False, value)


def _value(validate: Callable[[Any], Any], custom: bool, value: Any) -> Any:
    if not isinstance(value, str):
        return validate(value)
    candidate = _loads(value)
    if candidate == "" and value != "":
        try:
            candidate = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            candidate = value
    try:
        return validate(candidate)
    except ValueError as error:
        from pydantic import ValidationError

        if not (custom and isinstance(error, ValidationError)):
            raise
        # A type of DSPy's may have a parser of its own for the text as it stands.
        return validate(value)
