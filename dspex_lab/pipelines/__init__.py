"""Steps joined by field names into pipelines, and the engine that runs them."""

from dspex_lab.pipelines._context import Candidate, Decide, RunContext, Submit, Usage
from dspex_lab.pipelines._engine import drive, execute
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._module import current_runner
from dspex_lab.pipelines._pipeline import Pipeline, pipeline, pipeline_from_source, single
from dspex_lab.pipelines._result import Result, StepOutcome, describe, status_of
from dspex_lab.pipelines._rows import check_columns, check_labels, read_rows, row_inputs
from dspex_lab.pipelines._runner import Runner, join_rows
from dspex_lab.pipelines._step import Operation, Step, as_signature, chain_of_thought, is_dspy_module, predict, step

__all__ = [
    "Candidate",
    "Decide",
    "Operation",
    "Pipeline",
    "Result",
    "RunContext",
    "Runner",
    "Shape",
    "Step",
    "StepField",
    "StepOutcome",
    "Submit",
    "Usage",
    "as_signature",
    "chain_of_thought",
    "check_columns",
    "check_labels",
    "current_runner",
    "describe",
    "drive",
    "execute",
    "is_dspy_module",
    "join_rows",
    "pipeline",
    "pipeline_from_source",
    "predict",
    "read_rows",
    "row_inputs",
    "single",
    "status_of",
    "step",
]
