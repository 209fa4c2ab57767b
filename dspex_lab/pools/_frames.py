"""From values to what travels, and back: cloudpickle with what :mod:`_serializers` knows, large buffers apart."""

from __future__ import annotations

import functools
import io
import pickle
import types
from typing import Any

import cloudpickle

from dspex_lab.pools import _reducers  # noqa: F401 - registers how arrays are taken apart
from dspex_lab.pools._serializers import REGISTRY
from dspex_lab.pools._wire import LARGE, Packed


class Pickler(cloudpickle.Pickler):
    """Pickles by value what a worker cannot import, and notes what that is.

    Args:
        buffers: gets the buffers of :data:`LARGE` bytes and more, which the pickle then refers to; None keeps all in the
            pickle.
        defined: gets the functions and classes that are pickled by value.
    """

    def __init__(self, file: io.BytesIO, buffers: list[Any] | None, defined: list[Any] | None = None) -> None:
        # Not a method: it would hold this, and so all that was pickled, until a collection finds the circle.
        super().__init__(file, 5, None if buffers is None else functools.partial(_apart, buffers))
        self._defined = defined
        self.devices: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        reducer = REGISTRY.find(kind)
        if reducer is not None:
            made = reducer(value)
            if made is not NotImplemented:
                if kind.__module__ == "torch" and value.device.type != "cpu":
                    self.devices.add(str(value.device))
                return made
        made = super().reducer_override(value)
        if self._defined is not None and made is not NotImplemented and (kind is types.FunctionType or isinstance(value, type)):
            self._defined.append(value)
        return made


def _apart(buffers: list[Any], buffer: pickle.PickleBuffer) -> bool:
    """Put a large buffer apart; return whether it stays in the pickle."""
    raw = buffer.raw()
    if raw.nbytes < LARGE:
        return True
    buffers.append(raw)
    return False


def dumps(value: Any, defined: list[Any] | None = None) -> bytes:
    """Pickle a value, with all in the pickle."""
    with io.BytesIO() as file:
        Pickler(file, None, defined).dump(value)
        return file.getvalue()


def pack(value: Any, defined: list[Any] | None = None) -> Packed:
    """Pickle a value. Its large buffers are not copied: they must not change until it has been sent.

    Raises:
        Exception: a part of it cannot travel.
    """
    buffers: list[Any] = []
    with io.BytesIO() as file:
        pickler = Pickler(file, buffers, defined)
        pickler.dump(value)
        head = file.getvalue()
    size = len(head) + sum(buffer.nbytes for buffer in buffers)
    return Packed(head, buffers, "buffers" if buffers else "inline", size, note=_note(pickler.devices), own=True)


def unpack(packed: Packed) -> Any:
    """Return the value. Its arrays are what came, not copies of it, and may be written to if the originals could be; of what
    has not travelled (a pool that is in this process) they are copies."""
    buffers = packed.buffers
    if packed.own:
        buffers = [b if b.readonly else memoryview(bytearray(b)) for b in buffers]
    return pickle.loads(packed.head, buffers=buffers)  # noqa: S301 - the two ends are one program


def _note(devices: set[str]) -> str:
    return f"tensors of {', '.join(sorted(devices))} were brought to the CPU" if devices else ""
