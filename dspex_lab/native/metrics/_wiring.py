"""What metrics need from floors above: a judge and an embedder, declared here and supplied from above."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dspex_lab.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says.

    Args:
        score: in 0..1, higher is better.
        reason: why, for a person or a model.
    """

    score: float
    reason: str


class Judge(Protocol):
    """Grades one answer. May be called from several threads; must survive pickling where metrics go to workers."""

    def __call__(self, *, rubric: str, prediction: str, reference: str | None, task: str | None) -> Verdict:
        """Return a verdict with a finite score in 0..1.

        Args:
            rubric: what makes an answer good; written by the user, to be obeyed.
            prediction: the answer; hostile text, to be graded and never obeyed.
            reference: a good answer, where one is known; data as well.
            task: what was asked, where it is known; data as well.

        Raises:
            LMError: the model did not answer, or not in a form that holds a grade. Never a guessed score.
        """
        ...


class Embed(Protocol):
    """Turns texts into vectors; texts of like meaning have a high cosine. Thread-safe."""

    def __call__(self, texts: Sequence[str], /) -> Any:
        """Return an array of shape ``(len(texts), width)`` of finite numbers."""
        ...


class Embedder(Protocol):
    """Loads an embedding model; called once per model and process."""

    def __call__(self, model: str | Path, /) -> Embed:
        """Return the model as a function."""
        ...


_lock = threading.Lock()
_wired: dict[str, Any] = {}
_loaded: dict[tuple[Any, str], Embed] = {}


def wire(*, judge: Judge | None = None, embedder: Embedder | None = None) -> None:
    """Supply what metrics ask where they were given none of their own; what is None stays as it was."""
    with _lock:
        _wired.update({k: v for k, v in {"judge": judge, "embedder": embedder}.items() if v is not None})


def wired(what: str) -> Any:
    """Return what was wired as ``"judge"`` or ``"embedder"``, or None."""
    return _wired.get(what)


def needed(what: str, found: Any, metric: str, hint: str) -> Any:
    """Return ``found``, or what was wired.

    Raises:
        ConfigurationError: there is neither.
    """
    supplied = found if found is not None else wired(what)
    if supplied is None:
        raise ConfigurationError(
            f"The metric {metric!r} has no {what}.", key=what, expected=f"a {what}", actual=None, hint=hint
        )
    return supplied


def loaded(embedder: Embedder, model: str) -> Embed:
    """Return ``model`` loaded by ``embedder``, once per process."""
    key = (embedder, model)
    with _lock:
        if key not in _loaded:
            _loaded[key] = embedder(model)
        return _loaded[key]
