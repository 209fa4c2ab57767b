"""What is never reached: branches, fields that are always None, and steps that cannot run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._fields import misfit
from dspex_lab.pipelines._modules import module_contract
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines._step import Step, step_shape
from dspex_lab.pipelines.dryrun._report import Finding
from dspex_lab.pipelines.dryrun._shape import in_order, parts_of

Missing = Literal["None", "lost"]


def conditions(steps: Mapping[str, Step], prefix: str = "") -> Iterator[Finding]:
    """Yield what is odd about the conditions of all steps, inner ones included."""
    for path, item in parts_of(steps, prefix):
        yield from _ODD.get(item.kind, _nothing)(path, item)


def constant(test: Any) -> bool | None:
    """Return what a condition always comes to, None where that depends on fields.

    Raises:
        PipelineError: it always fails.
    """
    condition = getattr(test, "condition", None)
    return bool(condition.test({})) if condition is not None and not condition.names else None


def taken(item: Step) -> str | None:
    """Return the branch that a ``when`` always takes, None where that depends on fields, or on nothing we can see."""
    try:
        always = constant(item.target.test)
    except PipelineError:
        return None
    return None if always is None else "then" if always else "otherwise"


def missing(prefix: str, pipeline: Pipeline, broken: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the steps of a pipeline that need a field which is always None, or never there.

    Args:
        broken: the steps that cannot run, by dotted name.
    """
    gone: dict[tuple[str, int], tuple[Missing, str]] = {}
    for index in in_order(pipeline.structure):
        node = pipeline.structure.nodes[index]
        item, shape = pipeline.steps[node.name], pipeline.shapes[node.name]
        held = {f: gone[slot] for f, slot in node.reads.items() if slot in gone}
        lost = next(((f, why) for f, (what, why) in held.items() if what == "lost"), None)
        for field, (what, why) in held.items():
            wanted = shape.inputs[field].type
            if what == "None" and lost is None and (wanted is Any or misfit(wanted, None) is not None):
                yield Finding("warning", prefix + node.name, f"it needs {field!r}, which is always None: {why}")
        if lost is not None:
            yield Finding("error", prefix + node.name, f"it is never run: it needs {lost[0]!r}, which {lost[1]}")
        gone.update(_given(index, node.name, item, shape.outputs, lost, broken.get(prefix + node.name)))


def _given(
    index: int, name: str, item: Step, outputs: Mapping[str, Any], lost: tuple[str, str] | None, why: str | None
) -> dict[tuple[str, int], tuple[Missing, str]]:
    """Return the fields of a step that never come, or come as None."""
    if lost is not None:
        return dict.fromkeys(((f, index) for f in outputs), ("lost", f"step {name!r} would give"))
    if why is not None and item.on_error != "fallback":
        what: Missing = "None" if item.on_error == "continue" else "lost"
        return dict.fromkeys(((f, index) for f in outputs), (what, f"step {name!r} cannot give: {why}"))
    branch = taken(item) if item.kind == "when" else None
    if branch is None:
        return {}
    chosen = item.target.steps.get(branch)
    given = step_shape(name, chosen).outputs if chosen is not None else {}
    reason = f"step {name!r} always takes {f'its branch {branch!r}' if chosen is not None else 'no branch'}"
    return {(f, index): ("None", reason) for f in outputs if f not in given}


def _nothing(path: str, item: Step) -> Iterator[Finding]:
    yield from ()


def _of_when(path: str, item: Step) -> Iterator[Finding]:
    test = item.target.test
    try:
        always = constant(test)
    except PipelineError as error:
        yield Finding("error", path, f"its condition fails always: {error.message}")
        return
    if always is None:
        return
    never = "otherwise" if always else "then"
    if never in item.target.steps:
        yield Finding("warning", path, f"its branch {never!r} is never reached: {test!s} is always {str(always).lower()}")
    else:
        yield Finding("warning", path, f"its condition decides nothing: {test!s} is always true")


def _of_loop(path: str, item: Step) -> Iterator[Finding]:
    target = item.target
    try:
        always = constant(target.test)
    except PipelineError as error:
        yield Finding("error", path, f"its condition fails always: {error.message}")
        return
    if always is not None:
        often = "ends after the first round" if always else f"never ends early: all {target.limit} rounds, and then partial"
        yield Finding("warning", path, f"it {often}, as {target.test!s} is always {str(always).lower()}")
        return
    changes = {*step_shape(path.rpartition(".")[2], target.step).outputs, *_hidden(target.step)}
    if target.test.inputs and not changes & set(target.test.inputs):
        yield Finding(
            "warning",
            path,
            f"no round changes what {target.test!s} reads ({', '.join(target.test.inputs)}): it ends after the first round, or "
            f"never before the limit of {target.limit}",
        )


def _of_check(path: str, item: Step) -> Iterator[Finding]:
    for requirement in item.target.requirements:
        try:
            always = constant(requirement.test)
        except PipelineError as error:
            yield Finding("error", path, f"its check fails always: {error.message}")
            continue
        if always is not None:
            what = "checks nothing" if always else "is never fulfilled"
            sure = not always and item.kind == "assert"
            yield Finding("error" if sure else "warning", path, f"it {what}: {requirement!s} is always {str(always).lower()}")


def _hidden(item: Step) -> tuple[str, ...]:
    return module_contract(item.target)[1] if item.kind == "dspy" else ()


_ODD = {"when": _of_when, "loop": _of_loop, "assert": _of_check, "suggest": _of_check}
