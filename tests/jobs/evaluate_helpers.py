"""Rows of numbers, programs that say whether they are odd, and a metric."""

from __future__ import annotations

from typing import Any

import dspy

ROWS = [{"text": f"t{at}", "label": "odd" if at % 2 else "even"} for at in range(20)]


def parity(text: str) -> Any:
    return dspy.Prediction(label="odd" if int(text[1:]) % 2 else "even")


def always_odd(text: str) -> dict[str, str]:
    return {"label": "odd"}


def right(example: Any, prediction: Any) -> bool:
    label = prediction["label"] if isinstance(prediction, dict) else prediction.label
    return bool(example.label == label)
