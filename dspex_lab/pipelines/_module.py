"""A pipeline as a ``dspy.Module``, so that DSPy's optimizers and ``Evaluate`` take it whole."""

from __future__ import annotations

import functools
from typing import Any, Protocol

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Operation, is_dspy_module


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

    class PipelineModule(dspy.Module):
        """A pipeline as a DSPy program; the modules of its steps are its attributes, under the steps' names."""

        def __init__(self, pipeline: Pipeline, lab: Runner | None = None) -> None:
            super().__init__()
            self.pipeline = pipeline
            self._lab = _Reference(lab)
            self._attributes = {}
            for name, item in pipeline.steps.items():
                module = _module_of(item.target)
                if module is not None:
                    # A step may be called like something every Module has.
                    self._attributes[name] = f"{name}_" if hasattr(self, name) else name
                    setattr(self, self._attributes[name], module)

        def step_modules(self) -> dict[str, Any]:
            """Return the DSPy modules by step name, as they are in this program."""
            return {name: getattr(self, attribute) for name, attribute in self._attributes.items()}

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


def _module_of(target: Any) -> Any:
    """Return the DSPy module of a step, made for a routed operation, so that an optimizer sees it; None for a function."""
    import dspy

    if is_dspy_module(target):
        return target
    if isinstance(target, Operation):
        made = {"predict": dspy.Predict, "chain_of_thought": dspy.ChainOfThought}.get(target.name)
        return made(target.signature.to_dspy()) if made is not None else None
    return None


def make_module(pipeline: Pipeline, lab: Runner | None) -> Any:
    """Return ``pipeline`` as a ``dspy.Module`` that runs in ``lab``."""
    return _module_class()(pipeline, lab)
