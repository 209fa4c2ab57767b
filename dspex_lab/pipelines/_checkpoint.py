"""Checkpoints: what the steps of a long run gave, kept so that the same run can go on after its process ended.

What is kept of a step counts only for the same work: the same code and settings, on the same inputs, with the same model. So
a step that was mended, and all that follows from it, is done again, and everything else is not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

from dspex_lab.errors import ConfigurationError
from dspex_lab.pipelines._cache_key import form
from dspex_lab.pipelines._fields import Shape, adapter_of, type_name
from dspex_lab.pipelines._fingerprint import joined, work_of
from dspex_lab.pipelines._module import with_modules
from dspex_lab.pipelines._result import describe
from dspex_lab.pipelines._step import Step


class Shelf(Protocol):
    """Where checkpoints are kept; the Lab's store is one. Thread-safe."""

    def hold_checkpoint(self, name: str) -> None:
        """Keep others from using ``name`` until :meth:`release_checkpoint`.

        Raises:
            ConfigurationError: a run under way uses it.
        """
        ...

    def release_checkpoint(self, name: str) -> None:
        """Let others use ``name``."""
        ...

    def put_checkpoint(self, name: str, step: str, key: str, outputs: str) -> str | None:
        """Keep ``outputs`` (JSON) of a step; it survives the death of the process when this returns.

        Returns:
            why it was not kept (it holds a secret), or None.
        """
        ...

    def checkpoint(self, name: str) -> dict[str, tuple[str, str]]:
        """Return what is kept under ``name``: by step, its key and its outputs."""
        ...

    def drop_checkpoint(self, name: str) -> None:
        """Forget what is kept under ``name``."""
        ...


class Checkpoint:
    """What is kept of one run; to be closed. Thread-safe.

    Args:
        name: the user's name for it.
        shelf: where it is kept.
        told: is told of each step whose outputs cannot be kept, and why.
        model: gives the model that a step would ask.
        modules: the DSPy modules that stand in for those of the steps, by dotted step name.

    Raises:
        ConfigurationError: the name is none, or a run under way uses it.
    """

    def __init__(
        self,
        name: str,
        shelf: Shelf,
        told: Callable[[str, str], None],
        model: Callable[[Any], Any] = lambda lm: lm,
        modules: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"checkpoint={name!r} is no name.", key="checkpoint", expected="a name", actual=name)
        self.name, self._shelf, self.told, self._model, self._modules = name, shelf, told, model, modules or {}
        shelf.hold_checkpoint(name)
        try:
            self._kept = shelf.checkpoint(name)
        except BaseException:
            shelf.release_checkpoint(name)
            raise
        self._works: dict[tuple[int, str], tuple[Step, Hashable, Any]] = {}
        self._lock = threading.Lock()

    def entry(self, name: str, path: str, item: Step, inputs: Mapping[str, Any], shape: Shape) -> Entry:
        """Return the place of one execution of a step, looked up before the step can change its inputs.

        Args:
            name: the step's dotted name; ``path`` has the index of each item and round in it too.
        """
        work, model = self._work(name, item, shape)
        key = joined(work, inputs, model)
        found = self._kept.get(path)
        kept = _read(found[1], shape) if found is not None and found[0] == key else None
        return Entry(self, path, key, kept, shape)

    def _work(self, name: str, item: Step, shape: Shape) -> tuple[Hashable, Any]:
        """Return what a step does and the model it asks, read off once: an item of a list is done by the same step."""
        known = self._works.get((id(item), name))
        if known is None:
            actual = with_modules(item, name, self._modules) if self._modules else item
            model = self._model(item.lm) if item.how.asks(item) != (0, 0) or _parts_ask(item) else None
            known = item, work_of(actual, shape), model
            with self._lock:
                self._works[id(item), name] = known
        return known[1:]

    def put(self, path: str, key: str, text: str) -> str | None:
        """Keep the outputs of a step; return why not, or None. Work that is done is not lost by a full disk."""
        try:
            return self._shelf.put_checkpoint(self.name, path, key, text)
        except Exception as error:
            return f"its outputs could not be written: {describe(error)}"

    def end(self) -> None:
        """Forget it: the run is complete."""
        self._shelf.drop_checkpoint(self.name)

    def close(self) -> None:
        """Let the next run use it."""
        self._shelf.release_checkpoint(self.name)


class Entry:
    """The place of one execution of a step in a checkpoint; ``kept`` is what it gave when it did this very work before."""

    __slots__ = ("_checkpoint", "_key", "_path", "_shape", "kept")

    def __init__(self, checkpoint: Checkpoint, path: str, key: str | None, kept: dict[str, Any] | None, shape: Shape) -> None:
        self._checkpoint, self._path, self._key, self._shape, self.kept = checkpoint, path, key, shape, kept

    def save(self, outputs: Mapping[str, Any]) -> None:
        """Keep what the step gave, where it can be read back as it is; say so where it cannot."""
        told = self._checkpoint.told
        if self._key is None:
            told(self._path, "an input cannot be compared")
            return
        text = _written(outputs, self._shape)
        if text is None or not _same(_read(text, self._shape), outputs, self._shape):
            told(self._path, "its outputs are not the same after JSON; declare their types")
            return
        why = self._checkpoint.put(self._path, self._key, text)
        if why is not None:
            told(self._path, why)


def _parts_ask(item: Step) -> bool:
    parts = item.how.parts(item).values()
    return any(part.how.asks(part) != (0, 0) or _parts_ask(part) for part in parts)


def _same(found: Mapping[str, Any] | None, outputs: Mapping[str, Any], shape: Shape) -> bool:
    """Say whether what was read back cannot be told apart from what was given, types included."""
    if found is None or found.keys() != outputs.keys():
        return False
    try:
        return all(_alike(found[f], v, shape.outputs[f].type if f in shape.outputs else Any) for f, v in outputs.items())
    except Exception:  # comparing arrays, and what is of the user's own, may raise anything
        return False


def _alike(one: Any, other: Any, declared: Any) -> bool:
    if "any" in type_name(declared).lower():
        return form(one) == form(other)
    return type(one) is type(other) and bool(one == other)


def _written(outputs: Mapping[str, Any], shape: Shape) -> str | None:
    out = {}
    for field, value in outputs.items():
        adapter = adapter_of(shape.outputs[field].type) if field in shape.outputs else None
        try:
            out[field] = value if adapter is None else json.loads(adapter.dump_json(value, warnings="error"))
        except Exception:  # a serializer of the user's own may raise anything
            return None
    try:
        return json.dumps(out, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def _read(text: str, shape: Shape) -> dict[str, Any] | None:
    """Return the outputs that ``text`` says, None where they are not those of the step any more."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or shape.outputs.keys() - found.keys():
            return None
        outputs: dict[str, Any] = {}
        for field, value in found.items():
            adapter = adapter_of(shape.outputs[field].type) if field in shape.outputs else None
            outputs[field] = value if adapter is None else adapter.validate_json(json.dumps(value))
    except Exception:  # what is kept may be damaged, and a validator of the user's own may raise anything
        return None
    return outputs
