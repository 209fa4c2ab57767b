"""Panel dashboards over a Lab's store: what ran, what runs, how fast, at what cost, what failed, and how models do.

``build`` gives the page as a Panel object for a notebook cell; ``serve`` gives it at a loopback address with a
token. Neither loads anything from the network. Panel and Altair are imported when one of the two is called.
``PageServer`` serves other pages in the same way; they look alike by ``Html``, the style sheets and the formats.
``standing`` and ``account`` say in a cell how the Lab's models and its budget stand, and need neither.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dspex_lab import _lazy
from dspex_lab._lazy import require
from dspex_lab.dashboards._base import Source
from dspex_lab.errors import ConfigurationError

if TYPE_CHECKING:
    from dspex_lab.dashboards._account import Account
    from dspex_lab.dashboards._format import count as count
    from dspex_lab.dashboards._format import dollars as dollars
    from dspex_lab.dashboards._format import duration as duration
    from dspex_lab.dashboards._format import status as status
    from dspex_lab.dashboards._page import Dashboard
    from dspex_lab.dashboards._page_server import PageServer as PageServer
    from dspex_lab.dashboards._panes import Html as Html
    from dspex_lab.dashboards._serve import Served
    from dspex_lab.dashboards._standing import Guarded, Standing
    from dspex_lab.dashboards._style import FIELD as FIELD
    from dspex_lab.dashboards._style import STATUS_COLOURS as STATUS_COLOURS
    from dspex_lab.dashboards._style import VARIABLES as VARIABLES

__all__ = ["Source", "account", "build", "serve", "standing"]

#: What other rooms make pages of; each loads Panel or pandas.
_HOME = {
    "FIELD": "_style",
    "STATUS_COLOURS": "_style",
    "VARIABLES": "_style",
    "Html": "_panes",
    "PageServer": "_page_server",
    "count": "_format",
    "dollars": "_format",
    "duration": "_format",
    "status": "_format",
}

__getattr__ = _lazy.names(__name__, _HOME)


def build(source: Source, *, refresh: float = 1.0) -> Dashboard:
    """Return the dashboard of a Lab as a Panel object; shown in a notebook cell it is live.

    Args:
        source: the Lab, or whatever has its ``name`` and ``store``.
        refresh: the shortest time between two updates, in seconds.

    Raises:
        ConfigurationError: ``refresh`` is not a positive number, or Panel or Altair is not installed.
    """
    _check(refresh)
    require("panel", "for dashboards")
    require("altair", "for the charts of dashboards")
    from dspex_lab.dashboards._page import Dashboard

    return Dashboard(source, refresh=refresh)


def serve(source: Source, port: int = 0, open: bool = False, *, refresh: float = 1.0) -> Served:  # noqa: A002 - the word of Panel and Bokeh
    """Serve the dashboard of a Lab on 127.0.0.1 and return at once.

    Args:
        source: the Lab, or whatever has its ``name`` and ``store``.
        port: the port, or 0 for a free one.
        open: also open it in the person's browser.
        refresh: the shortest time between two updates of a page, in seconds.

    Raises:
        ConfigurationError: the port is taken, ``refresh`` is not a positive number, or a package is missing.
    """
    _check(refresh)
    require("panel", "for dashboards")
    require("altair", "for the charts of dashboards")
    from dspex_lab.dashboards._serve import Served

    served = Served(source, port=port, refresh=refresh)
    if open:
        served.open()
    return served


def standing(source: Guarded) -> Standing:
    """Return how a Lab's components, models, circuits and degradation stand now, with the last changes; a cell shows it.

    Raises:
        StoreError: the store is closed, or can no longer be written or read.
    """
    from dspex_lab.dashboards import _standing

    return _standing.standing(source)


def account(source: Guarded) -> Account:
    """Return what a Lab may spend, has spent since it was opened, and holds; a cell shows it.

    Raises:
        StoreError: the store is closed, or can no longer be written or read.
    """
    from dspex_lab.dashboards import _account

    return _account.account(source)


def _check(refresh: float) -> None:
    if isinstance(refresh, bool) or not isinstance(refresh, int | float) or not math.isfinite(refresh) or refresh <= 0:
        raise ConfigurationError(
            f"A dashboard cannot refresh every {refresh!r} seconds.",
            key="refresh",
            expected="a positive number of seconds",
            actual=refresh,
            hint="Give a positive number of seconds, such as refresh=1.0.",
        )
