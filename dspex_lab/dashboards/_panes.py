"""Panel's HTML and Vega panes, mended for pages without a network.

When the content of one of these panes changes, Panel 1.9 sends its style sheets again, and in a notebook with inline
resources they go as addresses of a CDN. Style sheets do not change here, so they are not sent again.
"""

from __future__ import annotations

from typing import Any

import panel as pn


class Html(pn.pane.HTML):
    """An HTML pane whose style sheets are sent once."""

    priority = False  # never chosen by Panel for other people's objects

    def _update(self, ref: str, model: Any) -> None:
        model.update(**_without_sheets(self._get_properties(model.document)))


class Vega(pn.pane.Vega):
    """A Vega pane whose style sheets are sent once."""

    priority = False

    def _update(self, ref: str, model: Any) -> None:
        model.update(**_without_sheets(self._get_properties(model.document, sources=dict(model.data_sources))))


def _without_sheets(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name != "stylesheets"}
