"""Pipelines from and to files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dspex_lab.errors import PipelineError
from dspex_lab.pipelines._pipeline import Pipeline
from dspex_lab.pipelines.files._loader import MAX_STEPS, Loader
from dspex_lab.pipelines.files._nodes import MAX_CHARACTERS, Document, Node, read
from dspex_lab.pipelines.files._refs import Allowed
from dspex_lab.pipelines.files._writer import Writer, rendered
from dspex_lab.pipelines.files._yaml import written

#: How deep files may refer to files.
MAX_FILES = 10


def load_pipeline(
    path_or_text: str | Path,
    *,
    modules: Iterable[Any] | str | None = None,
    functions: Mapping[str, Any] | Iterable[Any] | None = None,
) -> Pipeline:
    """Return the pipeline that a YAML file says; see :mod:`dspex_lab.pipelines.files` for the format.

    The file is not trusted: it can name what is handed in here and nothing else, it imports nothing, and it reads no file
    outside its own folder.

    Args:
        path_or_text: a path that ends in ``.yaml`` or ``.yml``, or the text itself.
        modules: Python modules (or their names) whose own functions and classes the file may name as ``module:name``.
        functions: objects the file may name: functions, types, DSPy modules, indexes and models by name; or a list of
            functions and classes.

    Raises:
        PipelineError: with line and column: what is wrong with the file. Nothing was run.
        ConfigurationError: ``modules`` or ``functions`` are not what they should be.
    """
    return _Load(Allowed(functions, modules)).top(path_or_text)


def to_yaml(pipeline: Pipeline, path: str | Path | None = None, *, names: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return a pipeline as YAML, from which :func:`load_pipeline` makes an equal one; with ``path`` also write it there.

    Functions and types stand in it by name. DSPy modules are written with their signature, demonstrations and settings.

    Args:
        names: what objects without a name of their own (an index, a model) are called here; the names that a pipeline's own
            cell uses come first. Others go by their step: ``STEP_source``.

    Raises:
        PipelineError: a part of it cannot be written; says which.
    """
    text = written(rendered(Writer(names).pipeline(pipeline)))
    if len(text) > MAX_CHARACTERS:
        raise PipelineError(
            f"The pipeline {pipeline.name!r} makes a file of {len(text):,} characters; {MAX_CHARACTERS:,} are read at most.",
            hint="Keep fewer demonstrations.",
        )
    if path is not None:
        write_file(Path(path), text)
    return text


def write_file(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it.

    Raises:
        PipelineError: it cannot be written.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise PipelineError(f"{path} cannot be written: {error.strerror or error}.") from error


def handed_in(pipeline: Pipeline, *, names: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Return what ``load_pipeline(to_yaml(pipeline), functions=...)`` needs: the objects by the names the file gives them.

    ``names`` are those given to :func:`to_yaml`.
    """
    from dspex_lab.pipelines.files._writer import references

    return references(Writer(names).pipeline(pipeline))


class _Load:
    """One call of :func:`load_pipeline`: what is allowed, which files are open, how many steps there were."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed, self._open, self._steps = allowed, list[Path](), 0
        self._root: Path | None = None

    def top(self, path_or_text: str | Path) -> Pipeline:
        if isinstance(path_or_text, str) and ("\n" in path_or_text or not path_or_text.endswith((".yaml", ".yml"))):
            if "\n" not in path_or_text and ":" not in path_or_text and path_or_text.strip():
                raise PipelineError(
                    f"{path_or_text[:80]!r} is neither a .yaml file nor the text of one.", hint="Give a path or a text."
                )
            return self._read(Document(path_or_text), None)
        path = Path(path_or_text)
        if not path.is_file():
            raise PipelineError(f"There is no file {path}.", hint=_near(path))
        self._root = path.resolve().parent
        return self._file(path, path.name)

    def _file(self, path: Path, name: str) -> Pipeline:
        real = path.resolve()
        self._open.append(real)
        try:
            return self._read(Document(_text(path, name), name), real)
        finally:
            self._open.pop()

    def _read(self, document: Document, path: Path | None) -> Pipeline:
        loader = Loader(document, self._allowed, self._nested, self._prompt, self._count)
        loader.path = path
        return loader.pipeline(read(document))

    def _count(self, loader: Loader, node: Node) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise loader.document.error(node, f"there are more than {MAX_STEPS:,} steps, with those of other files.")

    def _beside(self, loader: Loader, node: Node) -> tuple[Path, str]:
        """Return a file that a file refers to: in the folder of the first one, or below it."""
        told = loader.as_text(node, "the file")
        if loader.path is None or self._root is None:
            raise loader.document.error(
                node, f"{told!r} is a file, and this text is not in a folder.", "Save it as a file, and load that."
            )
        path = loader.path.parent / told
        try:
            real = path.resolve()
            inside = real.is_relative_to(self._root) and not Path(told).is_absolute()
            there = inside and real.is_file()
        except (OSError, ValueError, RuntimeError) as error:
            raise loader.document.error(node, f"{told!r} is no path: {error}.") from None
        if not inside:
            raise loader.document.error(
                node, f"{told!r} is outside the folder of the file.", "Put it beside the file, or below."
            )
        if not there:
            raise loader.document.error(node, f"there is no file {told!r}.", _near(path))
        return real, real.relative_to(self._root).as_posix()

    def _nested(self, loader: Loader, node: Node) -> Pipeline:
        path, name = self._beside(loader, node)
        if path in self._open:
            circle = " → ".join(p.name for p in [*self._open[self._open.index(path) :], path])
            raise loader.document.error(node, f"the files refer to each other in a circle: {circle}.")
        if len(self._open) >= MAX_FILES:
            raise loader.document.error(node, f"files refer to files more than {MAX_FILES} deep.")
        return self._file(path, name)

    def _prompt(self, loader: Loader, node: Node) -> str:
        path, name = self._beside(loader, node)
        return _text(path, name)


def _text(path: Path, name: str) -> str:
    try:
        size = path.stat().st_size
        if size > 4 * MAX_CHARACTERS:
            raise PipelineError(f"{name} has {size:,} bytes; {MAX_CHARACTERS:,} characters are read at most.")
        # One more than allowed: a file may grow while it is read.
        with path.open(encoding="utf-8-sig", newline=None) as file:
            return file.read(MAX_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise PipelineError(f"{name} is not UTF-8: {error.reason} at byte {error.start:,}.", hint="Save it as UTF-8.") from None
    except OSError as error:
        raise PipelineError(f"{name} cannot be read: {error.strerror or error}.") from error


def _near(path: Path) -> str | None:
    from dspex_lab.errors import did_you_mean

    try:
        beside = [p.name for p in path.parent.iterdir()]
    except OSError:
        return None
    return did_you_mean(path.name, beside).strip() or None
