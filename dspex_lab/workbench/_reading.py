"""The doors for looking at what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_lab._views import view
from dspex_lab.workbench._base import Base

if TYPE_CHECKING:
    import pandas as pd


class Reading(Base):
    """``sql`` and ``dashboard``."""

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
