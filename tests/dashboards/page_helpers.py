"""What the tests of the pages share: how one is opened, and how a person goes there and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from bokeh.document import Document

from dspex_lab import dashboards
from dspex_lab.dashboards._pages import PAGES, RUNS


def opened_at(at: str, lab: Any) -> Any:
    """Return the dashboard of a Lab, opened at a page."""
    lab.store.flush()
    page = dashboards.build(lab)
    page.pages.view.value = at
    return page


def there_and_back(at: str, lab: Any, *sections: str) -> None:
    """Go to a page and back; see that nothing but it is shown there, and that its sections were not asked for before."""
    assert at in PAGES.values()
    page = dashboards.build(lab)
    assert page.pages.value == RUNS
    for section in sections:
        assert getattr(page, section).view.object == "", "what is not looked at is not asked for"
    for here in (RUNS, at, RUNS):
        page.pages.view.value = here
        page._beat()
        assert [name for name in PAGES.values() if getattr(page, f"_of_{name}").visible] == [here]
        assert (page.filters.name.visible, page.filters.window.visible) == (here == RUNS, True)


def draws_each(over_time: Any, measures: Iterable[str]) -> None:
    """See that each measure has a chart, and that one is shown at a time."""
    for name in measures:
        over_time.measure.value = name
        chart = over_time.charts[name]
        assert chart.view.visible
        assert sum(c.view.visible for c in over_time.charts.values()) == 1
        assert chart.chart is not None, name


@contextmanager
def followed(at: str, lab: Any) -> Iterator[Any]:
    """Show a page, so that it follows the store, until the block is over."""
    page = dashboards.build(lab, refresh=0.02)
    page.pages.view.value = at
    root = page.get_root(Document())
    try:
        yield page
    finally:
        page._cleanup(root)
        page.stop()
