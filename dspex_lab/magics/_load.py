"""``%dspex load FILE.yaml [as NAME]``: a pipeline from a file."""

from __future__ import annotations

from typing import Any

from dspex_lab.errors import ConfigurationError
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._line import parse
from dspex_lab.magics._pipeline import bind


def run(call: Call) -> Any:
    """Read the pipeline, bind NAME (or its own name) to it, and show its graph.

    The functions, types and modules the file names are those of this notebook.
    """
    from dspex_lab.pipelines import load_pipeline

    words = parse(call.line, words=3).words
    if len(words) not in (1, 3) or (len(words) == 3 and words[1] != "as"):
        raise ConfigurationError("Which file?", key="load", hint=f"Write: {COMMAND.usage}")
    path = words[0].strip("\"'")
    if not path.endswith((".yaml", ".yml")):
        raise ConfigurationError(
            f"{path!r} is no .yaml file.", key="load", actual=path, hint="A .py file is Python: %run it, or import it."
        )
    made = load_pipeline(path, functions={n: v for n, v in call.shell.user_ns.items() if not n.startswith("_")})
    name = words[2] if len(words) == 3 else made.name
    if not name.isidentifier():
        raise ConfigurationError(
            f"{name!r} cannot name a pipeline here.", key="load", hint="Write: %dspex load FILE.yaml as NAME"
        )
    return bind(call, name, made)


COMMAND = Command(
    "load",
    "%dspex load FILE.yaml [as NAME]",
    "read a pipeline from a YAML file; the functions it names are those of the notebook",
    run,
)
