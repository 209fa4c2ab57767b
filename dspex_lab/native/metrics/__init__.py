"""How good an answer is: from 0 to 1, higher is better.

::

    from dspex_lab.native.metrics import combine, metric

    metric("f1").score("in Paris, France", "Paris")          # 0.5
    metric("f1").explain("in Paris, France", "Paris")        # why, as a text
    metric("numeric", field="total", relative=0.01)          # a DSPy metric: Evaluate, BootstrapFewShot, MIPROv2, GEPA
    metric("contains").as_function("answer", "gold", name="found")   # a step of a pipeline
    combine({"f1": 0.7, "contains": 0.3}, field="answer")

:func:`names` lists them; :func:`register_metric` adds your own.
"""

from __future__ import annotations

from dspex_lab.native.metrics._base import Metric, Outcome
from dspex_lab.native.metrics._combine import AllOf, AnyOf, Combination, WeightedMean, all_of, any_of, combine
from dspex_lab.native.metrics._contains import Contains
from dspex_lab.native.metrics._exact import ExactMatch
from dspex_lab.native.metrics._json import FieldMatch, JsonMatch
from dspex_lab.native.metrics._judge import Judged
from dspex_lab.native.metrics._lookup import FunctionMetric, metric, names, register_metric, registry
from dspex_lab.native.metrics._numeric import NumericMatch
from dspex_lab.native.metrics._rouge import Rouge
from dspex_lab.native.metrics._similarity import SemanticSimilarity
from dspex_lab.native.metrics._squad import NormalisedMatch, TokenF1
from dspex_lab.native.metrics._text import normalise
from dspex_lab.native.metrics._wiring import Embed, Embedder, Judge, Verdict, wire

__all__ = [
    "AllOf",
    "AnyOf",
    "Combination",
    "Contains",
    "Embed",
    "Embedder",
    "ExactMatch",
    "FieldMatch",
    "FunctionMetric",
    "JsonMatch",
    "Judge",
    "Judged",
    "Metric",
    "NormalisedMatch",
    "NumericMatch",
    "Outcome",
    "Rouge",
    "SemanticSimilarity",
    "TokenF1",
    "Verdict",
    "WeightedMean",
    "all_of",
    "any_of",
    "combine",
    "metric",
    "names",
    "normalise",
    "register_metric",
    "registry",
    "wire",
]

for _class in (
    ExactMatch,
    NormalisedMatch,
    TokenF1,
    Contains,
    NumericMatch,
    JsonMatch,
    FieldMatch,
    SemanticSimilarity,
    Judged,
):
    registry.register(_class.name, _class)
registry.register("rouge_l", Rouge(kind="l"))
registry.register("rouge_1", Rouge(kind="1"))
registry.register("rouge_2", Rouge(kind="2"))
