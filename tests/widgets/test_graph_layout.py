"""Where boxes and lines go."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest
from graphs import KINDS, chain, holding, support
from hypothesis import given, settings
from hypothesis import strategies as st
from widget_records import edge, node

import dspex_lab as dx
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


def inside(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    return (
        outer["x"] <= inner["x"]
        and outer["y"] <= inner["y"]
        and inner["x"] + inner["width"] <= outer["x"] + outer["width"]
        and inner["y"] + inner["height"] <= outer["y"] + outer["height"]
    )


def test_inner_steps_stand_in_the_box_of_their_outer_one() -> None:
    placed = boxes(support())
    for name, box in placed.items():
        outer = name.rpartition(".")[0]
        assert box["parent"] == outer
        assert not outer or inside(box, placed[outer])
        assert not outer or list(placed).index(outer) < list(placed).index(name), "an outer step is drawn before its inner ones"
    assert placed["reply"]["group"]
    assert not placed["reply.then"]["group"]


def test_lines_between_inner_steps_are_moved_with_their_box() -> None:
    placed = layout(support())
    by_name = {n["name"]: n for n in placed["nodes"]}
    (line,) = [e for e in placed["edges"] if e["to"] == "reply.otherwise.check"]
    assert (line["from"], line["parent"], line["fields"]) == ("reply.otherwise.polish", "reply.otherwise", ["r"])
    start = [float(n) for n in re.findall(r"[\d.]+", line["path"])[:2]]
    box = by_name["reply.otherwise.polish"]
    assert start[0] + line["dx"] == pytest.approx(box["x"] + box["width"], abs=0.2)
    assert start[1] + line["dy"] == pytest.approx(box["y"] + box["height"] / 2, abs=0.2)


def test_beyond_a_depth_inner_steps_are_folded() -> None:
    placed = {n["name"]: n for n in layout(support(), depth=1)["nodes"]}
    assert placed["reply.otherwise"]["folded"] == 3
    assert "3 inner steps" in placed["reply.otherwise"]["line"]
    assert "reply.otherwise.draft" not in placed
    assert {n["name"] for n in layout(support(), depth=0)["nodes"]} == {n["name"] for n in support()["nodes"]}


def test_a_graph_of_many_steps_folds_its_inner_ones() -> None:
    many = chain(70)
    many["nodes"] += [holding(f"each_{i}", "each", node("item", "lm", [], [])) for i in range(8)]
    assert not any(n["parent"] for n in layout(many)["nodes"])
    many["nodes"] = many["nodes"][:69] + many["nodes"][-1:]
    assert [n["parent"] for n in layout(many)["nodes"] if n["parent"]] == ["each_7"]


def test_a_long_chain_goes_on_below_and_keeps_its_width() -> None:
    placed = layout(chain(40))
    assert placed["width"] < 1300
    rows = sorted({n["y"] for n in placed["nodes"]})
    assert len(rows) > 5
    for above, below in zip(placed["nodes"], placed["nodes"][1:], strict=False):
        assert below["y"] > above["y"] or below["x"] > above["x"]
    assert [i["name"] for i in placed["inputs"]] == ["x", "x"], "an input is shown again where it is taken far away"


def test_every_kind_has_a_look_of_its_own_and_the_legend_names_those_there_are() -> None:
    placed = layout({"name": "g", "nodes": [node(f"s{k}", k, [], []) for k in KINDS], "edges": []})
    assert {n["kind"] for n in placed["nodes"]} == set(KINDS)
    assert len({n["icon"] for n in placed["nodes"]}) == len({n["word"] for n in placed["nodes"]}) == len(KINDS)
    assert [e["kind"] for e in placed["legend"]] == [n["kind"] for n in placed["nodes"]]
    own = layout({"name": "g", "nodes": [node("a", "my_kind", [], []), node("b", "native", [], [])], "edges": []})
    assert [(e["kind"], e["word"]) for e in own["legend"]] == [("other", "my_kind"), ("native", "Python function")]


def test_a_box_says_what_its_step_does_and_where() -> None:
    placed = boxes(support())
    assert (placed["find"]["line"], placed["find"]["badge"]) == ("native · find_…", "general ≤5s cache")
    assert placed["clean"]["line"] == "native", "a function called like its step is not said twice"
    assert placed["find"]["facts"] == [
        ("Does", "find_orders"),
        ("Pool", "general"),
        ("Timeout", "5.0 s"),
        ("Cache", "1 min 00 s"),
    ]
    assert ("Inner steps", "then (dspy), otherwise (pipeline)") in placed["reply"]["facts"]


def test_options_are_told_in_words_and_what_is_off_is_not() -> None:
    options = {
        "retries": 2,
        "on_error": "stop",
        "lm": None,
        "idempotent": True,
        "replaces": False,
        "pool": "general",
        "batch": {"size": 8},
        "fallback": "x" * 900,
    }
    (box,) = layout({"name": "g", "nodes": [{**node("a", "native", [], []), "options": options}], "edges": []})["nodes"]
    told = dict(box["facts"])
    assert told == {
        "Retries": "2",
        "On error": "stop",
        "Idempotent": "yes",
        "Batch": '{"size": 8}',
        "Fallback": "x" * 399 + "…",
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.sets(st.tuples(st.integers(0, 39), st.integers(1, 3)), max_size=40), st.integers(0, 3))
def test_no_boxes_overlap_and_all_lie_within_however_wide_it_is(count: int, pairs: set[tuple[int, int]], depth: int) -> None:
    names = [f"s{i}" for i in range(count)]
    graph = of(" ".join(names), *((names[a], names[a + step]) for a, step in pairs if a + step < count))
    graph["nodes"][::3] = [holding(n["name"], "each", support()["nodes"][3]) for n in graph["nodes"][::3]]
    placed = layout(graph, depth=depth, width=700)
    by_name = {n["name"]: n for n in placed["nodes"]}
    for box in placed["nodes"]:
        assert inside(box, by_name.get(box["parent"], {"x": 0, "y": 0, "width": placed["width"], "height": placed["height"]}))
    for a, b in combinations(placed["nodes"], 2):
        apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
        assert a["parent"] != b["parent"] or apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


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


def test_a_badge_says_what_stands_around_a_step() -> None:
    made = dx.pipeline(
        "p",
        a=dx.step(lambda x: x, retries=2, idempotent=True, on_error="continue"),
        b=dx.step(lambda a: a, on_error="fallback", fallback=1),
        c=lambda b: 1,
    )
    assert [n["badge"] for n in layout(made.graph())["nodes"]] == ["↻2 !continue", "!fallback", ""]
