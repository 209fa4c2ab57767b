"""What a server offers: pipelines by name, what they take and give over HTTP, and the words by which a request finds them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pipelines import Alone, Pipeline, StreamEvent, is_dspy_module

#: Inputs that hold what was said before, where they are of such a type.
_HISTORY = ("history", "messages")
#: Kinds of steps that may do what is in them more than once: which time counts is known when they end.
_AGAIN = frozenset({"assert", "suggest", "loop", "each"})


@dataclass(frozen=True)
class Offer:
    """A pipeline as clients see it.

    Args:
        name: the model that they ask for.
        pipeline: what answers.
        description: what it is for, in a sentence or two; what its signatures say where nobody wrote one.
    """

    name: str
    pipeline: Pipeline
    description: str

    @cached_property
    def words(self) -> str:
        """What requests are compared with: the description, the signatures, and the names of what goes in and comes out."""
        return " ".join(dict.fromkeys([self.description, *_words(self.pipeline)]))

    @cached_property
    def text_input(self) -> str | None:
        """The input that takes free text: the first that is required and may be a text; None where there is none."""
        fitting = [n for n, f in self.pipeline.inputs.items() if _is_text(f.type) and n not in _HISTORY]
        return next((n for n in fitting if self.pipeline.inputs[n].required), fitting[0] if fitting else None)

    @cached_property
    def history_input(self) -> str | None:
        """The input that takes the conversation until now; None where there is none."""
        import dspy

        for name, field in self.pipeline.inputs.items():
            if field.type is dspy.History or (name in _HISTORY and get_origin(field.type) is list):
                return name
        return None

    @cached_property
    def content_output(self) -> str | None:
        """The output that is the answer's text: the only one, or the last where that is a text; None for all as JSON."""
        outputs = self.pipeline.outputs
        last = next(reversed(outputs))
        return last if len(outputs) == 1 or outputs[last].type is str else None

    @cached_property
    def asks(self) -> int:
        """How many predictors it has: the fewer, the simpler."""
        return len(_predictors(self.pipeline))

    @cached_property
    def uses_tools(self) -> bool:
        """Whether a part of it calls tools."""
        modules = (module for _, module in self.pipeline.as_module(Alone()).named_sub_modules())
        return any(getattr(module, "tools", None) for module in modules)

    def speaks(self, event: StreamEvent) -> bool:
        """Say whether an event is a token of the answer's text, which may be handed out before the answer is whole."""
        if event.kind != "token" or event.field is None or event.field != self.content_output or not self._flows:
            return False
        return f"{event.step}.".startswith(f"{self._giver}.")

    @cached_property
    def _flows(self) -> bool:
        """Whether what a model writes as the answer is the answer: it is a text, and nobody checks, repeats or redoes it."""
        output = self.content_output or ""
        if not _is_text(self.pipeline.outputs[output].type):
            return False  # its JSON is not what a model writes
        within = [item for at, item in self.pipeline.every_step.items() if f"{at}.".startswith(f"{self._giver}.")]
        return not any(item.kind in _AGAIN or _is_given_twice(item.target, output) for item in within)

    @cached_property
    def _giver(self) -> str:
        return dict(self.pipeline.givers)[self.content_output or ""]


class Catalogue:
    """The offers of a server, as they are at the moment.

    Args:
        pipelines: those that are there, by name; asked anew each time, so that a cell that defines one again is served at once.
        names: of those that are offered; None for all.
        descriptions: by name.
    """

    def __init__(
        self,
        pipelines: Callable[[], Mapping[str, Pipeline]],
        names: Iterable[str] | None = None,
        descriptions: Mapping[str, str] | None = None,
    ) -> None:
        self._pipelines = pipelines
        self._names = None if names is None else tuple(names)
        self._descriptions = dict(descriptions or {})
        self._made: dict[str, Offer] = {}
        self.check((*(self._names or ()), *self._descriptions))

    def check(self, names: Iterable[str]) -> None:
        """Refuse names that no pipeline has.

        Raises:
            ConfigurationError: one of them.
        """
        there = self._pipelines()
        for name in names:
            if name not in there:
                raise ConfigurationError(
                    f"There is no pipeline {name!r}.{did_you_mean(name, there)}",
                    key="pipelines",
                    expected=sorted(there),
                    actual=name,
                )

    def all(self) -> list[Offer]:
        """Return what is offered now."""
        there = dict(self._pipelines())  # a cell may define one at this moment
        chosen = there if self._names is None else {name: there[name] for name in self._names if name in there}
        return [self._offer(name, pipeline) for name, pipeline in chosen.items()]

    def get(self, name: str) -> Offer | None:
        """Return the offer of a name, None where there is none."""
        return next((offer for offer in self.all() if offer.name == name), None)

    def _offer(self, name: str, pipeline: Pipeline) -> Offer:
        known = self._made.get(name)
        if known is None or known.pipeline is not pipeline:
            said = self._descriptions.get(name) or described(pipeline)
            known = self._made[name] = Offer(name, pipeline, said)
        return known


def _is_text(kind: Any) -> bool:
    """Say whether a field of a type may hold a free text: also one with limits, or one that may be left out."""
    if get_origin(kind) is Annotated:
        return _is_text(get_args(kind)[0])
    some = [each for each in get_args(kind) if each is not NoneType] if get_origin(kind) in (Union, UnionType) else []
    return kind in (str, Any) or (len(some) == 1 and _is_text(some[0]))


def _is_given_twice(target: Any, output: str) -> bool:
    """Say whether several predictors in a module write a field."""
    if not is_dspy_module(target):
        return False
    return sum(output in predictor.signature.output_fields for _, predictor in target.named_predictors()) > 1


def described(pipeline: Pipeline) -> str:
    """Return what the signatures of a pipeline, or the functions of its steps, say that it does."""
    told = [_first(p.signature.instructions) for _, p in _predictors(pipeline) if not _is_made(p.signature.instructions)]
    told += [_first(inspect.getdoc(s.target) or "") for s in pipeline.steps.values() if inspect.isroutine(s.target)]
    if said := [line for line in dict.fromkeys(told) if line]:
        return " ".join(said)
    return f"{', '.join(pipeline.inputs)} -> {', '.join(pipeline.outputs)}"


def _words(pipeline: Pipeline) -> list[str]:
    names = [pipeline.name, *pipeline.inputs, *pipeline.outputs]
    options = [str(v) for f in pipeline.outputs.values() if get_origin(f.type) is Literal for v in get_args(f.type)]
    told = [p.signature.instructions for _, p in _predictors(pipeline) if not _is_made(p.signature.instructions)]
    fields = [f.json_schema_extra.get("desc", "") for _, p in _predictors(pipeline) for f in p.signature.fields.values()]
    said = [text for text in fields if text and not re.fullmatch(r"\$\{\w+\}", text)]
    return [*told, *(word.replace("_", " ") for word in (*names, *options)), *said]


def _predictors(pipeline: Pipeline) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = pipeline.as_module(Alone()).named_predictors()
    return found


def _is_made(instructions: str) -> bool:
    """Say whether DSPy has made the instructions out of the fields' names."""
    return instructions.startswith("Given the fields ")


def _first(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())
