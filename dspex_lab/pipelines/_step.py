"""A step: a named unit of work with input and output fields."""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, ParamSpec, TypeVar

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.pipelines._fields import Shape
from dspex_lab.pipelines._kinds import Kind, kind_named, kind_of
from dspex_lab.signatures import UNNAMED, Signature, signature

OnError = Literal["stop", "continue", "fallback"]


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """Work that several implementations can do; the router chooses which one does it.

    Args:
        name: the operation, such as ``"predict"``; implementations register under it.
        signature: what it takes and gives.
        demos: demonstrations (``dspy.Example``) that its predictor shows to the model, as an optimizer found them.
        config: settings of its LM calls (``temperature`` …).
    """

    name: str
    signature: Signature
    demos: tuple[Any, ...] = ()
    config: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Return the name under which statistics are kept: the operation and its signature's name or fields."""
        contract = self.signature
        fields = f"{', '.join(contract.inputs)} -> {', '.join(contract.outputs)}"
        return f"{self.name}({fields if contract.name == UNNAMED else contract.name})"


def predict(contract: Any) -> Operation:
    """Return the routed operation that answers ``contract`` (a signature, its text, or a ``dspy.Signature`` class)."""
    return Operation("predict", as_signature(contract, depth=2))


def chain_of_thought(contract: Any) -> Operation:
    """Return the routed operation that answers ``contract`` after reasoning step by step."""
    return Operation("chain_of_thought", as_signature(contract, depth=2))


def as_signature(contract: Any, depth: int = 1) -> Signature:
    """Return ``contract`` as a Signature; names of types are looked up in the caller's frame, ``depth`` frames up."""
    if isinstance(contract, Signature):
        return contract
    if isinstance(contract, type) and hasattr(contract, "input_fields"):
        return Signature.from_dspy(contract)
    frame = sys._getframe(depth)
    return signature(contract, types={**frame.f_globals, **frame.f_locals})


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Step:
    """What a step does and how; made by :func:`step`."""

    target: Any
    how: Kind
    name: str | None = None
    pool: str | None = None
    timeout: float | None = None
    retries: int = 0
    idempotent: bool = False
    cache: float | bool | None = None
    batch: Any = None
    lm: Any = None
    on_error: OnError = "stop"
    fallback: Any = None
    replaces: bool = False
    outputs: tuple[str, ...] = field(default=())

    def with_target(self, target: Any) -> Step:
        """Return the same step doing ``target``."""
        return replace(self, target=target, how=_kind(target, self.name))

    @property
    def kind(self) -> str:
        """Return the name of its kind."""
        return self.how.name

    @property
    def plain(self) -> bool:
        """Say whether it may run in one thread without an event loop."""
        return not (self.pool or self.timeout or self.retries or self.batch) and self.how.plain(self)

    @property
    def bare(self) -> bool:
        """Say whether it runs in the kernel with nothing around the work."""
        return not (self.guarded or self.pool or self.lm)

    @property
    def guarded(self) -> bool:
        """Say whether something stands around the work itself."""
        return bool(self.timeout or self.retries or self.cache or self.batch)


P = ParamSpec("P")
R = TypeVar("R")


def _refusing_unknown_options(function: Callable[P, R]) -> Callable[P, R]:
    """Let ``function`` say which keyword it does not know, and which one may be meant; type checkers see it as it is."""
    options = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]

    @functools.wraps(function)
    def refusing(*args: P.args, **given: P.kwargs) -> R:
        for name in given:
            if name not in options and name != "target":
                raise PipelineError(
                    f"{function.__name__}() has no option {name!r}.{did_you_mean(name, options)}",
                    hint=f"Its options are {', '.join(options)}.",
                )
        return function(*args, **given)

    return refusing


@_refusing_unknown_options
def step(
    target: Any,
    *,
    name: str | None = None,
    kind: str | None = None,
    pool: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    idempotent: bool = False,
    cache: float | bool | None = None,
    batch: Any = None,
    lm: Any = None,
    on_error: OnError = "stop",
    fallback: Any = None,
    replaces: bool = False,
    outputs: tuple[str, ...] | list[str] = (),
) -> Step:
    """Return ``target`` as a step.

    Args:
        target: a function (sync or async), a ``dspy.Module``, a template (``"Summarise {{ text }}"``), a pipeline, a routed
            operation such as ``dx.predict(...)``, what ``dx.when(...)``, ``dx.each(...)`` and their like give, or a step,
            which then gets these options too.
        name: how the step is called; in a pipeline the keyword it is given under.
        kind: the kind of step, where it is not the one that takes such a target.
        pool: the worker pool it runs on; None is in the kernel.
        timeout: seconds one try may take.
        retries: further tries after one that failed, after growing, jittered pauses. Only work that may be repeated without
            harm is: say ``idempotent=True`` where it is not of a kind that always may be (``dx.predict``, templates).
        idempotent: repeating it does no harm.
        cache: seconds for which equal inputs are answered from memory; True is until the Lab is closed.
        batch: ``dx.Batch(size, window)``: the function takes lists, and like requests are put together for it.
        lm: the model this step, and the steps in it, use (``"openai/gpt-5-mini"`` or a ``dspy.LM``); None is the one in use.
        on_error: ``"stop"``: steps that need its fields are skipped and all others still run; ``"continue"``: its fields
            become None and the steps that need them run; ``"fallback"``: ``fallback`` does it instead. The run is then
            ``partial``.
        fallback: a function of the same inputs, or a dict with the output fields.
        replaces: its output may be a field that exists already; later steps see the new value.
        outputs: the names of the fields it gives, where they cannot be read off the function. One name receives the
            return value as it is.

    Raises:
        PipelineError: ``target`` is none of these, or the options contradict each other.
    """
    given = {
        "name": name,
        "pool": pool,
        "timeout": timeout,
        "retries": retries,
        "idempotent": idempotent,
        "cache": cache,
        "batch": batch,
        "lm": lm,
        "on_error": on_error,
        "fallback": fallback,
        "replaces": replaces,
        "outputs": tuple(outputs),
    }
    if isinstance(target, Step):
        made = replace(target, **{k: v for k, v in given.items() if v != _DEFAULTS[k]})
    else:
        target = as_target(target)
        made = Step(target, kind_named(kind) if kind else _kind(target, name), **given)
    _check_options(made)
    return made


_DEFAULTS = {f.name: f.default for f in fields(Step)}


def as_target(value: Any) -> Any:
    """Return a signature as the operation ``predict``, anything else as it is."""
    if isinstance(value, Signature) or (isinstance(value, type) and hasattr(value, "input_fields")):
        return Operation("predict", as_signature(value))
    return value


def as_step(value: Any, name: str | None = None) -> Step:
    """Return a step as it is, anything else wrapped by :func:`step`; a signature becomes ``predict``."""
    return value if isinstance(value, Step) else step(value, name=name)


def check_name(name: str) -> None:
    """Refuse a name that could not be told from that of an inner step (``"outer.inner"``) or of an item (``"item[0]"``).

    Raises:
        PipelineError: it is empty, or has a dot or a bracket in it.
    """
    if not isinstance(name, str) or not name.strip() or any(c in name for c in ".[]"):
        raise PipelineError(f"{name!r} is no name of a step.", hint="Use letters, digits and underscores.")


def _check_options(made: Step) -> None:
    what = f"Step {made.name!r}" if made.name else "A step"

    def refuse(message: str, hint: str) -> PipelineError:
        return PipelineError(f"{what}: {message}", step=made.name, hint=hint)

    if made.name is not None:
        check_name(made.name)
    if made.on_error not in ("stop", "continue", "fallback"):
        raise refuse(f"on_error={made.on_error!r} is unknown.", "Use 'stop', 'continue' or 'fallback'.")
    if (made.on_error == "fallback") != (made.fallback is not None):
        raise refuse("on_error='fallback' and fallback= belong together.", "Give both, or neither.")
    if made.timeout is not None and not (_is_number(made.timeout) and made.timeout > 0):
        raise refuse(f"timeout={made.timeout!r} is not a number of seconds above 0.", "Give seconds, or None for no limit.")
    if isinstance(made.retries, bool) or not isinstance(made.retries, int) or made.retries < 0:
        raise refuse(f"retries={made.retries!r} is no number of further tries.", "Give 0 or more.")
    if made.retries and not (made.idempotent or made.how.repeatable(made)):
        raise refuse(
            "it may only be tried again where that does no harm.", "Say idempotent=True if repeating it is safe, or retries=0."
        )
    if made.cache is not None and not (isinstance(made.cache, bool) or (_is_number(made.cache) and made.cache > 0)):
        raise refuse(f"cache={made.cache!r} is not a number of seconds above 0.", "Give seconds, True, or None for no cache.")
    if made.pool is not None and not made.how.pooled:
        raise refuse(
            "a routed operation has no pool of its own."
            if made.kind == "operation"
            else f"a step of kind {made.kind!r} runs in the kernel.",
            'Pin it: RunOptions(pin={"predict": "pool"}), or give a dspy module.'
            if made.kind == "operation"
            else "Give pool= to the steps in it.",
        )
    if made.batch is not None and (made.kind != "native" or made.pool is not None):
        raise refuse("only a function in the kernel can be given many requests at once.", "Leave out batch=, or pool=.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(target: Any, name: str | None) -> Kind:
    found = kind_of(target)
    if found is not None:
        return found
    what = f"Step {name!r}" if name else "A step"
    raise PipelineError(
        f"{what} is {type(target).__name__} {_short(target)}, which cannot be run.",
        step=name,
        hint="Give a function, a dspy.Module such as dspy.Predict(...), dx.predict(...), a template or a pipeline.",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_shapes: weakref.WeakKeyDictionary[Step, dict[str, Shape]] = weakref.WeakKeyDictionary()


def step_shape(name: str, item: Step) -> Shape:
    """Return what the step called ``name`` takes and gives; read once per step and name.

    Raises:
        PipelineError: its fields cannot be told.
    """
    known = _shapes.setdefault(item, {})
    if name not in known:
        known[name] = item.how.shape(name, item)
    return known[name]


def label(target: Any) -> str:
    """Return a short name of what a step does, for views and spans."""
    if isinstance(target, Operation):
        return target.key
    whole = getattr(target, "pipeline", None)
    return getattr(whole, "name", None) or getattr(target, "__name__", None) or type(target).__name__
