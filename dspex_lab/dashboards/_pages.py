"""Which of the pages a person looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn

from dspex_lab.dashboards import _style
from dspex_lab.dashboards._base import JOBS, MODELS, POOLS, RUNS, SESSIONS, VARIABLES

PAGES = {
    "Runs": RUNS,
    "Models and health": MODELS,
    "Pools": POOLS,
    "Sessions": SESSIONS,
    "Variables": VARIABLES,
    "Jobs": JOBS,
}


class PageBar:
    """A button for each page.

    Args:
        changed: called when a person chose another page.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.view: Any = pn.widgets.RadioButtonGroup(options=PAGES, value=RUNS, stylesheets=[_style.PAGES], margin=0, width=610)
        self.view.param.watch(lambda _event: changed(), "value")

    @property
    def value(self) -> str:
        """The page that is shown."""
        return str(self.view.value)
