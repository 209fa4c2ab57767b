"""The page in a cell of a real kernel: what the cell's output holds."""

from __future__ import annotations

import json

import nbclient
import nbformat

CODE = """
from types import SimpleNamespace
from dspex_lab import dashboards
from dspex_lab.events import RunRecord
from dspex_lab.store import Store

lab = SimpleNamespace(name="in a cell", store=Store(":memory:"))
lab.store.write(RunRecord("r", None, "run", "shown run", "complete", __import__("time").time(), 0.5))
dashboards.build(lab)
"""


def test_a_cell_holds_all_it_needs_and_names_no_other_host() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert not [o for o in outputs if o.output_type in ("error", "stream")]
    (page,) = [o.data["text/html"] for o in outputs if o.output_type == "execute_result"]
    assert "in a cell" in page
    assert "shown run" in page
    assert "cdn." not in page
    assert "ImportedStyleSheet" not in page
    scripts = json.dumps([o.data.get("application/javascript", "") for o in outputs if o.output_type == "display_data"])
    for name in ("Tabulator", "vegaEmbed", "Bokeh"):
        assert name in scripts
