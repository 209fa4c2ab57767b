"""A pipeline to show."""

from __future__ import annotations

from typing import Any

import pytest
from widget_records import edge, node


@pytest.fixture
def graph() -> dict[str, Any]:
    """Three layers, with siblings in the middle and an input that passes two layers."""
    return {
        "name": "demo",
        "inputs": ["text"],
        "outputs": ["answer"],
        "nodes": [
            node("clean", "native", ["text"], ["plain"]),
            node("label", "dspy", ["plain"], ["intent"]),
            node("look", "native", ["plain"], ["order"], "general"),
            node("answer", "dspy", ["intent", "order", "text"], ["answer"]),
        ],
        "edges": [
            edge("", "clean", "text"),
            edge("clean", "label", "plain"),
            edge("clean", "look", "plain"),
            edge("label", "answer", "intent"),
            edge("look", "answer", "order"),
            edge("", "answer", "text"),
        ],
    }
