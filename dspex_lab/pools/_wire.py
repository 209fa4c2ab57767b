"""What goes over the wire between kernel and worker, and back.

``wire()`` gives what Dask's comm takes as it is: plain bytes, or, where there are large parts, :class:`Frames` that are
frames of their own, never copied into a pickle. ``from_wire()`` takes what comes out at the other end.

Compression is left to Dask's comm, which compresses only what goes to another machine
(``distributed.comm.Comm.handshake_info``: none on one host), and there only where the setting ``distributed.comm.compression``
names a compressor that both sides have (``auto``: lz4, else snappy, else none; Dask's own default is none), and only a frame
of 10 kB or more of which five samples of 10 kB, and then the whole, shrink to 70 % or less
(``distributed.protocol.compression.maybe_compress``).
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

#: What kind of thing a worker answers with: a value, an exception that can be rebuilt, or what else came of the call.
Kind: TypeAlias = Literal[
    "value", "error", "opaque", "memory", "gpu_memory", "unserialisable", "unloadable", "import", "cancelled", "missing"
]

#: Bytes from which a part travels in a frame of its own.
LARGE = 64 * 1024


class Frames:
    """A message with large parts: its head, and the buffers that it refers to. Pickled by protocol 5, all of it is out of
    band."""

    __slots__ = ("buffers", "head")

    def __init__(self, head: Any, *buffers: Any) -> None:
        self.head, self.buffers = head, buffers

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Frames, (pickle.PickleBuffer(self.head), *(pickle.PickleBuffer(b) for b in self.buffers))


#: A message on the wire.
Wire: TypeAlias = bytes | Frames


def _to_wire(fields: tuple[Any, ...]) -> Wire:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(fields, 5, buffer_callback=buffers.append)
    return Frames(head, *buffers) if buffers else head


def _from_wire(wire: Any) -> Any:
    # The two ends are one program, over TLS.
    return pickle.loads(wire.head, buffers=wire.buffers) if isinstance(wire, Frames) else pickle.loads(wire)  # noqa: S301


def _large(part: Any) -> Any:
    return part if len(part) < LARGE else pickle.PickleBuffer(part)


@dataclass(slots=True)
class Packed:
    """A pickled value: the pickle, and the buffers it left out (PEP 574), in their order.

    ``protocol`` is how it travels: ``inline`` (all in the pickle), ``buffers`` (out of band, in frames of their own) or
    ``shared`` (all of it lies in a file of this machine, which ``shared`` names with the sizes of its parts until it is
    mapped). ``size`` is the bytes of all of it; ``note`` says what was changed on the way; ``own`` that it has not travelled
    yet: its buffers are the memory of the value itself.
    """

    head: Any
    buffers: list[Any] = field(default_factory=list)
    protocol: Literal["inline", "buffers", "shared"] = "inline"
    size: int = 0
    shared: tuple[str, tuple[int, ...]] | None = None
    note: str = ""
    own: bool = field(default=False, compare=False)

    def fields(self) -> tuple[Any, ...]:
        if self.shared is not None:
            return b"", (), self.protocol, self.size, self.shared, self.note
        return _large(self.head), tuple(map(pickle.PickleBuffer, self.buffers)), self.protocol, self.size, None, self.note


@dataclass(slots=True)
class Code:
    """A packed callable, and what it needs in a worker: the folders its modules are found in, the sources of the cells that
    it and its arguments are from, by file name, the file names of the classes among it, and the serialisers, pickled, with a
    digest."""

    function: Any
    folders: list[str]
    sources: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    serializers: tuple[bytes, str] = (b"", "")


@dataclass(slots=True)
class Call:
    """One call as it is sent to a worker.

    ``code`` is None where the worker should have it; it answers ``missing`` if it has not. ``streams``: what the task tells on
    its way is kept for :meth:`Link.pull`. ``cpu`` is the processor seconds it may use, None for no limit.
    """

    id: str
    digest: str
    code: Code | None
    arguments: Packed
    label: str = ""
    streams: bool = False
    cpu: float | None = None

    def wire(self) -> Any:
        """Return it as an argument of Dask's ``actor_execute``."""
        code = self.code
        sent = code and (_large(code.function), code.folders, code.sources, code.classes, code.serializers)
        wire = _to_wire((self.id, self.digest, sent, self.arguments.fields(), self.label, self.streams, self.cpu))
        if isinstance(wire, bytes):
            return wire
        from distributed.protocol import to_serialize

        return to_serialize(wire)

    @classmethod
    def from_wire(cls, wire: Any) -> Call:
        call_id, digest, code, arguments, *rest = _from_wire(wire)
        return cls(call_id, digest, code and Code(*code), packed(arguments), *rest)


def packed(fields: tuple[Any, ...]) -> Packed:
    """Return a Packed from what came over the wire."""
    head, buffers, *rest = fields
    return Packed(head, list(buffers), *rest)


@dataclass(slots=True)
class Usage:
    """What a call cost in its worker: seconds of the processor, the highest resident memory while it ran and the highest GPU
    memory (bytes; None where it cannot be known)."""

    cpu_seconds: float = 0.0
    peak_memory: int | None = None
    gpu_memory: int | None = None


@dataclass(slots=True)
class Reply:
    """What came of a call."""

    kind: Kind
    body: Packed
    usage: Usage = field(default_factory=Usage)

    def wire(self) -> Wire:
        """Return it as the result of a Dask actor's method."""
        usage = self.usage
        return _to_wire((self.kind, self.body.fields(), usage.cpu_seconds, usage.peak_memory, usage.gpu_memory))

    @classmethod
    def from_wire(cls, wire: Any) -> Reply:
        kind, body, *usage = _from_wire(wire)
        return cls(kind, packed(body), Usage(*usage))


@dataclass(slots=True)
class Pulled:
    """What a streaming task has told since it was asked last, in order; ``done`` when no more will come."""

    chunks: list[Packed]
    done: bool

    def wire(self) -> Wire:
        """Return it as the result of a Dask actor's method."""
        return _to_wire((tuple(chunk.fields() for chunk in self.chunks), self.done))

    @classmethod
    def from_wire(cls, wire: Any) -> Pulled:
        chunks, done = _from_wire(wire)
        return cls([packed(chunk) for chunk in chunks], done)


@dataclass(slots=True)
class Pulse:
    """How a worker is: bytes, seconds since its process started, calls so far, and the memory of its GPU."""

    pss: int | None
    rss: int | None
    age: float
    calls: int
    gpu_memory: int | None = None

    def wire(self) -> Wire:
        """Return it as the result of a Dask actor's method."""
        return _to_wire((self.pss, self.rss, self.age, self.calls, self.gpu_memory))

    @classmethod
    def from_wire(cls, wire: Any) -> Pulse:
        return cls(*_from_wire(wire))
