"""``%%dspex pipeline NAME``: each assignment of the cell is a step."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Make the pipeline, bind NAME to it, and show its graph."""
    import dspy

    import dspex_lab as dx
    from dspex_lab.pipelines import pipeline_from_source

    words = parse(call.line, words=1).words
    if not words or not words[0].isidentifier():
        raise ConfigurationError("A pipeline needs a name.", key="pipeline", hint=f"Write: {COMMAND.usage}")
    name = words[0]
    helpers = {"dx": dx, "dspy": dspy, "step": dx.step, "predict": dx.predict, "chain_of_thought": dx.chain_of_thought}
    made = pipeline_from_source(name, call.cell or "", {**helpers, **call.shell.user_ns})
    call.lab.pipelines[name] = made
    call.shell.user_ns[name] = made
    return made


COMMAND = Command(
    "pipeline",
    "%%dspex pipeline NAME",
    "define a pipeline: each line STEP = function, step(...) or dspy module is a step, joined by field names",
    run,
    cell=True,
    line=False,
)
