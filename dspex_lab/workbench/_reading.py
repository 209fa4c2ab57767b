"""The doors for looking at what was recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab._views import view
from dspex_lab.errors import ConfigurationError
from dspex_lab.pipelines import Pipeline
from dspex_lab.workbench._base import Base

if TYPE_CHECKING:
    import pandas as pd


class Reading(Base):
    """``sql``, ``dashboard`` and ``serve``."""

    def sql(self, query: str, parameters: Any = None, *, timeout: float | None = None) -> pd.DataFrame:
        """Return what ``query`` reads from the store's tables; ``timeout`` is in seconds.

        Raises:
            StoreError: the query is wrong, would write, or took too long.
        """
        self._ensure_open()
        return self.store.query(query, parameters, timeout=timeout)

    @property
    def name(self) -> str:
        """Return the Lab's name: the store's file name without its ending."""
        path = str(self.store.path)
        return "memory" if path == ":memory:" else Path(path).stem

    def dashboard(self, *, serve: bool = False, port: int = 0, open_browser: bool = False) -> Any:
        """Return the dashboard: something a cell displays, or with ``serve`` a server on the loopback with ``.url``."""
        self._ensure_open()
        views = view("dashboard")
        if not serve:
            page = views.build(self)
            self._closers.append(page.stop)
            return page
        served = views.serve(self, port=port, open=open_browser)
        self._closers.append(served.stop)
        return served

    def serve(self, pipelines: str | Pipeline | Iterable[str | Pipeline] | None = None, **how: Any) -> Any:
        """Serve pipelines as OpenAI models over HTTP and return at once: ``.url``, ``.token``, ``.chat``, ``.stop()``.

        Args:
            pipelines: their names, or themselves, which the Lab then knows by their names; None for all of this Lab, also
                those that come later.
            how: see :func:`dspex_lab.web.serve`: ``port``, ``models``, ``fallbacks``, ``descriptions`` …

        Raises:
            ConfigurationError: there is no such pipeline, the port is taken, or the extra ``web`` is not installed.
        """
        self._ensure_open()
        given: Any = pipelines
        if isinstance(given, str | Pipeline) or not isinstance(given, Iterable | None):
            given = (given,)
        names = None if given is None else [self._known_as(each) for each in given]
        served = view("serve").serve(self, names, **how)
        self._closers.append(served.stop)
        return served

    def _known_as(self, x: Any) -> str:
        if isinstance(x, str):
            return x
        if not isinstance(x, Pipeline):
            raise ConfigurationError(
                f"A {type(x).__name__} is no pipeline.",
                key="pipelines",
                expected="a pipeline or the name of one",
                actual=type(x).__name__,
                hint="A program, a signature or a function is served as a step: dx.pipeline(NAME, answer=…).",
            )
        if self.pipelines.get(x.name) is not x:
            self.pipelines[x.name] = x
        return x.name
