"""The dashboard: its pages with their sections, its filters, and how it stays live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn
import panel.models.tabulator  # served pages need these models known; pn.extension would publish into a cell
import panel.models.vega

from dspex_lab.dashboards import _style
from dspex_lab.dashboards._base import Section, Source
from dspex_lab.dashboards._detail import Detail
from dspex_lab.dashboards._empty import Empty
from dspex_lab.dashboards._errors import Errors
from dspex_lab.dashboards._filters import FilterBar
from dspex_lab.dashboards._header import Header
from dspex_lab.dashboards._live import Ticker
from dspex_lab.dashboards._models import Models, Now, OverTime, States
from dspex_lab.dashboards._pages import MODELS, PageBar
from dspex_lab.dashboards._place import Place
from dspex_lab.dashboards._running import Running
from dspex_lab.dashboards._runs import Runs
from dspex_lab.dashboards._snapshot import Snapshot, take
from dspex_lab.dashboards._trends import Trends


class Dashboard(pn.Column):
    """The page as a Panel object.

    While it is shown somewhere it follows the store: a commit wakes a thread, which reads a snapshot and updates the
    sections, at most once per ``refresh`` seconds. While it is shown nowhere, nothing runs.

    Args:
        source: the Lab.
        refresh: seconds.
    """

    def __init__(self, source: Source, *, refresh: float = 1.0) -> None:
        self._source = source
        self._refresh = refresh
        self._selected: str | None = None
        self._places: dict[str, Place] = {}
        self._others: list[Dashboard] = []
        self._lock = threading.Lock()
        self._unsubscribe: Callable[[], None] | None = None
        self._ticker = Ticker(self._tick, refresh)
        self.pages, self.filters = PageBar(self._changed), FilterBar(self._changed)
        self.header, self.running, self.trends, self.empty = Header(), Running(), Trends(), Empty()
        self.runs, self.errors, self.detail = Runs(self.choose), Errors(self.choose), Detail()
        self.now, self.models, self.over_time, self.states = Now(source), Models(), OverTime(), States()
        of_runs = (self.empty, self.running, self.trends, self.runs, self.detail, self.errors)
        of_models = (self.now, self.models, self.over_time, self.states)
        self._sections: tuple[Section, ...] = (self.header, *of_runs, *of_models)
        self._of_runs, self._of_models = _sheet(of_runs), _sheet(of_models, visible=False)
        top = pn.FlexBox(self.pages.view, self.filters.view, gap="10px", margin=0, sizing_mode="stretch_width")
        super().__init__(
            self.header.view,
            top,
            self._of_runs,
            self._of_models,
            stylesheets=[_style.PAGE],
            sizing_mode="stretch_width",
            margin=0,
        )
        self.update()

    @property
    def live(self) -> bool:
        """Whether it is shown somewhere and follows the store."""
        return self._ticker.alive

    def choose(self, run_id: str | None) -> None:
        """Show the detail of a run; returns before it is shown where the page is live."""
        self._selected = run_id
        self._changed()

    def update(self) -> None:
        """Show all that was recorded up to now, here and now.

        Raises:
            StoreError: the store is closed, or can no longer be written or read.
        """
        self._source.store.flush()
        self._show(self._take())

    def stop(self) -> None:
        """End following the store, wherever it is shown; what is shown stays as it is. May be called twice."""
        with self._lock:
            others, self._others = self._others, []
            self._places.clear()
            self._rest()
        self._ticker.stop()
        for other in others:
            other.stop()

    def __repr__(self, depth: int = 0, max_depth: int = 10) -> str:
        return f"Dashboard of {self._source.name!r}{', live' if self.live else ''}"

    def _changed(self) -> None:
        """Follow what a person asked for: in the thread where there is one, else here."""
        if self.live:
            self._ticker.hurry()
        else:
            self.update()

    def _take(self) -> Snapshot:
        return take(self._source, self.filters.value, self._selected, models=self.pages.value == MODELS)

    def _show(self, snapshot: Snapshot) -> None:
        for section in self._sections:
            section.update(snapshot)
        for part in (self.trends, self.runs, self.errors):
            if part.view.visible == snapshot.empty:
                part.view.visible = not snapshot.empty
        models = snapshot.models is not None
        self.filters.show(not models)
        for sheet, shown in ((self._of_runs, not models), (self._of_models, models)):
            if sheet.visible != shown:
                sheet.visible = shown
        # How the Lab stands changes without a record in the store.
        self._ticker.beating = self.now.alive if models else self.running.busy

    def _tick(self, changed: bool) -> None:
        """Update, in the ticker's thread."""
        with self._lock:
            place = next(iter(self._places.values()), None)
        if place is None:
            return
        if not place.ready:
            self._ticker.wake()
        elif changed:
            place.do(partial(self._show, self._take()))
        else:
            place.do(self._beat)

    def _beat(self) -> None:
        """Let clocks go on, and show how the Lab stands."""
        (self.now if self._of_models.visible else self.running).beat()

    # Panel calls these two for each place where the page is shown and when that place is gone.

    def _get_model(self, doc: Any, root: Any = None, parent: Any = None, comm: Any = None) -> Any:
        model = super()._get_model(doc, root, parent, comm)
        with self._lock:
            self._places[(root or model).ref["id"]] = Place(doc, comm)
            if self._unsubscribe is None:
                self._unsubscribe = self._source.store.on_commit(self._ticker.wake)
                self._ticker.start()
                self._ticker.wake()
        return model

    def _cleanup(self, root: Any = None) -> None:
        super()._cleanup(root)
        with self._lock:
            if root is not None:
                self._places.pop(root.ref["id"], None)
            if not self._places:
                self._rest()

    def _rest(self) -> None:
        self._ticker.stop(wait=False)
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        # The cell carries all it needs: a cell shown again tomorrow must not depend on another cell's output.
        pn.extension("tabulator", "vega", inline=True)
        if not self._places:
            return super()._repr_mimebundle_(include, exclude)
        # A second cell gets a page of its own: what one browser has not drawn yet must not hold up the other.
        another = Dashboard(self._source, refresh=self._refresh)
        self._others = [*(other for other in self._others if other.live), another]
        return another._repr_mimebundle_(include, exclude)


def _sheet(sections: tuple[Section, ...], visible: bool = True) -> Any:
    views = [section.view for section in sections]
    return pn.Column(*views, visible=visible, stylesheets=[_style.SHEET], sizing_mode="stretch_width", margin=0)
