"""Graphs to draw: one with every kind of step and inner steps, chains, fans and random ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from widget_records import edge, node

KINDS = (
    "native",
    "dspy",
    "operation",
    "lm",
    "retrieve",
    "assert",
    "suggest",
    "when",
    "each",
    "loop",
    "parallel",
    "pipeline",
)


def holding(
    name: str, kind: str, *inner: dict[str, Any], edges: list[dict[str, str]] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a step with inner steps."""
    return {**node(name, kind, ["a"], ["b"]), "parts": {"nodes": list(inner), "edges": edges or []}, **more}


def support() -> dict[str, Any]:
    """A pipeline whose ``reply`` holds two branches, the second of them a pipeline of three steps."""
    draft, polish, check = (node(n, k, [], []) for n, k in (("draft", "operation"), ("polish", "lm"), ("check", "assert")))
    polite = holding(
        "otherwise", "pipeline", draft, polish, check, edges=[edge("draft", "polish", "d"), edge("polish", "check", "r")]
    )
    return {
        "name": "support",
        "inputs": ["message"],
        "outputs": ["reply"],
        "nodes": [
            {**node("clean", "native", ["message"], ["text"]), "does": "clean"},
            {
                **node("find", "native", ["text"], ["orders"], "general"),
                "does": "find_orders",
                "options": {"timeout": 5, "cache": 60},
            },
            holding("about", "each", node("item", "lm", ["passage"], ["summary"]), does="Summarise {{ passage }}"),
            holding("reply", "when", node("then", "dspy", [], ["reply"]), polite, does="urgency > 0.8"),
            node("tone", "suggest", ["reply"], []),
            node("mine", "my_kind", ["reply"], ["z"]),
        ],
        "edges": [
            edge("", "clean", "message"),
            edge("clean", "find", "text"),
            edge("clean", "about", "text"),
            edge("find", "reply", "orders"),
            edge("about", "reply", "summary"),
            edge("reply", "tone", "reply"),
            edge("reply", "mine", "reply"),
        ],
    }


def chain(count: int) -> dict[str, Any]:
    """One step after the other; the last takes the pipeline's input too."""
    names = [f"step_{i}" for i in range(count)]
    edges = [
        edge("", names[0], "x"),
        *(edge(a, b, "y") for a, b in pairwise(names)),
        edge("", names[-1], "x"),
    ]
    return {
        "name": "chain",
        "inputs": ["x"],
        "outputs": ["y"],
        "nodes": [node(n, "native", [], []) for n in names],
        "edges": edges,
    }
