"""``%dspex score``: metrics by name over the rows of a map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

import dspex_lab as dx
from dspex_lab.errors import DspexError
from dspex_lab.native.metrics import registry


@pytest.fixture
def made(shell: Any) -> Any:
    shell.user_ns["label"] = dx.pipeline("label", desk=lambda text: text.split()[0])
    shell.user_ns["rows"] = pd.DataFrame({"text": ["card lost", "cash gone", "card"], "desk": ["card", "card", "Card."]})
    return shell


def cell(shell: Any, line: str) -> Any:
    return shell.run_line_magic("dspex", line)


def test_a_map_is_scored_by_a_metrics_name(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell(made, "map label rows --into done")
    scored = cell(made, "score normalised_match done --into scored")
    assert scored["normalised_match"].tolist() == [1.0, 0.0, 1.0]
    assert made.user_ns["scored"] is scored
    assert "normalised_match: 0.667 over 3 rows" in capsys.readouterr().out


def test_columns_can_be_named_and_a_file_is_read(made: Any) -> None:
    cell(made, "map label rows --out out.jsonl --into done")
    assert cell(made, "score exact_match done")["exact_match"].tolist() == [1.0, 0.0, 0.0]
    scored = cell(made, "score contains rows --prediction text --reference desk")
    assert scored["contains"].tolist()[:2] == [1.0, 0.0]


@pytest.fixture
def own_metric() -> Iterator[str]:
    @dx.register_metric("same_length_of_score_test")
    def same_length(prediction: str, reference: str) -> float:
        return float(len(prediction) == len(reference))

    yield "same_length_of_score_test"
    registry.unregister("same_length_of_score_test")


def test_alone_it_lists_the_metrics_users_own_among_them(
    made: Any, own_metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cell(made, "score") is None
    assert own_metric in capsys.readouterr().out
    scored = cell(made, f"score {own_metric} rows --prediction text --reference desk")
    assert scored[own_metric].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("score f2 rows", "f1"),
        ("score f1", "Which rows are to be scored"),
        ("score f1 row", "Did you mean 'rows'"),
        ("score f1 rows", "Which column is the prediction"),
        ("score f1 rows --prediction text --reference dsk", "Did you mean 'desk'"),
    ],
)
def test_what_is_missing_is_said(made: Any, line: str, said: str) -> None:
    with pytest.raises(DspexError, match=said):
        cell(made, line)
