"""Checkpoints: what the steps of a long run gave, kept so that the same run can go on after its process ended.

What is kept of a step counts only for the same work: the same code and settings, on the same inputs. So a step that was
mended, and all that follows from it, is done again, and everything else is not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dspex_lab.pipelines._fields import Shape, adapter_of
from dspex_lab.pipelines._fingerprint import fingerprint
from dspex_lab.pipelines._step import Step


class Shelf(Protocol):
    """Where checkpoints are kept; the Lab's store is one. Thread-safe."""

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
    """What is kept of one run.

    Args:
        name: the user's name for it.
        shelf: where it is kept.
        told: is told of each step whose outputs cannot be kept, and why.
    """

    def __init__(self, name: str, shelf: Shelf, told: Callable[[str, str], None]) -> None:
        self.name, self._shelf, self._told = name, shelf, told
        self._kept = shelf.checkpoint(name)
        self._lock = threading.Lock()
        self.used: list[str] = []

    def load(self, path: str, item: Step, inputs: Mapping[str, Any], shape: Shape) -> dict[str, Any] | None:
        """Return what the step gave when it did this very work before, else None."""
        found = self._kept.get(path)
        if found is None or found[0] != fingerprint(item, inputs):
            return None
        outputs = _read(found[1], shape)
        if outputs is not None:
            with self._lock:
                self.used.append(path)
        return outputs

    def save(self, path: str, item: Step, inputs: Mapping[str, Any], outputs: Mapping[str, Any], shape: Shape) -> None:
        """Keep what the step gave, where it can be read back as it is."""
        key = fingerprint(item, inputs)
        if key is None:
            self._told(path, "an input cannot be compared")
            return
        text = _written(outputs, shape)
        if text is None or _read(text, shape) != dict(outputs):
            self._told(path, "its outputs are not the same after JSON; declare their types")
            return
        why = self._shelf.put_checkpoint(self.name, path, key, text)
        if why is not None:
            self._told(path, why)

    def end(self) -> None:
        """Forget it: the run is complete."""
        self._shelf.drop_checkpoint(self.name)


def _written(outputs: Mapping[str, Any], shape: Shape) -> str | None:
    out = {}
    for field, value in outputs.items():
        adapter = adapter_of(shape.outputs[field].type) if field in shape.outputs else None
        try:
            out[field] = value if adapter is None else json.loads(adapter.dump_json(value))
        except Exception:
            return None
    try:
        return json.dumps(out, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def _read(text: str, shape: Shape) -> dict[str, Any] | None:
    outputs: dict[str, Any] = {}
    for field, value in json.loads(text).items():
        adapter = adapter_of(shape.outputs[field].type) if field in shape.outputs else None
        try:
            outputs[field] = value if adapter is None else adapter.validate_json(json.dumps(value))
        except ValueError:
            return None
    return outputs
