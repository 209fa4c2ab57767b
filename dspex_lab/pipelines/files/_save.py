"""Saving a pipeline to a file of Python or YAML, and never over what somebody else wrote."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.files._load import handed_in, to_yaml, write_file
from dspex_lab.pipelines.files._python import to_python

_WAYS = "Give another name, or overwrite=True (%dspex save ... --overwrite)."
_MARK = re.compile(r"# Saved by dspex_lab \(([0-9a-f]{16})\)")


def save(
    pipeline: Pipeline,
    path: str | Path,
    *,
    overwrite: bool = False,
    cells: Iterable[str] = (),
    names: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a pipeline to ``path``: as plain Python (``.py``) or as YAML (``.yaml``, ``.yml``).

    Args:
        overwrite: also where the file was not written by this function, or was changed since.
        cells: the notebook's cells, newest first; see :func:`to_python`.
        names: what the notebook calls its objects; see :func:`to_yaml`.

    Raises:
        PipelineError: the ending is another, the file is somebody else's, or a part of the pipeline cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".py", ".yaml", ".yml"):
        raise PipelineError(f"{path.name!r} ends neither in .py nor in .yaml.", hint="Write: NAME.py or NAME.yaml")
    if path.suffix == ".py":
        text = to_python(pipeline, path.name, cells=cells)
    else:
        needed = sorted(n for n in handed_in(pipeline, names=names) if ":" not in n)
        about = f"# It needs what is called {', '.join(needed)}: dx.load_pipeline(path, functions={{...}})\n" if needed else ""
        text = about + to_yaml(pipeline, names=names)
    if not overwrite:
        _refuse_to_lose(path)
    write_file(path, f"# Saved by dspex_lab ({_digest(text)})\n{text}")
    return path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _refuse_to_lose(path: Path) -> None:
    if not path.exists():
        return
    try:
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        first, rest = "", ""
    mark = _MARK.match(first)
    if mark is None:
        raise PipelineError(f"{path} is there already, and was not saved by dspex_lab.", hint=_WAYS)
    if mark[1] != _digest(rest):
        raise PipelineError(f"{path} was changed since it was saved.", hint=_WAYS)
