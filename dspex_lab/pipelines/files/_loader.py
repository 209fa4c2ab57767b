"""From the nodes of a file to a pipeline: what a file as a whole says, and what its parts have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dspex_lab.errors import DspexError, PipelineError, did_you_mean
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step
from dspex_lab.pipelines.files._models import SETTINGS
from dspex_lab.pipelines.files._nodes import Document, Node
from dspex_lab.pipelines.files._reader import OPTIONS, StepReader
from dspex_lab.pipelines.files._refs import Allowed
from dspex_lab.pipelines.files._values import from_plain
from dspex_lab.signatures import Signature, signature

#: The most steps of one load, those in files it refers to included.
MAX_STEPS = 5_000

_SHORT = "a function's name, a template with {{ fields }}, or a mapping with a type"


class Loader:
    """Reads one file.

    Args:
        document: its text.
        allowed: what it may refer to.
        folder: the folder it is in, and ``root``, which it may not leave; None where it is no file.
        nested: reads another file: its node with the path → pipeline.
        count: is told of every step.
    """

    def __init__(
        self,
        document: Document,
        allowed: Allowed,
        nested: Callable[[Loader, Node], Pipeline],
        text_of: Callable[[Loader, Node], str],
        count: Callable[[Loader, Node], None],
    ) -> None:
        self.document, self.allowed, self.nested, self.text_of, self.count = document, allowed, nested, text_of, count
        self.presets: dict[str, dict[str, Node]] = {}
        self.types: dict[str, Any] = {}
        self.path: Path | None = None

    # --- a whole pipeline -----------------------------------------------------------------------------------------

    def pipeline(self, node: Node, *, top: bool = True) -> Pipeline:
        """Return the pipeline that a mapping says."""
        if not isinstance(node.value, dict):
            raise self.document.error(
                node, f"a pipeline is a mapping, found {node.kind}.", "Begin with name: NAME, and steps: below it."
            )
        if "workflow" in node.value and "steps" not in node.value:
            raise self.document.error(
                node.keys["workflow"], "'workflow' is of another tool; a pipeline begins with name: and steps:."
            )
        keys = ("name", "description", "variables", "steps", *(("presets", "types", "version") if top else ()))
        self.known(node.value, node, keys, "a pipeline")
        name = self._name(node)
        if top:
            self._version(node)
            self._types(node)
            self._presets(node)
        steps = self.steps(self.required(node, "steps", "the pipeline"))
        made = self._joined(name, steps, node)
        described = node.value.get("description")
        if described is not None:
            made.description = self.as_text(described, "description")
        return self._with_variables(made, node)

    def _name(self, node: Node) -> str:
        found = self.required(node, "name", "the pipeline")
        if not isinstance(found.value, str) or not found.value.strip():
            raise self.document.error(found, f"the name is {found.kind}, not a text.", "Write name: support")
        return found.value

    def _version(self, node: Node) -> None:
        found = node.value.get("version")
        if found is not None and found.value != 1:
            raise self.document.error(found, f"this file is of version {found.value!r}; version 1 is read.")

    def _types(self, node: Node) -> None:
        self.types = {k: v for k, v in self.allowed.objects.items() if isinstance(k, str)}
        for name, found in self.as_mapping(node.value.get("types"), "types").items():
            if name not in self.types:
                self.types[name] = self.reference(found)

    def _presets(self, node: Node) -> None:
        for name, found in self.as_mapping(node.value.get("presets"), "presets").items():
            settings = self.as_mapping(found, f"the preset {name!r}")
            self.known(settings, found, [*OPTIONS, "config"], f"the preset {name!r}")
            self.presets[name] = settings

    def _joined(self, name: str, steps: Mapping[str, Step], node: Node) -> Pipeline:
        listed = node.value["steps"]
        try:
            return Pipeline(name, **steps)
        except DspexError as error:
            at = listed.keys.get((getattr(error, "step", None) or "").partition(".")[0], listed)
            raise self.document.error(at, error.message, error.hint, cause=error) from error

    def _with_variables(self, made: Pipeline, node: Node) -> Pipeline:
        values = {}
        variables = node.value.get("variables")
        for name, found in self.as_mapping(variables, "variables").items():
            kind = made.inputs[name].type if name in made.inputs else Any
            try:
                values[name] = from_plain(found.plain(), kind)
            except ValueError as error:
                raise self.document.error(found, f"the variable {name!r} does not fit: {error}") from None
            try:
                made.with_defaults(**{name: values[name]})
            except PipelineError as error:
                raise self.document.error(variables.keys[name], error.message, error.hint, cause=error) from error
        return made.with_defaults(**values) if values else made

    # --- steps ------------------------------------------------------------------------------------------------

    def steps(self, node: Node) -> dict[str, Step]:
        """Return the steps of a mapping."""
        if isinstance(node.value, list):
            raise self.document.error(node, "steps is a list.", "Write each step under its name: steps: {first: {...}}")
        found = self.as_mapping(node, "steps")
        if not found:
            raise self.document.error(node, "there are no steps.", "Write each step under its name.")
        return {name: self.step(value, name) for name, value in found.items()}

    def step(self, node: Node, name: str) -> Step:
        """Return the step that a node says: a function's name, a template, or a mapping."""
        self.count(self, node)
        if isinstance(node.value, str):
            key = "template" if "{{" in node.value or "{%" in node.value else "function"
            node = Node({key: node}, node.line, node.column, keys={key: node})
        if not isinstance(node.value, dict):
            raise self.document.error(node, f"step {name!r} is {node.kind}, not {_SHORT}.")
        return StepReader(self, node, name).read()

    # --- values -----------------------------------------------------------------------------------------------

    def required(self, node: Node, key: str, what: str) -> Node:
        """Return the node of a key that must be there."""
        if key not in node.value:
            raise self.document.error(
                node, f"{what} has no {key!r}.{did_you_mean(key, [k for k in node.value if k != 'name'])}", f"Write {key}: …"
            )
        found: Node = node.value[key]
        return found

    def known(self, given: Mapping[str, Node], node: Node, keys: Iterable[str], what: str) -> None:
        """Refuse keys that are not among ``keys``."""
        listed = list(dict.fromkeys(keys))
        for key in given:
            if key not in listed:
                raise self.document.error(
                    node.keys.get(key, given[key]),
                    f"{what} has no {key!r}.{did_you_mean(key, listed)}",
                    f"Known: {', '.join(listed)}.",
                )

    def setting(self, key: str, at: Node, value: Node) -> None:
        """Refuse what is no setting of a model's call."""
        if key not in SETTINGS:
            raise self.document.error(
                at, f"{key!r} is no setting of a model.{did_you_mean(key, SETTINGS)}", f"Known: {', '.join(sorted(SETTINGS))}."
            )
        if isinstance(value.value, dict) and key != "response_format":
            raise self.document.error(value, f"{key} is {value.kind}, not a plain value.")

    def as_mapping(self, node: Node | None, what: str) -> dict[str, Node]:
        """Return the values of a mapping; nothing where there is none."""
        if node is None or node.value is None:
            return {}
        if not isinstance(node.value, dict):
            raise self.document.error(node, f"{what} is {node.kind}, not a mapping.")
        return node.value

    def as_text(self, node: Node, what: str) -> str:
        """Return a text."""
        if not isinstance(node.value, str):
            hint = "Quote it." if isinstance(node.value, int | float) else None
            raise self.document.error(node, f"{what} is {node.kind}, not a text.", hint)
        return node.value

    def listed(self, node: Node, what: str) -> list[Node]:
        """Return the values of a list."""
        if not isinstance(node.value, list):
            raise self.document.error(node, f"{what} is {node.kind}, not a list.")
        return node.value

    def reference(self, node: Node, also: Iterable[str] = ()) -> Any:
        """Return the object a node names."""
        name = self.as_text(node, "the reference")
        try:
            return self.allowed.find(name)
        except LookupError as error:
            message, hint = error.args
            near = did_you_mean(name, also) if "Did you mean" not in message else ""
            raise self.document.error(node, message + near, hint) from None
        except Exception as error:  # importing the caller's own module may do anything
            raise self.document.error(node, f"{name!r} cannot be imported: {error}", cause=error) from error

    def contract(self, node: Node) -> Signature:
        """Return the signature that a text, or a mapping of name and text, says."""
        name, text = None, node
        if isinstance(node.value, dict):
            self.known(node.value, node, ("name", "text"), "a signature")
            text = self.required(node, "text", "the signature")
            name = self.as_text(node.value["name"], "the signature's name") if "name" in node.value else None
            if name is not None and not name.isidentifier():
                raise self.document.error(node.value["name"], f"{name!r} is no name.")
        source = self.as_text(text, "the signature")
        try:
            return signature(source, types=self.types, name=name)
        except DspexError as error:
            raise self._types_wanted(self.document.within(text, error, "the signature cannot be read: ")) from error

    def type(self, node: Node) -> Any:
        """Return the type that a text says."""
        source = self.as_text(node, "the type")
        try:
            made = signature(f"-> value: {source}", types=self.types)
        except DspexError as error:
            raise self._types_wanted(
                self.document.error(node, f"the type {source!r} cannot be read: {error.message}", error.hint)
            ) from error
        if made.inputs or list(made.outputs) != ["value"]:
            raise self.document.error(
                node, f"{source!r} is more than a type.", "Write several fields as a mapping: {a: str, b: int}"
            )
        return made.outputs["value"].annotation

    @staticmethod
    def _types_wanted(error: PipelineError) -> PipelineError:
        if "unknown type" in error.message:
            near = f"{error.hint} " if "Did you mean" in str(error.hint) else ""
            error.hint = near + 'A type of your own is handed in: load_pipeline(..., functions={"Name": Name}).'
        return error
