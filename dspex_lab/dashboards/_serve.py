"""A dashboard at a loopback address."""

from __future__ import annotations

from typing import Any

from panel.io.resources import DIST_DIR
from tornado.web import StaticFileHandler

from dspex_lab.dashboards._base import Source
from dspex_lab.dashboards._page import Dashboard
from dspex_lab.dashboards._page_server import PageServer, _quiet

__all__ = ["Served", "_quiet"]


class Served(PageServer[Dashboard]):
    """A dashboard that is being served; made by :func:`dspex_lab.dashboards.serve`.

    Each page that is opened has a :class:`Dashboard` of its own. May be used as a context manager. Thread-safe.

    Attributes:
        url: the whole address, with its token; whoever knows it can read the Lab's records while it is served.
        port: the port on 127.0.0.1.
    """

    noun = "dashboard"
    again = "Call dashboard() again in the notebook to get the address"

    def __init__(self, source: Source, *, port: int = 0, refresh: float = 1.0) -> None:
        self._source = source
        self._refresh = refresh
        super().__init__(f"{source.name} · dspex_lab", port=port)

    def _make(self) -> Dashboard:
        return Dashboard(self._source, refresh=self._refresh)

    def _files(self) -> list[tuple[Any, ...]]:
        return [(r"/(favicon\.ico)", StaticFileHandler, {"path": str(DIST_DIR / "images")})]
