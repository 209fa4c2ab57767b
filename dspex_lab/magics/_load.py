"""``%dspex load FILE.yaml [as NAME]``: a pipeline from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse
from dspex_lab.magics._pipeline import bind


def run(call: Call) -> Any:
    """Read the pipeline, bind NAME (or its own name) to it, and show its graph.

    The file may name the functions, classes, modules, models and indexes made in this notebook, and what stands in the Python
    modules of --modules.
    """
    from dspex_lab.pipelines import load_pipeline

    line = parse(call.line, words=3, flags=("modules",))
    words = line.words
    if len(words) not in (1, 3) or (len(words) == 3 and words[1] != "as"):
        raise ConfigurationError("Which file?", key="load", hint=f"Write: {COMMAND.usage}")
    path = words[0].strip("\"'")
    if not path.endswith((".yaml", ".yml")):
        raise ConfigurationError(
            f"{path!r} is no .yaml file.", key="load", actual=path, hint="A .py file is Python: %run it, or import it."
        )
    modules = [m for m in line.flags.get("modules", "").split(",") if m]
    made = load_pipeline(path, modules=modules, functions=made_here(call.shell.user_ns))
    name = words[2] if len(words) == 3 else made.name
    if not name.isidentifier():
        raise ConfigurationError(
            f"{name!r} cannot name a pipeline here.", key="load", hint="Write: %dspex load FILE.yaml as NAME"
        )
    return bind(call, name, made)


def made_here(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file may name: what the notebook itself made, and nothing it imported (``open``, ``os.system``)."""
    import dspy

    from dspex_lab.pipelines import Index

    def own(value: Any) -> bool:
        named = hasattr(value, "__qualname__") and getattr(value, "__module__", None) == "__main__"
        return named or type(value).__module__ == "__main__" or isinstance(value, dspy.Module | dspy.BaseLM | Index)

    return {n: v for n, v in namespace.items() if not n.startswith("_") and own(v)}


COMMAND = Command(
    "load",
    "%dspex load FILE.yaml [as NAME] [--modules PACKAGE.MODULE,…]",
    "read a pipeline from a YAML file; the functions it names are those made in the notebook",
    run,
    flags=("modules",),
)
