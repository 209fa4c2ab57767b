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
from dspex_lab.dashboards._base import JOBS, MODELS, POOLS, RUNS, SESSIONS, VARIABLES, Section, Source
from dspex_lab.dashboards._detail import Detail
from dspex_lab.dashboards._empty import Empty
from dspex_lab.dashboards._errors import Errors
from dspex_lab.dashboards._filters import FilterBar
from dspex_lab.dashboards._header import Header
from dspex_lab.dashboards._jobs import job_sections
from dspex_lab.dashboards._live import Ticker
from dspex_lab.dashboards._models import Models, Now, States, models_over_time
from dspex_lab.dashboards._pages import PageBar
from dspex_lab.dashboards._place import Place
from dspex_lab.dashboards._pools import PoolsBefell, PoolsNow, PoolsUse, pools_over_time
from dspex_lab.dashboards._running import Running
from dspex_lab.dashboards._runs import Runs
from dspex_lab.dashboards._sessions import SessionsOverTime, SessionsUsed
from dspex_lab.dashboards._snapshot import Snapshot, take
from dspex_lab.dashboards._trends import Trends
from dspex_lab.dashboards._variables import VariableChanges, VariablesNow, VariablesOverTime


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
        self.now, self.models, self.over_time, self.states = Now(source), Models(), models_over_time(), States()
        of_runs = (self.empty, self.running, self.trends, self.runs, self.detail, self.errors)
        of_models = (self.now, self.models, self.over_time, self.states)
        self.pools_now, self.pools, self.pools_time, self.befell = (
            PoolsNow(source),
            PoolsUse(),
            pools_over_time(),
            PoolsBefell(),
        )
        of_pools = (self.pools_now, self.pools, self.pools_time, self.befell)
        self.sessions, self.sessions_time = SessionsUsed(), SessionsOverTime()
        of_sessions = (self.sessions, self.sessions_time)
        self.variables, self.variables_time, self.variable_changes = VariablesNow(), VariablesOverTime(), VariableChanges()
        of_variables = (self.variables, self.variables_time, self.variable_changes)
        self.jobs, self.job, self.job_scores, self.job_detail = of_jobs = job_sections(self._changed)
        of_all = (*of_runs, *of_models, *of_pools, *of_sessions, *of_variables, *of_jobs)
        self._sections: tuple[Section, ...] = (self.header, *of_all)
        self._of_runs, self._of_models = _sheet(of_runs), _sheet(of_models, visible=False)
        self._of_pools = _sheet(of_pools, visible=False)
        self._of_sessions = _sheet(of_sessions, visible=False)
        self._of_variables = _sheet(of_variables, visible=False)
        self._of_jobs = _sheet(of_jobs, visible=False)
        self._sheets = {
            RUNS: self._of_runs,
            MODELS: self._of_models,
            POOLS: self._of_pools,
            SESSIONS: self._of_sessions,
            VARIABLES: self._of_variables,
            JOBS: self._of_jobs,
        }
        self._shown = RUNS
        top = pn.FlexBox(self.pages.view, self.filters.view, gap="10px", margin=0, sizing_mode="stretch_width")
        super().__init__(
            self.header.view,
            top,
            self._of_runs,
            self._of_models,
            self._of_pools,
            self._of_sessions,
            self._of_variables,
            self._of_jobs,
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
        return take(self._source, self.filters.value, self._selected, self.pages.value, self.job.value)

    def _show(self, snapshot: Snapshot) -> None:
        for section in self._sections:
            section.update(snapshot)
        for part in (self.trends, self.runs, self.errors):
            if part.view.visible == snapshot.empty:
                part.view.visible = not snapshot.empty
        self._shown = snapshot.page
        self.filters.show(self._shown == RUNS)
        for page, sheet in self._sheets.items():
            if sheet.visible != (page == self._shown):
                sheet.visible = page == self._shown
        # How the Lab and its workers stand changes without a record in the store.
        beating = {MODELS: self.now.alive, POOLS: self.pools_now.alive, RUNS: self.running.busy}
        self._ticker.beating = beating.get(self._shown, False)

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
        """Let clocks go on, and show how the Lab and its workers stand."""
        beats = {MODELS: self.now.beat, POOLS: self.pools_now.beat, RUNS: self.running.beat}
        if self._shown in beats:
            beats[self._shown]()

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
