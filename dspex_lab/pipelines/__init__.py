"""Steps joined by field names into pipelines, and the engine that runs them."""

from dspex_lab.pipelines._cell import pipeline_from_source
from dspex_lab.pipelines._context import Candidate, Decide, RunContext, Submit, Usage
from dspex_lab.pipelines._engine import drive, execute
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, Work, step_kind
from dspex_lab.pipelines._module import current_runner
from dspex_lab.pipelines._modules import is_dspy_module
from dspex_lab.pipelines._pipeline import Pipeline, pipeline, single
from dspex_lab.pipelines._result import Result, StepOutcome, describe, status_of
from dspex_lab.pipelines._rows import check_columns, check_labels, read_rows, row_inputs
from dspex_lab.pipelines._runner import Runner, join_rows
from dspex_lab.pipelines._step import Operation, Step, as_signature, chain_of_thought, predict, step
from dspex_lab.pipelines._stream import AsyncRunStream, Hub, RunStream, StreamEvent
from dspex_lab.pipelines.kinds import each, loop, parallel, when

__all__ = [
    "AsyncRunStream",
    "Candidate",
    "Decide",
    "Hub",
    "Kind",
    "Operation",
    "Pipeline",
    "Result",
    "RunContext",
    "RunStream",
    "Runner",
    "Shape",
    "Step",
    "StepField",
    "StepOutcome",
    "StreamEvent",
    "Submit",
    "Usage",
    "Work",
    "as_signature",
    "chain_of_thought",
    "check_columns",
    "check_labels",
    "current_runner",
    "describe",
    "drive",
    "each",
    "execute",
    "is_dspy_module",
    "join_rows",
    "loop",
    "parallel",
    "pipeline",
    "pipeline_from_source",
    "predict",
    "read_rows",
    "row_inputs",
    "single",
    "status_of",
    "step",
    "step_kind",
    "when",
]
