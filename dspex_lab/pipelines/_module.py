"""A pipeline as a ``dspy.Module``, so that DSPy's optimizers and ``Evaluate`` take it whole."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._modules import is_dspy_module
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Operation, Step
from dspex_lab.signatures import Signature


class Runner(Protocol):
    """Runs a pipeline; the Lab is one."""

    def run(self, x: Any, inputs: Any = None, /, **fields: Any) -> Any:
        """Run ``x`` and return its Result."""
        ...

    async def arun(self, x: Any, inputs: Any = None, /, **fields: Any) -> Any:
        """Run ``x`` on the caller's event loop's behalf and return its Result."""
        ...


#: Gives the Lab in use to modules that were not given one: the last one does. The workbench adds itself; without it, and so in
#: production, it is what runs pipelines alone.
current_runner: list[Any] = []


class _Reference:
    """Holds a Lab for a module: copies share it, and it does not travel in pickles, unless it says so (``travels``)."""

    def __init__(self, lab: Runner | None) -> None:
        self.lab = lab

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reference:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Reference, (self.lab if getattr(self.lab, "travels", False) else None,))

    def get(self) -> Runner:
        if self.lab is not None:
            return self.lab
        lab: Runner = current_runner[-1]()
        return lab


@functools.cache
def _module_classes() -> tuple[type[Any], type[Any]]:
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    class Steps(dspy.Module):
        """The modules of some steps, under the steps' names."""

        def __init__(self, steps: Mapping[str, Step], copies: dict[int, Any]) -> None:
            super().__init__()
            self._attributes: dict[str, str] = {}
            for name, item in steps.items():
                module = _own_module(item, copies) or _inner(Steps, item, copies)
                if module is not None:
                    # A step may be called like something every Module has.
                    self._attributes[name] = f"{name}_" if hasattr(self, name) else name
                    setattr(self, self._attributes[name], module)

        def step_modules(self) -> dict[str, Any]:
            """Return the DSPy modules by dotted step name, as they are in this program."""
            return dict(self._step_modules(""))

        def _step_modules(self, prefix: str) -> Iterator[tuple[str, Any]]:
            for name, attribute in self._attributes.items():
                module = getattr(self, attribute)
                if isinstance(module, Steps) and not isinstance(module, PipelineModule):
                    yield from module._step_modules(f"{prefix}{name}.")
                else:
                    yield prefix + name, module

        def __reduce__(self) -> tuple[Any, ...]:
            # By reference: a program that was saved runs with the code of the day it is loaded.
            return _blank, (isinstance(self, PipelineModule),), self.__getstate__()

    class PipelineModule(Steps):
        """A pipeline as a DSPy program; copies of the modules of its steps are its attributes, under the steps' names."""

        # No step may take these names.
        pipeline: Any = None
        _lab: Any = None

        def __init__(self, pipeline: Pipeline, lab: Runner | None = None) -> None:
            super().__init__(pipeline.steps, {})
            self.pipeline = pipeline
            self._lab = _Reference(lab)

        @property
        def replaced(self) -> bool:
            """Whether an optimizer such as KNNFewShot gave the program another ``forward``: then its steps are not all it does.

            Others put one in its place for a while and then the program's own back.
            """
            own = vars(self).get("forward")
            return own is not None and getattr(own, "__func__", own) is not PipelineModule.forward

        def forward(self, **inputs: Any) -> Any:
            """Run the pipeline with this program's modules.

            Raises:
                AdapterParseError, dspy.LMError: a step failed by it, as any DSPy program would.
                PipelineError: a step failed otherwise.
            """
            return self._prediction(self._lab.get().run(_Program(self.pipeline, self.step_modules()), inputs))

        async def aforward(self, **inputs: Any) -> Any:
            """Run the pipeline without blocking the event loop."""
            return self._prediction(await self._lab.get().arun(_Program(self.pipeline, self.step_modules()), inputs))

        def _prediction(self, result: Any) -> Any:
            # A step that fell back or went on without is no failure as long as every field came.
            if set(self.pipeline.outputs) - set(result.outputs):
                cause = _root(result.error)
                if isinstance(cause, AdapterParseError | dspy.LMError):
                    raise cause  # optimizers learn from an answer that cannot be read
                result.raise_for_status()
            return dspy.Prediction(**result.outputs)

        def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
            """Return the state of all predictors, also of those in a step that was optimized before and is frozen now."""
            with _thawed(self):
                state: dict[str, Any] = super().dump_state(json_mode)
            return state

        def load_state(self, state: Mapping[str, Any], **how: Any) -> None:
            """Take over what :meth:`dump_state` gave.

            Raises:
                PipelineError: it is the state of another pipeline; nothing was changed.
            """
            with _thawed(self):
                given, own = {n for n in state if n != "metadata"}, {n for n, _ in self.named_parameters()}
                if given != own:
                    raise PipelineError(
                        f"The state is not that of the pipeline {self.pipeline.name!r}: it has "
                        f"{', '.join(map(repr, sorted(given))) or 'nothing'}; the predictors are "
                        f"{', '.join(map(repr, sorted(own))) or 'none'}.",
                        hint="Load it into a pipeline with the same steps.",
                    )
                super().load_state(state, **how)

        def __repr__(self) -> str:
            return f"PipelineModule({self.pipeline!r})"

    return Steps, PipelineModule


class _Program(NamedTuple):
    """What a program has a Lab run: the pipeline, and the modules that stand in for those of its steps."""

    pipeline: Pipeline
    modules: Mapping[str, Any]

    def step_modules(self) -> Mapping[str, Any]:
        return self.modules


def _blank(whole: bool) -> Any:
    kind = _module_classes()[whole]
    return object.__new__(kind)


def _root(error: BaseException | None) -> BaseException | None:
    """Return what a step in another failed by."""
    while isinstance(error, PipelineError) and error.__cause__ is not None:
        error = error.__cause__
    return error


@contextlib.contextmanager
def _thawed(program: Any) -> Iterator[None]:
    """Let DSPy see the predictors of sub-modules that were compiled before, which it leaves out wherever it looks."""
    frozen = [m for _, m in program.named_sub_modules() if m is not program and getattr(m, "_compiled", False)]
    for module in frozen:
        module._compiled = False
    try:
        yield
    finally:
        for module in frozen:
            module._compiled = True


def _inner(container: type[Any], item: Step, copies: dict[int, Any]) -> Any:
    """Return the modules of a step's inner steps, None where there are none."""
    parts = item.how.parts(item)
    made = container(parts, copies) if parts else None
    return made if made is not None and made._attributes else None


def _own_module(item: Step, copies: dict[int, Any]) -> Any:
    """Return a copy of a step's module, so that who changes a program changes no pipeline; models are shared.

    Args:
        copies: those made before, by the id of the target: what two steps share they share in the program too.
    """
    if id(item.target) not in copies:
        module = module_of(item)
        copies[id(item.target)] = module if module is None or module is not item.target else _copied(module)
    return copies[id(item.target)]


def _copied(module: Any) -> Any:
    made = module.deepcopy()
    for (_, old), (_, new) in zip(module.named_sub_modules(), made.named_sub_modules(), strict=True):
        if getattr(old, "lm", None) is not None:
            new.lm = old.lm  # with a copy would go a history and connections of its own
    return made


def module_of(item: Step) -> Any:
    """Return the DSPy module of a step, made for a routed operation, so that an optimizer sees it; None for any other."""
    import dspy

    target = item.target
    if is_dspy_module(target):
        return target
    if isinstance(target, Operation) and target.name in ("predict", "chain_of_thought"):
        made = (dspy.Predict if target.name == "predict" else dspy.ChainOfThought)(target.signature.to_dspy())
        predictor = made if target.name == "predict" else made.predict
        predictor.demos = list(target.demos)
        predictor.config = {**predictor.config, **(target.config or {})}
        return made
    return None


def with_modules(item: Step, name: str, found: Mapping[str, Any]) -> Step:
    """Return a step with the modules of ``found`` (by dotted name) in it; a routed operation stays one where it can."""
    if name in found:
        target = found[name]
        return item.with_target(_as_operation(item.target, target) if isinstance(item.target, Operation) else target)
    parts = item.how.parts(item)
    changed = {n: with_modules(part, f"{name}.{n}", found) for n, part in parts.items()}
    if all(changed[n] is parts[n] for n in parts):
        return item
    return replace(item, target=item.how.with_parts(item, changed))


def _as_operation(operation: Operation, module: Any) -> Any:
    """Return the operation with what an optimizer taught ``module``; the module itself where it is more than a predictor."""
    import dspy

    plain = {"predict": dspy.Predict, "chain_of_thought": dspy.ChainOfThought}[operation.name]
    predictor = getattr(module, "predict", module)
    if type(module) is not plain or predictor.lm is not None or vars(module).get("forward"):
        return module
    learned = Signature.from_dspy(predictor.signature)
    fields = [f for f in learned.fields.values() if f.name in operation.signature.fields]
    contract = operation.signature.replace(instructions=learned.instructions, fields=fields)
    return replace(operation, signature=contract, demos=tuple(predictor.demos), config=dict(predictor.config) or None)


def run_in(program: Any, lab: Runner) -> Any:
    """Return a copy of a DSPy program whose pipelines, if there are any in it, run in ``lab``; models are shared."""
    made = _copied(program)
    for _, module in made.named_sub_modules():
        if isinstance(vars(module).get("_lab"), _Reference):
            module._lab = _Reference(lab)
    return made


def make_module(pipeline: Pipeline, lab: Runner | None) -> Any:
    """Return ``pipeline`` as a ``dspy.Module`` that runs in ``lab``."""
    return _module_classes()[1](pipeline, lab)
