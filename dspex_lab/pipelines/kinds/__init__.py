"""The kinds a step can be of; one kind, one file. A kind registers itself when its module is imported."""

from dspex_lab.pipelines.kinds._check import assert_, suggest
from dspex_lab.pipelines.kinds._code import Code, code
from dspex_lab.pipelines.kinds._dspy import DspyKind
from dspex_lab.pipelines.kinds._each import Each, each
from dspex_lab.pipelines.kinds._index import Index, index
from dspex_lab.pipelines.kinds._loop import Loop, loop
from dspex_lab.pipelines.kinds._native import NativeKind
from dspex_lab.pipelines.kinds._operation import OperationKind
from dspex_lab.pipelines.kinds._parallel import Parallel, parallel
from dspex_lab.pipelines.kinds._pipeline import PipelineKind
from dspex_lab.pipelines.kinds._retrieve import retrieve
from dspex_lab.pipelines.kinds._template import LMTemplate, template
from dspex_lab.pipelines.kinds._when import When, when

__all__ = [
    "Code",
    "DspyKind",
    "Each",
    "Index",
    "LMTemplate",
    "Loop",
    "NativeKind",
    "OperationKind",
    "Parallel",
    "PipelineKind",
    "When",
    "assert_",
    "code",
    "each",
    "index",
    "loop",
    "parallel",
    "retrieve",
    "suggest",
    "template",
    "when",
]
