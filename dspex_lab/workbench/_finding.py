"""What is run when something is to be run: the pipeline behind a name, a step, a function, a module or a signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab._options import RunOptions
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pipelines import Pipeline, as_signature, single
from dspex_lab.workbench._base import Base


class Finding(Base):
    """Finds the pipeline to run, for all doors that run one."""

    def _resolve(self, x: Any, options: RunOptions) -> tuple[Pipeline, Mapping[str, Any]]:
        """Return the pipeline to run, and the modules that stand in for those of its steps.

        Raises:
            ConfigurationError: there is no such pipeline, or a pool or a pinned operation it names does not exist.
        """
        pipeline, modules = self._find(x)
        for pool in pipeline.pools:
            self.pools.get(pool)
        if options.pin:
            self.router.check_pins(options.pin, pipeline.operations)
        return pipeline, modules

    def _find(self, x: Any) -> tuple[Pipeline, Mapping[str, Any]]:
        self._ensure_open()
        if isinstance(x, str):
            if x not in self.pipelines and "->" not in x:
                raise ConfigurationError(
                    f"There is no pipeline {x!r} in this Lab.{did_you_mean(x, self.pipelines)}",
                    key="pipeline",
                    expected=list(self.pipelines),
                    actual=x,
                    hint=f"Known: {', '.join(self.pipelines) or 'none yet; make one with %%dspex pipeline NAME'}.",
                )
            return (self.pipelines[x], {}) if x in self.pipelines else (single(as_signature(x)), {})
        own = getattr(x, "pipeline", None)
        # An optimizer such as KNNFewShot gives the program another forward(): then the program itself is the step.
        if isinstance(own, Pipeline) and hasattr(x, "step_modules") and not getattr(x, "replaced", False):
            return own, x.step_modules()
        return single(x), {}
