"""The graph that field names make."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import Shape, StepField
from dspex_lab.pipelines._graph import build


def shape(takes: str, gives: str) -> Shape:
    return Shape({f: StepField(f) for f in takes.split()}, {f: StepField(f) for f in gives.split()})


def test_a_field_nobody_gives_is_an_input_of_the_pipeline() -> None:
    graph = build({"one": shape("a", "b"), "two": shape("b c", "d")})
    assert graph.inputs == ("a", "c")
    assert graph.nodes[1].needs == {0}
    assert graph.feeds == ((1,), ())


def test_a_step_may_stand_before_the_one_that_feeds_it() -> None:
    graph = build({"late": shape("b", "c"), "early": shape("a", "b")})
    assert graph.nodes[0].needs == {1}
    assert graph.inputs == ("a",)


def test_two_producers_of_one_field_are_refused_by_name() -> None:
    with pytest.raises(PipelineError, match=r"'one' and 'two' both produce the field 'b'") as caught:
        build({"one": shape("a", "b"), "two": shape("a", "b")})
    assert caught.value.step == "two"


def test_a_replacing_step_reads_the_old_value_and_later_steps_the_new_one() -> None:
    graph = build(
        {"first": shape("m", "x"), "clean": shape("m", "m"), "then": shape("m", "y")},
        frozenset({"clean"}),
    )
    assert graph.nodes[0].reads == {"m": ("m", -1)}
    assert graph.nodes[1].reads == {"m": ("m", -1)}
    assert graph.nodes[2].reads == {"m": ("m", 1)}
    assert graph.last["m"] == ("m", 1)


def test_a_step_that_takes_what_it_gives_must_say_that_it_replaces() -> None:
    with pytest.raises(PipelineError, match="would wait for itself"):
        build({"clean": shape("m", "m")})


def test_a_circle_is_told_step_by_step() -> None:
    with pytest.raises(PipelineError) as caught:
        build({"a": shape("z", "x"), "b": shape("x", "y"), "c": shape("y", "z")})
    message = str(caught.value)
    assert "wait for each other" in message
    assert all(f"'{n}'" in message for n in "abc")
    assert "'b' needs 'x' from 'a'" in message


@given(
    st.lists(st.tuples(st.sets(st.sampled_from(string.ascii_lowercase[:6]), max_size=3), st.booleans()), min_size=1, max_size=7)
)
def test_any_graph_is_either_refused_or_has_an_order(steps: list[tuple[set[str], bool]]) -> None:
    shapes = {
        f"s{i}": Shape({f: StepField(f) for f in takes}, {string.ascii_lowercase[i]: StepField(string.ascii_lowercase[i])})
        for i, (takes, _) in enumerate(steps)
    }
    replacing = frozenset(f"s{i}" for i, (_, replaces) in enumerate(steps) if replaces)
    try:
        graph = build(shapes, replacing)
    except PipelineError:
        return
    done: set[int] = set()
    while len(done) < len(graph.nodes):
        ready = {n.index for n in graph.nodes if n.index not in done and n.needs <= done}
        assert ready, "the graph waits for itself"
        done |= ready
    for node in graph.nodes:
        assert set(node.reads) == set(shapes[node.name].inputs)
