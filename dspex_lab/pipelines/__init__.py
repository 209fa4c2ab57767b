"""Steps joined by field names into pipelines, and the engine that runs them."""

from dspex_lab.pipelines._alone import Alone
from dspex_lab.pipelines._batch import Batch
from dspex_lab.pipelines._cell import names_in, pipeline_from_source
from dspex_lab.pipelines._context import Candidate, Decide, RunContext, Seats, Submit, Usage
from dspex_lab.pipelines._engine import drive, execute
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._kinds import Kind, Work, step_kind
from dspex_lab.pipelines._knobs import Builder, knobs, with_values
from dspex_lab.pipelines._module import current_runner, run_in
from dspex_lab.pipelines._modules import is_dspy_module, module_contract
from dspex_lab.pipelines._pipeline import Pipeline, pipeline, single
from dspex_lab.pipelines._result import Result, StepOutcome, describe, status_of
from dspex_lab.pipelines._run_stream import AsyncRunStream, RunStream
from dspex_lab.pipelines._runner import Bound, Runner
from dspex_lab.pipelines._step import Operation, Step, as_signature, chain_of_thought, predict, step
from dspex_lab.pipelines._stream import Hub, StreamEvent
from dspex_lab.pipelines._told import progress, tell
from dspex_lab.pipelines.dryrun import CheckReport, Surroundings
from dspex_lab.pipelines.files import compute, load_pipeline, read_fields, same, save, to_python, transform
from dspex_lab.pipelines.kinds import (
    Code,
    Index,
    LMTemplate,
    assert_,
    code,
    each,
    index,
    loop,
    parallel,
    retrieve,
    suggest,
    template,
    when,
)
from dspex_lab.pipelines.maps import MapOptions, MapPlan, MapResult, Maps, check_columns, check_labels, is_query, read_rows

__all__ = [
    "Alone",
    "AsyncRunStream",
    "Batch",
    "Bound",
    "Builder",
    "Candidate",
    "CheckReport",
    "Code",
    "Decide",
    "Hub",
    "Index",
    "Kind",
    "LMTemplate",
    "MapOptions",
    "MapPlan",
    "MapResult",
    "Maps",
    "Operation",
    "Pipeline",
    "Result",
    "RunContext",
    "RunStream",
    "Runner",
    "Seats",
    "Shape",
    "Step",
    "StepField",
    "StepOutcome",
    "StreamEvent",
    "Submit",
    "Surroundings",
    "Usage",
    "Work",
    "as_signature",
    "assert_",
    "chain_of_thought",
    "check_columns",
    "check_labels",
    "code",
    "compute",
    "current_runner",
    "describe",
    "drive",
    "each",
    "execute",
    "index",
    "is_dspy_module",
    "is_query",
    "knobs",
    "load_pipeline",
    "loop",
    "module_contract",
    "names_in",
    "parallel",
    "pipeline",
    "pipeline_from_source",
    "predict",
    "progress",
    "read_fields",
    "read_rows",
    "retrieve",
    "run_in",
    "same",
    "save",
    "single",
    "status_of",
    "step",
    "step_kind",
    "suggest",
    "tell",
    "template",
    "to_python",
    "transform",
    "when",
    "with_values",
]
