"""``%dspex save NAME FILE``: a pipeline as a file of plain Python, or as YAML."""

from __future__ import annotations

import linecache
import re
from typing import Any

from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.magics._base import Call, Command
from dspex_lab.magics._lab import known_pipelines
from dspex_lab.magics._line import parse

_OVERWRITE = re.compile(r"(?<!\S)--overwrite(?!\S)")


def run(call: Call) -> Any:
    """Write it: FILE.py runs without IPython (``python FILE.py field=value``), FILE.yaml is read by ``%dspex load``.

    A file that was not written by this command, or was changed since, is kept unless --overwrite is given.
    """
    from dspex_lab.pipelines import save

    # Blanks in its place, so that an error still points at the right column.
    text = _OVERWRITE.sub(lambda found: " " * len(found[0]), call.line)
    words = parse(text.rstrip(), words=2).words
    if len(words) != 2:
        raise ConfigurationError("What is to be saved, and where?", key="save", hint=f"Write: {COMMAND.usage}")
    name, path = words[0], words[1].strip("\"'")
    lab = call.lab
    if name not in lab.pipelines:
        raise ConfigurationError(
            f"There is no pipeline {name!r} in this Lab.{did_you_mean(name, lab.pipelines)}",
            key="save",
            hint=f"Known: {', '.join(lab.pipelines) or 'none yet; make one with %%dspex pipeline NAME'}.",
        ).at(call.line, 1, call.line.find(name) + 1)
    save(lab.pipelines[name], path, overwrite=text != call.line, cells=notebook_cells(call.shell), names=call.shell.user_ns)
    print(f"{name} → {path}")


def notebook_cells(shell: Any) -> list[str]:
    """Return the cells that were run in this notebook as Python, newest first.

    A client may run cells without keeping them in the history (``store_history=False``, as nbval does); what the shell compiled
    is still known to it by file name.
    """
    history = getattr(shell, "history_manager", None)
    compiled = getattr(getattr(shell, "compile", None), "_filename_map", {})
    kept = list(reversed(getattr(history, "input_hist_parsed", [])))
    return kept + ["".join(linecache.getlines(name)) for name in reversed(list(compiled))]


COMMAND = Command(
    "save",
    "%dspex save NAME FILE.py|FILE.yaml [--overwrite]",
    "write a pipeline as plain Python that runs without IPython, or as YAML",
    run,
    flags=("overwrite",),
    names=known_pipelines,
)
