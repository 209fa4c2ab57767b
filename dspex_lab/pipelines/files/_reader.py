"""One step of a file: what a kind's ``load(step)`` is given, and what every step may have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dspex_lab.errors import DspexError, PipelineError, did_you_mean
from dspex_lab.pipelines._batch import Batch
from dspex_lab.pipelines._kinds import kinds
from dspex_lab.pipelines._step import Step, step, step_shape
from dspex_lab.pipelines.files._models import read_lm
from dspex_lab.pipelines.files._nodes import Node, is_placed
from dspex_lab.pipelines.files._values import from_plain
from dspex_lab.signatures import Signature

if TYPE_CHECKING:
    from dspex_lab.pipelines.files._loader import Loader

#: Keys by which a step without a type is known.
_TELLING = {"function": "native", "template": "lm", "module": "dspy"}
_NUMBERS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a mapping", list: "a list"}


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
        if isinstance(node.value, bool):
            return str(node.value)
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
            if is_placed(error):
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
            if is_placed(error):
                raise
            raise self._placed(error) from error

    def _common(self, target: Any, kind: str | None) -> dict[str, Any]:
        options: dict[str, Any] = {"name": self.text("name"), "pool": self.text("pool"), "timeout": self.number("timeout")}
        if "retry_count" in self.node.value and "retries" in self.node.value:
            raise self.fail("retry_count", "is another word for retries, which is there too.", "Leave one out.")
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
