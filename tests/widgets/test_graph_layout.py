"""Where boxes and lines go."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from widget_records import edge, node

from dspex_lab.widgets import layout


def of(names: str, *edges: tuple[str, str]) -> dict[str, Any]:
    nodes = [node(n, "native", [], []) for n in names.split()]
    return {"name": "g", "nodes": nodes, "edges": [edge(a, b, f"{a}_{b}") for a, b in edges]}


def boxes(graph: dict[str, Any]) -> dict[str, Any]:
    return {n["name"]: n for n in layout(graph)["nodes"]}


def test_a_step_stands_right_of_all_it_needs(graph: dict[str, Any]) -> None:
    placed = boxes(graph)
    assert [placed[n]["layer"] for n in ("clean", "label", "look", "answer")] == [1, 2, 2, 3]
    assert placed["clean"]["x"] < placed["label"]["x"] == placed["look"]["x"] < placed["answer"]["x"]


def test_siblings_are_stacked_and_do_not_touch(graph: dict[str, Any]) -> None:
    placed = boxes(graph)
    assert placed["label"]["y"] + placed["label"]["height"] < placed["look"]["y"]


def test_a_chain_is_a_straight_line() -> None:
    assert len({n["y"] for n in layout(of("a b c", ("a", "b"), ("b", "c")))["nodes"]}) == 1


def test_an_input_of_the_pipeline_has_one_place_however_often_it_is_taken(graph: dict[str, Any]) -> None:
    placed = layout(graph)
    assert [i["name"] for i in placed["inputs"]] == ["text"]
    assert [(e["to"], e["fields"]) for e in placed["edges"] if not e["from"]] == [("clean", ["text"]), ("answer", ["text"])]


def test_a_line_that_passes_a_layer_runs_under_no_box(graph: dict[str, Any]) -> None:
    placed = layout(graph)
    path = next(e["path"] for e in placed["edges"] if (e["from"], e["to"]) == ("", "answer"))
    levels = [float(y) for y in re.findall(r"([\d.]+)H", path)]
    assert len(levels) == 2
    for layer, y in zip((1, 2), levels, strict=True):
        assert all(not n["y"] <= y <= n["y"] + n["height"] for n in placed["nodes"] if n["layer"] == layer)


def test_several_fields_between_two_steps_are_one_line() -> None:
    graph = of("a b", ("a", "b"))
    graph["edges"].append(edge("a", "b", "more"))
    assert [e["fields"] for e in layout(graph)["edges"]] == [["a_b", "more"]]


def test_the_order_avoids_crossings() -> None:
    placed = boxes(of("a b c d", ("a", "d"), ("b", "c")))
    assert (placed["a"]["y"] < placed["b"]["y"]) == (placed["d"]["y"] < placed["c"]["y"])


def test_long_names_are_shortened_and_boxes_have_a_limit() -> None:
    (box,) = layout(of("a_very_long_name_" * 5))["nodes"]
    assert box["label"].endswith("…")
    assert box["width"] == 230
    assert box["name"] == "a_very_long_name_" * 5


def test_an_empty_graph_and_a_cycle_do_not_hang() -> None:
    assert layout({"name": "nothing", "nodes": [], "edges": []})["nodes"] == []
    assert {n["name"] for n in layout(of("a b c", ("a", "b"), ("b", "c"), ("c", "b")))["nodes"]} == {"a", "b", "c"}


def test_edges_to_unknown_steps_are_left_out() -> None:
    assert layout(of("a", ("a", "z"), ("z", "a")))["edges"] == []


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=25))
def test_no_boxes_overlap_and_all_lie_within(count: int, pairs: set[tuple[int, int]]) -> None:
    names = [f"s{i}" for i in range(count)]
    edges = [(names[a], names[b]) for a, b in pairs if a < b < count]
    placed = layout(of(" ".join(names), *edges))
    assert len(placed["edges"]) == len(edges)
    for box in placed["nodes"]:
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= placed["width"]
        assert box["y"] + box["height"] <= placed["height"]
    for a, b in combinations(placed["nodes"], 2):
        apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
        assert apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
