"""The kinds a step can be of, and the registry by which users add their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines._fields import Shape

if TYPE_CHECKING:
    from dspex_lab.pipelines._context import RunContext
    from dspex_lab.pipelines._result import StepOutcome
    from dspex_lab.pipelines._step import Step


class Work(Protocol):
    """The step under way, as a kind sees it.

    Attributes:
        name: the step's name; that of an inner step is its outer step's with a dot before its own (``"reply.then"``).
        field: the name that a single value of the step has as a field (its own name, or that of the step around it).
        span_id: the step's span.
        context: the run.
        parts: receives the outcome of each inner step, by name, also where the step fails or is cancelled.
        attempt: 1 for the first try, 2 for the first retry …
        degraded: set it to what is less than wanted about the outputs: the step then ends ``partial``.
        kept: output fields that are there already, for the case that the step fails.
    """

    name: str
    field: str
    span_id: str
    context: RunContext
    parts: dict[str, StepOutcome]
    attempt: int
    degraded: str | None
    kept: dict[str, Any]

    async def call(self, function: Callable[..., Any], inputs: Mapping[str, Any], *, lm: bool = False) -> Any:
        """Return what ``function(**inputs)`` gives.

        An async one runs on this loop, a sync one in a thread; the model in use, its recording and the run stand around it.
        With ``lm=True`` DSPy is loaded first, so that ``dspy.settings.lm`` is the model in use.
        """
        ...

    async def step(
        self, name: str, item: Step, inputs: Mapping[str, Any], *, gives: str | None = None, index: int | None = None
    ) -> StepOutcome:
        """Run an inner step with its own span, limits and ``on_error``, and keep its outcome in ``parts``.

        Args:
            name: its name, without the outer one's.
            inputs: may hold more than the fields it takes.
            gives: the field that a single value of it becomes; ``name`` by default.
            index: which item or round this is; its outcome is then kept as ``name[index]``.

        Returns:
            its outcome, whatever its status; only a cancelled run raises.
        """
        ...

    def event(self, what: str, /, **data: Any) -> None:
        """Tell of an event of this step that happens now (a name of ``events.EVENT_NAMES``)."""
        ...


class Kind:
    """A kind of step; derive from it and register it with :func:`step_kind`.

    One object serves all steps of its kind, in any thread, so it keeps no state; what a step is to do is its ``target``.
    """

    #: What the kind is called in graphs, files and messages.
    name: str = ""

    #: Whether ``pool=`` may send it to a worker.
    pooled: bool = False

    def accepts(self, target: Any) -> bool:
        """Say whether ``target`` is a target of this kind; asked in order of registration, the last one first."""
        raise NotImplementedError

    def shape(self, name: str, item: Step) -> Shape:
        """Return the fields the step called ``name`` takes and gives.

        Raises:
            PipelineError: they cannot be told.
        """
        raise NotImplementedError

    async def run(self, work: Work, item: Step, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the output fields; ``inputs`` are those of the shape, an optional one that nobody gave left out.

        What it raises is the step's failure. Inner steps that ended before are in ``work.parts`` and are not lost.
        """
        raise NotImplementedError

    def parts(self, item: Step) -> Mapping[str, Step]:
        """Return the inner steps by name, for graphs, optimizers and the dry run."""
        return {}

    def with_parts(self, item: Step, parts: Mapping[str, Step]) -> Any:
        """Return the target with ``parts`` in the place of its inner steps of these names."""
        return item.target

    def repeatable(self, item: Step) -> bool:
        """Say whether doing it twice never does harm, so that ``retries=`` needs no ``idempotent=True``."""
        return False

    def plain(self, item: Step) -> bool:
        """Say whether :meth:`run` may happen in one thread without an event loop: nothing in it is awaited but ``work``."""
        return False

    def asks(self, item: Step) -> tuple[float, float] | None:
        """Return the least and the most LM calls one execution makes itself, inner steps left out; None: cannot be told."""
        return (0, 0)

    def label(self, item: Step) -> str:
        """Return a short name of what the step does."""
        return str(getattr(item.target, "__name__", type(item.target).__name__))


K = TypeVar("K", bound=type[Kind])

_kinds: dict[str, Kind] = {}
_lock = threading.Lock()


def step_kind(kind: K) -> K:
    """Register a kind of step; usable as a class decorator. One of the same name takes the place of the one before it.

    Raises:
        PipelineError: it has no name, or the name of a built-in kind.
    """
    made = kind()
    if not made.name.isidentifier():
        raise PipelineError(f"{kind.__name__}.name is {made.name!r}, which is no name.", hint="Set name = 'word'.")
    if made.name in BUILT_IN and made.name in _kinds:
        raise PipelineError(f"The kind {made.name!r} is built in.", hint="Give yours another name.")
    with _lock:
        _kinds.pop(made.name, None)
        _kinds[made.name] = made
    return kind


BUILT_IN = frozenset(
    {
        "native",
        "dspy",
        "operation",
        "lm",
        "parallel",
        "when",
        "each",
        "loop",
        "retrieve",
        "assert",
        "suggest",
        "pipeline",
        "code",
    }
)


def kinds() -> dict[str, Kind]:
    """Return the registered kinds by name."""
    with _lock:
        return dict(_kinds)


def kind_of(target: Any) -> Kind | None:
    """Return the kind that accepts ``target``, the one registered last first, or None."""
    return next((k for k in reversed(kinds().values()) if k.accepts(target)), None)


def kind_named(name: str) -> Kind:
    """Return the kind called ``name``.

    Raises:
        PipelineError: there is none.
    """
    try:
        return _kinds[name]
    except KeyError:
        known = sorted(_kinds)
        raise PipelineError(
            f"There is no kind of step {name!r}.{did_you_mean(name, known)}", hint=f"Kinds: {', '.join(known)}."
        ) from None
