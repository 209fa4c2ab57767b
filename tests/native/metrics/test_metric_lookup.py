"""Metrics by name, and those of users."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import dspy
import numpy as np
import pytest

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics import (
    FunctionMetric,
    Metric,
    Outcome,
    Rouge,
    TokenF1,
    metric,
    names,
    register_metric,
    registry,
)

SHIPPED = [
    *("contains", "exact_match", "f1", "field_match", "json_match", "judge"),
    *("normalised_match", "numeric", "rouge_1", "rouge_2", "rouge_l", "similarity"),
]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name in set(names()) - set(SHIPPED):
        registry.unregister(name)


def test_the_shipped_metrics_have_names_and_cite_a_source() -> None:
    assert names() == tuple(SHIPPED)
    for name in SHIPPED:
        made = metric(name)
        assert made.name == name
        told = type(made).__doc__ or ""
        assert any(year in told for year in ("20", "19", "RFC", "PEP", "evaluate")), name


def test_metrics_tell_their_options() -> None:
    assert repr(metric("f1")) == "TokenF1()"
    assert repr(metric("numeric", relative=0.01, field="total")) == "NumericMatch(field='total', relative=0.01)"
    assert repr(metric("rouge_2", statistic="recall")) == "Rouge(kind='2', statistic='recall')"
    assert metric("rouge_2", statistic="recall").name == "rouge_2"


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"no metric named 'rouge_I'. Did you mean 'rouge_[l12]'\?"):
        metric("rouge_I")


@pytest.mark.parametrize("what", ["f1", TokenF1, TokenF1(), len_ratio := (lambda prediction, reference: 1.0)])
def test_an_unknown_option_is_an_error_with_the_nearest(what: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'treshold'. Did you mean 'threshold'\?"):
        metric(what, treshold=0.5)


@pytest.mark.parametrize("options", [{"threshold": 0}, {"threshold": 1.5}, {"threshold": "1"}, {"field": 3}, {"reference": 3}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        metric("f1", **options)


def test_a_metric_is_itself_and_a_class_is_made() -> None:
    f1 = TokenF1(field="a")
    assert metric(f1) is f1
    assert metric(f1, threshold=0.9).field == "a"
    assert isinstance(metric(Rouge), Rouge)


# --- functions ----------------------------------------------------------------------------------------------------


def test_a_function_of_two_values_is_enough() -> None:
    @register_metric("length")
    def ratio(prediction: str, reference: str) -> float:
        return min(len(prediction), len(reference)) / max(len(prediction), len(reference), 1)

    made = metric("length", threshold=0.4)
    assert made.score("ab", "abcd") == 0.5
    assert made.name == "length"
    assert made.explain("ab", "abcd") == "length 0.50: expected 'abcd', found 'ab'."
    assert made({"answer": "abcd"}, {"answer": "ab"}, []) is True
    assert made.using(threshold=0.6)({"answer": "abcd"}, {"answer": "ab"}, []) is False
    assert "length" in names()
    assert metric(ratio).name == "ratio"


@pytest.mark.parametrize(
    ("returned", "score"), [(True, 1), (False, 0), (1, 1), (np.float64(0.5), 0.5), (np.float32(0.5), 0.5), (np.bool_(True), 1)]
)
def test_what_a_function_may_return(returned: Any, score: float) -> None:
    made = metric(lambda prediction, reference: returned).score("a", "b")
    assert made == score
    assert type(made) is float


def test_a_function_may_say_why() -> None:
    made = metric(lambda prediction, reference: (0.25, "too short"), label="size")
    assert made.explain("a", "b") == "size 0.25: too short"


@pytest.mark.parametrize("returned", [1.01, -0.1, float("nan"), float("inf"), None, "0.5", dspy.Prediction(score=1)])
def test_a_score_outside_0_to_1_is_an_error_that_names_the_metric(returned: Any) -> None:
    def odd(prediction: str, reference: str) -> Any:
        return returned

    with pytest.raises(ConfigurationError, match="'odd' gave"):
        metric(odd).score("a", "b")


def test_functions_with_other_parameters_are_refused_where_they_are_given() -> None:
    def for_dspy(example: Any, pred: Any, trace: Any = None) -> float:
        return 1.0

    for wrong in (for_dspy, lambda gold, pred: 1.0, lambda one: 1.0, lambda a, b, c: 1.0, dspy.evaluate.answer_exact_match):
        with pytest.raises(ConfigurationError, match=r"takes \(prediction, reference\)"):
            metric(wrong)
    assert metric(lambda made, hoped, strict=True: 1.0).score("", "") == 1
    assert metric(max).score(0, 1) == 1  # its signature is not known


@pytest.mark.parametrize("what", [3, None, object, ["f1"]])
def test_what_is_no_metric_is_refused(what: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no metric"):
        metric(what)
    with pytest.raises(ConfigurationError, match="is no metric"):
        register_metric("wrong")(what)


def test_a_mapping_is_referred_to_combine() -> None:
    with pytest.raises(ConfigurationError, match="combine"):
        metric({"f1": 1})  # type: ignore[arg-type]


def test_a_function_metric_needs_a_function() -> None:
    with pytest.raises(ConfigurationError, match="needs a function"):
        FunctionMetric()


# --- classes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StartsWith(Metric):
    """1 where the prediction starts with the reference."""

    name: ClassVar[str] = "starts_with"

    ignore_case: bool = False

    def compare(self, prediction: Any, reference: Any) -> Outcome:
        texts = [t.lower() if self.ignore_case else t for t in (prediction, reference)]
        return Outcome(float(texts[0].startswith(texts[1])), lambda: "see its beginning.")


def test_a_class_of_the_users_own_is_registered_like_ours() -> None:
    register_metric("starts_with")(StartsWith)
    register_metric("starts_like")(StartsWith(ignore_case=True))
    assert metric("starts_with").score("Paris, France", "paris") == 0
    assert metric("starts_with", ignore_case=True).score("Paris, France", "paris") == 1
    assert metric("starts_like", field="city").score("Paris, France", ["rome", "paris"]) == 1
    assert repr(metric("starts_like", field="city")) == "StartsWith(field='city', ignore_case=True)"


def test_a_name_is_taken_once_unless_replaced() -> None:
    register_metric("mine")(lambda prediction, reference: 0.0)
    with pytest.raises(ConfigurationError, match="already a metric named 'mine'"):
        register_metric("mine")(lambda prediction, reference: 1.0)
    register_metric("mine", replace=True)(lambda prediction, reference: 1.0)
    assert metric("mine").score("a", "b") == 1


def test_a_metric_without_a_comparison_says_so() -> None:
    with pytest.raises(NotImplementedError):
        Metric().score("a", "b")


def test_importing_metrics_loads_nothing_heavy() -> None:
    code = (
        "import sys, dspex_lab.native.metrics as m; m.metric('f1').score('a', 'b'); m.combine({'rouge_l': 1}).score('a', 'b')\n"
        "print([n for n in ('dspy', 'numpy', 'pandas', 'torch', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
