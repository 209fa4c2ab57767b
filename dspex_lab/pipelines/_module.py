"""A pipeline as a ``dspy.Module``, so that DSPy's optimizers and ``Evaluate`` take it whole."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

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


#: Gives the Lab in use to modules that were not given one; set by the workbench.
current_runner: list[Any] = []


class _Reference:
    """Holds a Lab for a module: copies share it, and it does not travel in pickles."""

    def __init__(self, lab: Runner | None) -> None:
        self.lab = lab

    def __deepcopy__(self, memo: dict[int, Any]) -> _Reference:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Reference, (None,))

    def get(self) -> Runner:
        if self.lab is not None:
            return self.lab
        if not current_runner:
            raise PipelineError("No Lab is open to run this pipeline in.", hint="Make one: dx.lab().")
        lab: Runner = current_runner[-1]()
        return lab


@functools.cache
def _module_class() -> type[Any]:
    import dspy

    class Steps(dspy.Module):
        """The modules of some steps, under the steps' names."""

        def __init__(self, steps: Mapping[str, Step]) -> None:
            super().__init__()
            self._attributes: dict[str, str] = {}
            for name, item in steps.items():
                module = module_of(item) or _inner(Steps, item)
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

    class PipelineModule(Steps):
        """A pipeline as a DSPy program; the modules of its steps are its attributes, under the steps' names."""

        # No step may take these names.
        pipeline: Any = None
        _lab: Any = None

        def __init__(self, pipeline: Pipeline, lab: Runner | None = None) -> None:
            super().__init__(pipeline.steps)
            self.pipeline = pipeline
            self._lab = _Reference(lab)

        def forward(self, **inputs: Any) -> Any:
            """Run the pipeline with this program's modules; raises PipelineError where a step failed."""
            return self._prediction(self._lab.get().run(self, inputs))

        async def aforward(self, **inputs: Any) -> Any:
            """Run the pipeline without blocking the event loop."""
            return self._prediction(await self._lab.get().arun(self, inputs))

        def _prediction(self, result: Any) -> Any:
            # A step that fell back or went on without is no failure as long as every field came.
            if set(self.pipeline.outputs) - set(result.outputs):
                result.raise_for_status()
            return dspy.Prediction(**result.outputs)

        def __repr__(self) -> str:
            return f"PipelineModule({self.pipeline!r})"

    return PipelineModule


def _inner(container: type[Any], item: Step) -> Any:
    """Return the modules of a step's inner steps, None where there are none."""
    parts = item.how.parts(item)
    made = container(parts) if parts else None
    return made if made is not None and made._attributes else None


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


def make_module(pipeline: Pipeline, lab: Runner | None) -> Any:
    """Return ``pipeline`` as a ``dspy.Module`` that runs in ``lab``."""
    return _module_class()(pipeline, lab)
