"""Settings of a Lab, from arguments and the environment."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex_lab.errors import ConfigurationError

#: Where a Lab keeps its files, beside the notebook.
FOLDER = ".dspex"
_CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a Lab.

    Args:
        lm: the model to start with: a model string or ``"offline"``; None is what ``dspy.configure`` set, else offline.
        concurrency: rows of a map and sync steps that run at once.
        record_messages: keep prompts and answers in the store; without, only counts, times and cost are kept.
        store_memory: megabytes that DuckDB may use of the store's file; None is 512, or 64 for each processor.
        budget: what the Lab may spend on models: US dollars, ``"$2, 50k tokens, 100 calls"`` or a ``dx.Budget``.
        policy: what stands around each call of a model (``dx.Policy``); by default retries, a circuit breaker and a limit of
            calls at once.
    """

    lm: str | None = None
    concurrency: int = _CONCURRENCY
    record_messages: bool = True
    store_memory: int | None = None
    budget: Any = None
    policy: Any = None

    @classmethod
    def from_environment(cls) -> Config:
        """Return the settings with ``DSPEX_LM``, ``DSPEX_CONCURRENCY`` (a whole number) and ``DSPEX_BUDGET`` taken over.

        Raises:
            ConfigurationError: ``DSPEX_CONCURRENCY`` is no whole number above 0.
        """
        told = os.environ.get("DSPEX_CONCURRENCY", "")
        if told and not (told.isdecimal() and int(told) > 0):
            raise ConfigurationError(
                f"DSPEX_CONCURRENCY is {told!r}.", key="DSPEX_CONCURRENCY", expected="a whole number above 0", actual=told
            )
        return cls(
            lm=os.environ.get("DSPEX_LM") or None,
            concurrency=int(told) if told else _CONCURRENCY,
            budget=os.environ.get("DSPEX_BUDGET") or None,
        )


def notebook_path() -> Path | None:
    """Return the notebook this kernel runs, where JupyterLab or VS Code told it, else None."""
    told = os.environ.get("JPY_SESSION_NAME")
    if not told:
        main = sys.modules.get("__main__")
        told = getattr(main, "__vsc_ipynb_file__", None)
    return Path(told) if told and str(told).endswith(".ipynb") else None


def default_store_path() -> Path:
    """Return the file a kernel keeps its store in: one per notebook, in ``.dspex`` of the current folder."""
    told = os.environ.get("DSPEX_STORE")
    if told:
        return Path(told)
    notebook = notebook_path()
    stem = notebook.stem if notebook else "lab"
    return Path(FOLDER) / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', stem)}.duckdb"
