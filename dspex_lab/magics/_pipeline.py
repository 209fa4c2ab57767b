"""``%%dspex pipeline NAME``: each assignment of the cell is a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse


def run(call: Call) -> Any:
    """Make the pipeline, bind NAME to it, and show its graph; where there was one, what changed."""
    from dspex_lab.pipelines import pipeline_from_source

    words = parse(call.line, words=1).words
    if not words or not words[0].isidentifier():
        raise ConfigurationError("A pipeline needs a name.", key="pipeline", hint=f"Write: {COMMAND.usage}")
    source = call.cell or ""
    return bind(call, words[0], pipeline_from_source(words[0], source, {**helpers(source), **call.shell.user_ns}))


def helpers(source: str) -> dict[str, Any]:
    """Return what a cell may use without an import: ``dx``, ``dspy``, and every public name that it mentions."""
    import dspy

    import dspex_lab as dx
    from dspex_lab.pipelines import names_in

    public = (
        n for n in dx.__all__ if not n.startswith("_") and n not in ("load_ipython_extension", "unload_ipython_extension")
    )
    mentioned = names_in(source)
    return {"dx": dx, "dspy": dspy, **{n: getattr(dx, n) for n in public if n in mentioned}}


def bind(call: Call, name: str, made: Any) -> Any:
    """Keep a pipeline under NAME, say what changed where there was one, and return it."""
    from dspex_lab.pipelines import same

    before = call.lab.pipelines.get(name)
    call.lab.pipelines[name] = made
    kept = call.lab.pipelines[name]
    if kept is not made:
        said = f"{name}: version {call.lab.programs.in_use(name).version}, which was adopted, is in use (lab.programs)"
        below(call.shell, lambda: print(said))
    made = call.shell.user_ns[name] = kept
    if before is not None:
        below(call.shell, lambda: print(changes(name, same(before, made))))
    return made


def changes(name: str, lines: Iterable[str]) -> str:
    """Return what changed as text: on one line where it is short."""
    told = list(lines)
    if not told:
        return f"{name}: nothing changed"
    if len(told) == 1 or sum(map(len, told)) <= 100:
        return f"{name}: {'; '.join(told)}"
    return "\n  ".join([f"{name}:", *told])


def below(shell: Any, say: Callable[[], None]) -> None:
    """Call ``say`` when the cell has shown its result, so that it stands below it; at once where cells are not told of."""
    events = getattr(shell, "events", None)
    if events is None:
        say()
        return

    def once(*_: Any) -> None:
        events.unregister("post_run_cell", once)
        say()

    events.register("post_run_cell", once)


COMMAND = Command(
    "pipeline",
    "%%dspex pipeline NAME",
    "define a pipeline: each line STEP = function, step(...) or dspy module is a step, joined by field names",
    run,
    cell=True,
    line=False,
)
