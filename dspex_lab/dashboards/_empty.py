"""What the page says while there is nothing to show."""

from __future__ import annotations

from dspex_lab.dashboards._parts import show, text
from dspex_lab.dashboards._snapshot import Snapshot

_WELCOME = """<div class="empty"><h2>Nothing has run yet</h2>
<p class="dim">Run something in the notebook; it shows here by itself.</p>
<pre>import dspex_lab as dx

lab = dx.lab()
lab.predict("question -&gt; answer", question="What is a Lab?")</pre></div>"""

_NARROWED = """<div class="empty"><h2>No run passes these filters</h2>
<p class="dim">Choose a longer time, another status, or empty the name.</p></div>"""

_LATELY = """<div class="empty"><h2>No run in this time</h2>
<p class="dim">Choose a longer time above to see earlier runs, or run something: it shows here by itself.</p></div>"""


class Empty:
    """A friendly word instead of empty boxes."""

    def __init__(self) -> None:
        self.view = text(card=True, visible=False)

    def update(self, snapshot: Snapshot) -> None:
        """Say what to do, if there is nothing."""
        if snapshot.empty:
            show(self.view, _WELCOME if snapshot.never else _NARROWED if snapshot.filters.narrowed else _LATELY)
        if self.view.visible != snapshot.empty:
            self.view.visible = snapshot.empty
