"""From the nodes of a file to steps: what a kind's ``load(step)`` is given, and what all steps have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dspex_lab.errors import DspexError, PipelineError, did_you_mean
from dspex_lab.pipelines._batch import Batch
from dspex_lab.pipelines._kinds import kinds
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step, step, step_shape
from dspex_lab.pipelines.files._models import SETTINGS, read_lm
from dspex_lab.pipelines.files._nodes import Document, Node
from dspex_lab.pipelines.files._refs import Allowed
from dspex_lab.pipelines.files._values import from_plain
from dspex_lab.signatures import Signature, signature

#: The most steps of one load, those in files it refers to included.
MAX_STEPS = 5_000

_SHORT = "a function's name, a template with {{ fields }}, or a mapping with a type"
#: Keys by which a step without a type is known.
_TELLING = {"function": "native", "template": "lm", "module": "dspy"}
_NUMBERS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a mapping", list: "a list"}


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
            return signature(f"-> value: {source}", types=self.types).outputs["value"].annotation
        except DspexError as error:
            raise self._types_wanted(
                self.document.error(node, f"the type {source!r} cannot be read: {error.message}", error.hint)
            ) from error
        except KeyError:
            raise self.document.error(node, f"{source!r} is no type.") from None

    @staticmethod
    def _types_wanted(error: PipelineError) -> PipelineError:
        if "unknown type" in error.message and "Did you mean" not in str(error.hint):
            error.hint = 'A type of your own is handed in: load_pipeline(..., functions={"Name": Name}).'
        return error


class StepReader:
    """One step of a file under reading. A key that no one asks for is refused as unknown.

    Attributes:
        name: the step's name.
        loader: reads the file.
    """

    def __init__(self, loader: Loader, node: Node, name: str) -> None:
        self.loader, self.node, self.name = loader, node, name
        self._asked: dict[str, None] = {}
        self._options: dict[str, Node] = dict(node.value)

    # --- what kinds ask -----------------------------------------------------------------------------------------

    def get(self, key: str) -> Node | None:
        """Return the node of a key, None where it is not there."""
        self._asked[key] = None
        return self._options.get(key)

    def need(self, key: str, kind: type | None = None) -> Node:
        """Return the node of a key that must be there, and hold a value of ``kind``."""
        found = self.get(key)
        if found is None:
            strange = [k for k in self.node.value if k not in OPTIONS and k not in self._asked]
            near = did_you_mean(key, strange).replace("Did you mean", "There is").replace("?", ".")
            raise self.loader.document.error(self.node, f"step {self.name!r} has no {key!r}.{near}", f"Write {key}: …")
        if kind is not None and (not isinstance(found.value, kind) or (kind is int and isinstance(found.value, bool))):
            raise self.fail(key, f"is {found.kind}, not {_NUMBERS[kind]}.")
        return found

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return a text."""
        found = self.get(key)
        return default if found is None or found.value is None else self.loader.as_text(found, key)

    def number(self, key: str, default: Any = None) -> Any:
        """Return a number."""
        found = self.get(key)
        if found is None or found.value is None:
            return default
        if isinstance(found.value, bool) or not isinstance(found.value, int | float):
            raise self.fail(key, f"is {found.kind}, not a number.")
        return found.value

    def flag(self, key: str, default: bool = False) -> bool:
        """Return true or false."""
        found = self.get(key)
        if found is None:
            return default
        if not isinstance(found.value, bool):
            raise self.fail(key, f"is {found.kind}, not true or false.")
        return found.value

    def items(self, key: str) -> list[Node]:
        """Return the values of a list; nothing where there is none."""
        found = self.get(key)
        return [] if found is None else self.loader.listed(found, key)

    def mapping(self, key: str) -> dict[str, Node]:
        """Return the values of a mapping; nothing where there is none."""
        return self.loader.as_mapping(self.get(key), key)

    def value(self, key: str, default: Any = None) -> Any:
        """Return plain data."""
        found = self.get(key)
        return default if found is None else found.plain()

    def reference(self, key: str) -> Any:
        """Return the object a key names."""
        return self.loader.reference(self.need(key))

    def signature(self, key: str) -> Signature:
        """Return a signature."""
        return self.loader.contract(self.need(key))

    def step(self, key: str) -> Step:
        """Return an inner step."""
        return self.loader.step(self.need(key), f"{self.name}.{key}")

    def steps(self, key: str) -> dict[str, Step]:
        """Return inner steps by name."""
        return self.loader.steps(self.need(key))

    def condition(self, node: Node) -> Any:
        """Return a condition: a text, or the function that ``{function: NAME}`` names; ``all``, ``any``, ``not`` join some."""
        if not isinstance(node.value, dict):
            return self.loader.as_text(node, "the condition")
        if len(node.value) == 1:
            key, inner = next(iter(node.value.items()))
            if key == "function":
                return self.loader.reference(inner)
            if key == "not":
                return f"not ({self._words(inner)})"
            if key in _JOINED:
                parts = [f"({self._words(one)})" for one in self.loader.listed(inner, key)]
                if parts:
                    return _JOINED[key].join(parts)
        raise self.loader.document.error(
            node, "this is no condition.", "Write a text, {function: NAME}, {all: [...]}, {any: [...]} or {not: ...}."
        )

    def _words(self, node: Node) -> str:
        found = self.condition(node)
        if not isinstance(found, str):
            raise self.loader.document.error(node, "a function cannot be part of a condition in words.")
        return found

    def fail(self, key: str, message: str, hint: str | None = None) -> PipelineError:
        """Return the error that a key of this step is wrong."""
        at = self._options.get(key) or self.node
        return self.loader.document.error(at, f"step {self.name!r}: {key} {message}", hint)

    # --- the step -----------------------------------------------------------------------------------------------

    def read(self) -> Step:
        """Return the step.

        Raises:
            PipelineError: something about it is wrong; nothing was run.
        """
        from dspex_lab.pipelines.files._kinds import wrapped

        self._take_preset()
        kind = self._kind()
        condition = self.get("condition") if kind != "when" else None
        target, how = self._target(kind)
        options = self._common(target, how)
        unknown = [k for k in self.node.value if k not in OPTIONS and k not in self._asked]
        if unknown:
            known = [*(k for k in self._asked if k not in OPTIONS), *OPTIONS]
            raise self.loader.document.error(
                self.node.keys.get(unknown[0], self.node),
                f"step {self.name!r} of type {kind!r} has no {unknown[0]!r}.{did_you_mean(unknown[0], known)}",
                f"It takes {', '.join(known)}.",
            )
        made = self._checked(lambda: step(target, kind=how, **options))
        return made if condition is None else self._checked(lambda: wrapped(self, condition, made), condition)

    def _checked(self, make: Callable[[], Step], at: Node | None = None) -> Step:
        """Return a step whose fields can be told."""
        try:
            made = make()
            step_shape(self.name.rpartition(".")[2] or self.name, made)
            return made
        except DspexError as error:
            if error.line is not None and error.text == self.loader.document.text:
                raise
            raise self._placed(error, at) from error

    def _placed(self, error: DspexError, at: Node | None = None) -> PipelineError:
        """Point an error at the key whose text it is about, else at the step."""
        about = error.text
        said = next((n for n in _texts(self.node) if about is not None and n.value.strip() == about.strip()), None)
        named = next((n for k, n in self.node.value.items() if f"{k}=" in error.message), None)
        return self.loader.document.within(said or at or named or self.node, error, f"step {self.name!r}: ")

    def _take_preset(self) -> None:
        own = self._options
        chosen = own.get("preset")
        if chosen is not None:
            name = self.loader.as_text(chosen, "preset")
            if name not in self.loader.presets:
                near = did_you_mean(name, self.loader.presets)
                known = ", ".join(self.loader.presets) or "none"
                raise self.loader.document.error(chosen, f"there is no preset {name!r}.{near}", f"Presets: {known}.")
        else:
            name = "default"
        for key, value in self.loader.presets.get(name, {}).items():
            fits = key in OPTIONS or key in own or "signature" in own or "template" in own
            if (chosen is not None or fits) and not (chosen is None and self._nests()):
                own.setdefault(key, value)

    def _nests(self) -> bool:
        """Say whether the step is made of others, which take the default preset themselves."""
        found = self._options.get("type")
        return found is not None and found.value in _NESTING

    def _kind(self) -> str:
        found = self.get("type")
        if found is None:
            told = [k for k in _TELLING if k in self.node.value]
            if len(told) != 1:
                raise self.loader.document.error(
                    self.node,
                    f"step {self.name!r} has no type.",
                    f"Write type: one of {', '.join(sorted(self._known_kinds()))}.",
                )
            return _TELLING[told[0]]
        name = self.loader.as_text(found, "type")
        known = self._known_kinds()
        if name not in known:
            hint = f"Types: {', '.join(sorted(known))}."
            raise self.loader.document.error(found, f"there is no type of step {name!r}.{did_you_mean(name, known)}", hint)
        return name

    @staticmethod
    def _known_kinds() -> set[str]:
        from dspex_lab.pipelines.files._kinds import LOADERS

        return {*LOADERS, *(n for n, k in kinds().items() if hasattr(k, "load"))}

    def _target(self, kind: str) -> tuple[Any, str | None]:
        """Return what the step does, and the kind it is of, where that is not seen from it."""
        from dspex_lab.pipelines.files._kinds import LOADERS

        try:
            if kind in LOADERS:
                return LOADERS[kind](self), kind if kind in _SAID else None
            return kinds()[kind].load(self), kind  # type: ignore[attr-defined]
        except DspexError as error:
            if error.line is not None and error.text == self.loader.document.text:
                raise
            raise self._placed(error) from error

    def _common(self, target: Any, kind: str | None) -> dict[str, Any]:
        options: dict[str, Any] = {"name": self.text("name"), "pool": self.text("pool"), "timeout": self.number("timeout")}
        self._options.setdefault("retries", self._options.get("retry_count", Node(0, 0, 0)))
        options["retries"] = self.need("retries", int).value
        options["idempotent"], options["replaces"] = self.flag("idempotent"), self.flag("replaces")
        cache = self.get("cache")
        if cache is not None and cache.value is not None and not isinstance(cache.value, bool | int | float):
            raise self.fail("cache", f"is {cache.kind}, not seconds or true.")
        options["cache"] = None if cache is None or cache.value is False else cache.value
        options["outputs"] = tuple(self.loader.as_text(n, "an output") for n in self.items("outputs"))
        options["batch"] = self._batch()
        lm = self.get("lm")
        options["lm"] = None if lm is None or lm.value is None else read_lm(lm, self.loader)
        on_error = self.get("on_error")
        options["on_error"] = "stop" if on_error is None else self.loader.as_text(on_error, "on_error")
        fallback = self.get("fallback")
        if fallback is not None:
            if on_error is not None and options["on_error"] != "fallback":
                raise self.fail("on_error", f"is {options['on_error']!r}, and there is a fallback.", "Leave one of them out.")
            options["on_error"] = "fallback"
            options["fallback"] = self._fallback(fallback, target, kind, options)
        return options

    def _batch(self) -> Batch | None:
        given = self.get("batch")
        if given is None or given.value is None:
            return None
        settings = self.loader.as_mapping(given, "batch")
        self.loader.known(settings, given, ("size", "window"), "batch")
        try:
            return Batch(**{k: v.plain() for k, v in settings.items()})
        except PipelineError as error:
            raise self.loader.document.error(given, error.message, error.hint) from error

    def _fallback(self, node: Node, target: Any, kind: str | None, options: Mapping[str, Any]) -> Any:
        """Return a function, or values of the types of the step's outputs."""
        if isinstance(node.value, dict) and len(node.value) == 1:
            key, inner = next(iter(node.value.items()))
            if key == "function":
                return self.loader.reference(inner)
            if key == "value":
                node = inner
        about = {k: options[k] for k in ("outputs", "batch")}
        probe = self._checked(lambda: step(target, kind=kind, **about))
        outputs = step_shape(self.name.rpartition(".")[2] or self.name, probe).outputs
        try:
            if isinstance(node.value, dict):
                return {k: from_plain(n.plain(), outputs[k].type if k in outputs else Any) for k, n in node.value.items()}
            only = next(iter(outputs.values())).type if len(outputs) == 1 else Any
            return from_plain(node.plain(), only)
        except ValueError as error:
            raise self.loader.document.error(node, f"the fallback does not fit: {error}") from None


def _texts(node: Node) -> Iterable[Node]:
    if isinstance(node.value, str):
        yield node
    elif isinstance(node.value, dict | list):
        for part in node.value.values() if isinstance(node.value, dict) else node.value:
            yield from _texts(part)


_JOINED = {"all": " and ", "and": " and ", "any": " or ", "or": " or "}
_NESTING = frozenset({"parallel", "when", "switch", "each", "loop", "assert", "suggest", "pipeline"})
#: Kinds whose targets another kind may take too.
_SAID = frozenset({"assert", "suggest", "compute", "transform"})

#: Keys that every step may have.
OPTIONS = (
    "type",
    "description",
    "preset",
    "condition",
    "name",
    "pool",
    "timeout",
    "retries",
    "retry_count",
    "idempotent",
    "cache",
    "batch",
    "lm",
    "on_error",
    "fallback",
    "replaces",
    "outputs",
)
