"""The knobs of a pipeline: what can be turned in its steps, and pipelines with other values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspex_lab.errors import VariableError, did_you_mean
from dspex_lab.pipelines import _knob_settings as settings
from dspex_lab.pipelines._modules import is_dspy_module
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Operation, Step
from dspex_lab.pipelines.kinds import Each, LMTemplate, Loop, When
from dspex_lab.pipelines.kinds._check import Check
from dspex_lab.pipelines.kinds._retrieve import Retrieval
from dspex_lab.variables import Choice, Demos, Domain, Float, Int, Knob, ModuleChoice, Text, expose

#: What a knob of a step is made of: its name in the step, what reads and puts it, its domain, and what it is.
_Found = tuple[str, settings.Setting, Domain, str]

#: What the target of a step was made with.
_AMOUNTS: tuple[tuple[type, str, Domain, str], ...] = (
    (Each, "concurrency", Int(1, 64), "items under way at once"),
    (Loop, "limit", Int(1, 100), "rounds at most"),
    (Check, "attempts", Int(1, 10), "how often it is asked at most"),
    (Retrieval, "k", Int(1, 100), "passages at most"),
    (Retrieval, "longest", Int(1, 100_000, log=True), "characters that a passage is cut to"),
)


@dataclass(frozen=True, slots=True)
class StepKnob:
    """Reads a setting of a step of a pipeline, by the step's dotted name.

    Args:
        path: the knob's.
        unset: the value that holds where the step has none of its own.
    """

    path: str
    step: str
    setting: settings.Setting
    unset: Any = None

    def item(self, pipeline: Pipeline) -> Step:
        """Return the step.

        Raises:
            VariableError: the pipeline has no such step.
        """
        if self.step not in pipeline.every_step:
            raise VariableError(
                f"The knob {self.path!r} is not in the pipeline {pipeline.name!r}: there is no step {self.step!r}."
                f"{did_you_mean(self.step, pipeline.every_step)}",
                name=self.path,
                hint="Expose the pipeline again.",
            )
        return pipeline.every_step[self.step]

    def own(self, pipeline: Pipeline) -> Any:
        """Return the value that the step has, ``UNSET`` where it has none."""
        return self.setting.get(self.item(pipeline))

    def read(self, pipeline: Pipeline) -> Any:
        """Return the value that holds."""
        found = self.own(pipeline)
        return self.unset if found is expose.UNSET else found

    def taught(self, knob: Knob, pipeline: Pipeline) -> Knob | None:
        """Return ``knob`` with the model that is in the pipeline's module now among its options; None where it is, or none."""
        if not isinstance(self.setting, settings.Inner):
            return None
        inner = expose.with_model(self.setting.knob, settings.module_in(self.item(pipeline)))
        if inner is None:
            return None
        made = replace(self, setting=settings.Inner(inner))
        return replace(knob, domain=inner.domain, read=made.read, write=made.write, own=made.own)

    def write(self, pipeline: Pipeline, value: Any) -> None:
        """Refuse: a pipeline does not change."""
        raise VariableError(
            f"The pipeline {pipeline.name!r} does not change, so {self.path!r} cannot be put into it.",
            name=self.path,
            hint="pipelines.with_values(pipeline, values) makes another one.",
        )


def knobs(pipeline: Pipeline, *, models: Mapping[str, Any] | None = None) -> list[Knob]:
    """Return every knob of a pipeline: of the DSPy modules in its steps, of operations and templates, the parameters of native
    steps that nothing gives and that have plain defaults, and what steps were made with.

    They are named by the steps' dotted names: ``"reply.then.instructions"``, ``"find.limit"``, ``"find.timeout"``. A module
    that two steps share has the knobs of the first.

    Args:
        models: models by name, for what asks one.
    """
    given = {field for item in pipeline.every_step.values() for field in _gives(item)} | set(pipeline.defaults)
    shared: set[int] = set()
    found: list[Knob] = []
    for name, item in pipeline.every_step.items():
        module = settings.module_in(item)
        if is_dspy_module(module) and id(module) not in shared:
            shared.add(id(module))
            found.extend(_of_module(name, module, models or {}))
        if item.kind == "native" and item.batch is None:
            found.extend(_made(name, item, one) for one in _parameters(item, given))
        found.extend(_made(name, item, one) for one in _of_target(item, models or {}))
        found.extend(_made(name, item, one) for one in _of_step(item, pipeline))
    return found


def _gives(item: Step) -> set[str]:
    return set(item.how.shape(item.name or "step", item).outputs)


def _made(step: str, item: Step, one: _Found) -> Knob:
    name, setting, domain, note = one
    path = f"{step}.{name}"
    unset = expose.IN_USE if isinstance(setting, settings.StepModel) else getattr(setting, "default", None)
    read = StepKnob(path, step, setting, unset)
    owned = setting.get(item) is not expose.UNSET
    return Knob(path, domain, read.read, read.write, owned, note, own=read.own)


def _of_module(step: str, module: Any, models: Mapping[str, Any]) -> Iterator[Knob]:
    for inner in expose.knobs(module, models=models):
        path = f"{step}.{inner.path}"
        read = StepKnob(path, step, settings.Inner(inner), inner.read(module))
        yield replace(inner, path=path, read=read.read, write=read.write, own=read.own)


def _parameters(item: Step, given: set[str]) -> Iterator[_Found]:
    """Return the parameters of a function that have plain defaults and that no step gives."""
    for name, parameter in inspect.signature(item.target).parameters.items():
        if name not in given and parameter.default is not parameter.empty and expose.is_plain(parameter.default):
            domain = expose.domain_of(parameter.default)
            yield name, settings.Parameter(name), domain, "a parameter, where a run does not bring it"


def _of_target(item: Step, models: Mapping[str, Any]) -> Iterator[_Found]:
    target = item.target
    if isinstance(target, Operation):
        yield from _of_operation(target)
    if item.kind == "lm":
        yield from _of_template(target)
    for kind, attribute, domain, note in _AMOUNTS:
        if isinstance(target, kind) and getattr(target, attribute) is not None:
            value = getattr(target, attribute)
            yield attribute, settings.Amount(attribute), expose.widened(domain, value, attribute), note
    if isinstance(target, When | Loop):
        number = settings.threshold_of(target.test.source)
        if number is not None:
            domain = expose.domain_of(number.value)
            yield "threshold", settings.Threshold(), domain, f"the number in {str(target.test)!r}"
    if isinstance(target, Operation) or item.kind == "lm" or item.lm is not None:
        own = {} if item.lm is None or isinstance(item.lm, str) else expose.named_models([item.lm], {})
        named = {item.lm: None} if isinstance(item.lm, str) else {}
        choice = expose.model_choice({**own, **named, **models})
        yield "lm", settings.StepModel(choice), choice, "which model answers"


def _of_operation(operation: Operation) -> Iterator[_Found]:
    if operation.name in settings.OPERATIONS.values():
        yield "module", settings.OperationName(), ModuleChoice(tuple(settings.OPERATIONS)), "the operation that does the work"
    yield "instructions", settings.Contract(), Text(), "what the model is told to do"
    if expose.as_demos(operation.demos) is not None:
        yield "demos", settings.OperationDemos(), Demos(), "what the model is shown"
    for name in operation.signature.fields:
        yield f"{name}.desc", settings.Contract(name), Text(), f"what {name!r} is said to be"
    for key, value, domain, note in expose.call_settings(operation.config or {}, None):
        yield key, settings.OperationSetting(key, value), domain, note


def _of_template(target: str | LMTemplate) -> Iterator[_Found]:
    yield "text", settings.TemplateText(), Text(), "what the model is asked"
    if isinstance(target, LMTemplate) and target.system is not None:
        yield "system", settings.TemplateText("system"), Text(), "what the model is told first"
    options = target.options if isinstance(target, LMTemplate) else {}
    for key, value, domain, note in expose.call_settings(options, None):
        yield key, settings.TemplateOption(key, value), domain, note


def _of_step(item: Step, pipeline: Pipeline) -> Iterator[_Found]:
    if item.timeout is not None:
        yield "timeout", settings.Option("timeout"), Float(item.timeout / 10, item.timeout * 10, log=True), "seconds of one try"
    if item.retries or item.idempotent or item.how.repeatable(item):
        yield "retries", settings.Option("retries"), Int(0, max(10, item.retries)), "further tries after one that failed"
    if item.cache is not None and not isinstance(item.cache, bool):
        yield "cache", settings.Option("cache"), Float(item.cache / 10, item.cache * 10, log=True), "seconds an answer is kept"
    if item.pool is not None:
        pools = (None, *sorted(pipeline.pools))
        yield "pool", settings.Option("pool"), Choice(pools), "the workers it runs on; None is in the kernel"
    if item.batch is not None:
        size, window = item.batch.size, item.batch.window
        yield "batch.size", settings.Batching("size"), expose.widened(Int(1, 256), size, "size"), "requests in one call"
        yield (
            "batch.window",
            settings.Batching("window"),
            expose.widened(Float(0.0, 1.0), window, "window"),
            "seconds one waits",
        )


# --- other values -----------------------------------------------------------------------------------------------


def with_values(pipeline: Pipeline, values: Mapping[str, Any], found: Sequence[Knob] | None = None) -> Pipeline:
    """Return the pipeline with other values; steps that have theirs already stay the very steps they are.

    Args:
        values: by the knobs' paths.
        found: its knobs, or those of a pipeline of the same shape; by default they are found anew.

    Raises:
        VariableError: a path leads nowhere, or a value is none that the knob can have.
        PipelineError: the pipeline would not run with a value.
    """
    by_path = {k.path: k for k in (knobs(pipeline) if found is None else found)}
    edits: dict[str, list[tuple[settings.Setting, Any]]] = {}
    for path, value in values.items():
        if path not in by_path:
            raise VariableError(
                f"The pipeline {pipeline.name!r} has no knob {path!r}.{did_you_mean(path, by_path)}",
                name=path,
                hint="knobs(pipeline) lists them.",
            )
        knob = by_path[path]
        new = knob.domain.cast(value, path)
        if not knob.domain.equal(expose.present(knob, pipeline), new):
            place: StepKnob = knob.read.__self__  # type: ignore[attr-defined]
            setting = place.setting
            if isinstance(setting, settings.Inner):  # its variable may have been defined anew since, with a wider range
                setting = settings.Inner(replace(setting.knob, domain=knob.domain))
            edits.setdefault(place.step, []).append((setting, new))
    if not edits:
        return pipeline
    made = pipeline.with_steps(_Rebuilding(pipeline, edits).steps())
    made.description = pipeline.description
    return made


class _Rebuilding:
    """Steps of a pipeline made anew, from the inner ones outwards."""

    def __init__(self, pipeline: Pipeline, edits: Mapping[str, list[tuple[settings.Setting, Any]]]) -> None:
        self._pipeline, self._edits = pipeline, edits
        #: Modules that were made, by the id of the one before: what two steps share they share again.
        self._modules: dict[int, Any] = {}
        for name, changes in edits.items():
            inside = {s.knob.path: v for s, v in changes if isinstance(s, settings.Inner)}
            if inside:
                module = settings.module_in(pipeline.every_step[name])
                inner = [s.knob for s, _ in changes if isinstance(s, settings.Inner)]
                self._modules[id(module)] = expose.build(module, inside, inner)

    def steps(self) -> dict[str, Step]:
        """Return the steps by name."""
        return {name: self._step(name, item) for name, item in self._pipeline.steps.items()}

    def _step(self, name: str, item: Step) -> Step:
        parts = item.how.parts(item)
        changed = {n: self._step(f"{name}.{n}", part) for n, part in parts.items()}
        made = item
        if any(changed[n] is not parts[n] for n in parts):
            made = replace(made, target=made.how.with_parts(made, changed))
        module = self._modules.get(id(settings.module_in(item)))
        if module is not None:
            made = settings.with_module(made, module)
        for setting, value in self._edits.get(name, ()):
            if not isinstance(setting, settings.Inner):
                made = setting.put(made, value)
        return made


class Builder:
    """Makes pipelines with other values, for :class:`dspex_lab.variables.Exposure`."""

    def __call__(self, program: Pipeline, values: Mapping[str, Any], found: Sequence[Knob] | None = None) -> Pipeline:
        """Return a pipeline like ``program`` with these values; see :func:`with_values`."""
        return with_values(program, values, found)

    def modules(self, program: Pipeline) -> list[Any]:
        """Return the DSPy modules in its steps."""
        found = {id(m): m for item in program.every_step.values() for m in [settings.module_in(item)] if is_dspy_module(m)}
        return list(found.values())
