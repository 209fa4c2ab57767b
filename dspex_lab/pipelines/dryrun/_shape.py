"""What follows from the graph alone: the types of connections, what is read by nobody, and what can run at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dspex_lab.pipelines._fields import type_name
from dspex_lab.pipelines._graph import Graph
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step
from dspex_lab.pipelines.dryrun._report import Connection, Finding
from dspex_lab.signatures import why_not


def pipelines_in(pipeline: Pipeline, prefix: str = "") -> Iterator[tuple[str, Pipeline]]:
    """Yield a pipeline and those in its steps, each with what stands before the names of its steps."""
    yield prefix, pipeline
    for path, item in parts_of(pipeline.steps, prefix):
        inner = inner_pipeline(item)
        if inner is not None:
            yield f"{path}.", inner


def parts_of(steps: Mapping[str, Step], prefix: str = "") -> Iterator[tuple[str, Step]]:
    """Yield all steps under their dotted names, those within others after them."""
    for name, item in steps.items():
        yield prefix + name, item
        yield from parts_of(item.how.parts(item), f"{prefix}{name}.")


def inner_pipeline(item: Step) -> Pipeline | None:
    """Return the pipeline whose steps are the inner steps of ``item``, None where they are joined in another way."""
    for inner in (item.target, getattr(item.target, "inner", None)):
        if isinstance(inner, Pipeline):
            return inner
    return None


def connections(prefix: str, pipeline: Pipeline) -> list[Connection]:
    """Return what flows from where to where."""
    names = list(pipeline.steps)
    found = []
    for node in pipeline.structure.nodes:
        for field, (_, producer) in node.reads.items():
            wanted = pipeline.shapes[node.name].inputs[field].type
            source = "" if producer < 0 else names[producer]
            given = pipeline.inputs[field].type if producer < 0 else pipeline.shapes[source].outputs[field].type
            checked = given is not Any and wanted is not Any
            found.append(
                Connection(
                    field, prefix + source if source else "", prefix + node.name, type_name(given), type_name(wanted), checked
                )
            )
    return found


def unread(prefix: str, pipeline: Pipeline) -> Iterator[Finding]:
    """Yield the fields that are replaced before anybody reads them."""
    names, structure = list(pipeline.steps), pipeline.structure
    read = {slot for node in structure.nodes for slot in node.reads.values()}
    for index, name in enumerate(names):
        for field in pipeline.shapes[name].outputs:
            if (field, index) in read or structure.last[field] == (field, index):
                continue
            later = next(n for n in names[index + 1 :] if field in pipeline.shapes[n].outputs)
            yield Finding("warning", prefix + name, f"its {field!r} is replaced by step {later!r} before anybody reads it")


def results(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the fields that the pipeline gives and none of its steps reads."""
    read = {slot for node in pipeline.structure.nodes for slot in node.reads.values()}
    return tuple(field for field, slot in pipeline.structure.last.items() if slot not in read)


def quarrels(prefix: str, pipeline: Pipeline) -> Iterator[Finding]:
    """Yield the inputs that no value fits, because two steps want other types."""
    for field in pipeline.inputs:
        readers = [(n.name, pipeline.shapes[n.name].inputs[field].type) for n in _readers(pipeline.structure, field)]
        for index, (one, kind) in enumerate(readers):
            for other, another in readers[index + 1 :]:
                if why_not(kind, another) and why_not(another, kind):
                    yield Finding(
                        "warning",
                        None,
                        f"no value of the input {field!r} fits both step {prefix + one!r} ({type_name(kind)}) and step "
                        f"{prefix + other!r} ({type_name(another)})",
                    )


def _readers(structure: Graph, field: str) -> list[Any]:
    return [node for node in structure.nodes if node.reads.get(field) == (field, -1)]


def levels(structure: Graph) -> tuple[tuple[str, ...], ...]:
    """Return the names of the steps by how many others must have ended before, one after the other."""
    depth: dict[int, int] = {}
    for index in in_order(structure):
        depth[index] = 1 + max((depth[n] for n in structure.nodes[index].needs), default=-1)
    nodes = structure.nodes
    return tuple(
        tuple(n.name for n in nodes if depth[n.index] == level) for level in range(max(depth.values(), default=-1) + 1)
    )


def in_order(structure: Graph) -> list[int]:
    """Return the indices of the steps, each after those it waits for."""
    done: list[int] = []
    left = [n.index for n in structure.nodes]
    while left:
        ready = [i for i in left if structure.nodes[i].needs <= set(done)]
        done += ready
        left = [i for i in left if i not in ready]
    return done


def width(structure: Graph) -> int:
    """Return the most steps of which none waits for another (Dilworth: steps less the pairs of the largest matching)."""
    before: dict[int, set[int]] = {}
    for index in in_order(structure):
        needs = structure.nodes[index].needs
        before[index] = set(needs).union(*(before[n] for n in needs))
    partner: dict[int, int] = {}

    def matched(index: int, seen: set[int]) -> bool:
        for earlier in before[index] - seen:
            seen.add(earlier)
            if earlier not in partner or matched(partner[earlier], seen):
                partner[earlier] = index
                return True
        return False

    return len(before) - sum(matched(index, set()) for index in before)


def longest(structure: Graph, weights: Mapping[str, float]) -> tuple[str, ...]:
    """Return the names of the steps on the path of the greatest weight."""
    total: dict[int, tuple[float, tuple[str, ...]]] = {}
    for index in in_order(structure):
        node = structure.nodes[index]
        before = max((total[n] for n in sorted(node.needs)), key=lambda t: t[0], default=(0.0, ()))
        total[index] = (before[0] + weights[node.name], (*before[1], node.name))
    return max(total.values(), key=lambda t: t[0], default=(0.0, ()))[1]
