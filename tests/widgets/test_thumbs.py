"""Thumbs under a result: what they show and keep; and how live widgets are shown in a cell, with their pictures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient

import dspex_lab as dx
from dspex_lab import Lab
from dspex_lab.events import EVENT_NAMES
from dspex_lab.store import FeedbackTable
from dspex_lab.widgets import ThumbsWidget, show_board, show_thumbs, thumbs_under_results

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(":memory:") as made:
        yield made


def label(message: str) -> dict[str, Any]:
    return {"label": "wrong", "score": 1.5, "tags": ["a"]}


def _thumbs(lab: Lab) -> ThumbsWidget:
    pipeline = dx.pipeline("support", triage=dx.step(label, outputs=["label", "score", "tags"]))
    lab.run(pipeline, message="a")
    return show_thumbs(lab)


def test_a_thumb_is_feedback_on_the_run(lab: Lab) -> None:
    widget = _thumbs(lab)
    assert widget.fields == [["label", "wrong"], ["score", "1.5"], ["tags", "['a']"]]
    widget._message(widget, {"type": "say", "verdict": "down", "correction": None}, [])
    assert widget.said == {"verdict": "bad", "corrected": [], "error": ""}
    said = {"type": "say", "verdict": None, "correction": {"label": "right", "score": "2", "tags": "['b']", "other": "x"}}
    widget._message(widget, said, [])
    assert widget.said == {"verdict": "bad", "corrected": ["label", "score", "tags"], "error": ""}
    rows = lab.sql("SELECT verdict, correction::VARCHAR AS c FROM feedback ORDER BY time")
    assert rows["verdict"][0] == "bad"
    assert json.loads(rows["c"][1]) == {"label": "right", "score": 2, "tags": ["b"]}
    assert repr(widget).endswith(": bad, corrected: label, score, tags")
    assert "<img" not in widget.to_html()
    data, _ = widget._repr_mimebundle_()  # type: ignore[misc]
    assert "text/html" in data
    widget.close()
    widget.close()
    widget._message(widget, {"type": "say", "verdict": "up"}, [])
    assert len(lab.sql("SELECT * FROM feedback")) == 2


def test_thumbs_show_what_was_said_anywhere(lab: Lab) -> None:
    widget = _thumbs(lab)
    lab.feedback(verdict="down", correction={"label": "right"})
    lab.feedback(verdict="up", step="triage")  # of the step alone
    assert widget.said == {"verdict": "bad", "corrected": ["label"], "error": ""}
    again = show_thumbs(lab)
    assert again.said == widget.said
    assert repr(again).endswith(": bad, corrected: label")
    for each in (widget, again):
        each.close()
    lab.feedback(verdict="up")
    assert widget.said["verdict"] == "bad", "what is closed follows no more"
    assert "run.feedback" in set(lab.sql("SELECT name FROM events")["name"]) <= EVENT_NAMES


def test_thumbs_miss_nothing_and_have_runs_tell_no_more_than_before(lab: Lab) -> None:
    first = _thumbs(lab)
    assert not lab.bus.watched

    says = threading.Thread(target=lambda: lab.feedback(first._run, verdict="down"))

    def said_meanwhile() -> list[Any]:
        rows = FeedbackTable(lab.store).of(first._run)
        if says.ident is None:
            says.start()
            while not FeedbackTable(lab.store).of(first._run):
                pass
        return rows  # as they were before

    late = ThumbsWidget(lab.feedback, first._run, {}, said_meanwhile, lab.bus)
    says.join()
    assert late.said["verdict"] == "bad"
    assert first.said == late.said
    late.close()


@pytest.mark.parametrize(
    "content",
    [
        "up",
        {"type": "say"},
        {"type": "say", "verdict": "maybe"},
        {"type": "say", "verdict": None, "correction": {"nothing": "x"}},
    ],
)
def test_nothing_else_is_feedback(lab: Lab, content: Any) -> None:
    widget = _thumbs(lab)
    widget._message(widget, content, [])
    assert len(lab.sql("SELECT * FROM feedback")) == 0
    widget.close()


def test_what_was_typed_is_a_value_of_the_fields_kind_or_a_text(lab: Lab) -> None:
    widget = _thumbs(lab)
    assert widget._read("tags", "not a list") == "not a list"
    assert widget._read("tags", "{'a': 1}") == "{'a': 1}"
    assert widget._read("label", "2") == "2"
    widget.close()


def test_feedback_that_is_refused_is_said(lab: Lab) -> None:
    widget = _thumbs(lab)
    lab.sql("SELECT 1")

    def refuse(**said: Any) -> Any:
        raise dx.ConfigurationError("no")

    widget._say = refuse
    widget._message(widget, {"type": "say", "verdict": "up", "correction": None}, [])
    assert "no" in widget.said["error"]
    widget.close()


def test_thumbs_are_for_runs_that_there_are(lab: Lab) -> None:
    with pytest.raises(dx.ConfigurationError, match="no such run"):
        show_thumbs(lab)
    widget = _thumbs(lab)
    again = show_thumbs(lab, lab.last_result.run_id if lab.last_result else "")
    assert again.fields == widget.fields
    widget.close()
    again.close()


def test_thumbs_stand_under_results_as_long_as_that_is_wanted(lab: Lab) -> None:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    result = lab.run(dx.step(label, outputs=["label", "score", "tags"]), message="a")
    formatter = shell.display_formatter.ipython_display_formatter
    assert not formatter(result)
    thumbs_under_results(shell, lambda: lab)
    assert formatter(result) is True
    thumbs_under_results(shell, lambda: None)
    assert not formatter(result)
    InteractiveShell.clear_instance()


# ---- in a cell --------------------------------------------------------------------------------------------------------


def test_shown_in_a_cell_it_leaves_its_picture(lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import IPython.display

    class Handle:
        def __init__(self) -> None:
            self.shown: list[Any] = []

        def update(self, data: Any, raw: bool) -> None:
            self.shown.append(data)

    handles: list[Handle] = []

    def display(data: Any, **how: Any) -> Handle:
        handles.append(Handle())
        handles[-1].shown.append(data)
        return handles[-1]

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(InteractiveShell, "initialized", lambda: True)
    widget = show_board(lab)
    thumbs = _thumbs(lab)
    view, picture, *_ = (handle.shown[0] for handle in handles)
    assert view.keys() == {VIEW, "text/plain"}
    assert picture["text/html"].startswith(f'<div class="{widget.saved}">')
    assert "Variables of default" in picture["text/html"], "who saves the notebook now has the picture in it"
    lab.close()
    views, pictures = handles[::2], handles[1::2]
    assert ["<" in handle.shown[-1]["text/html"] for handle in views] == [True, True]
    assert [handle.shown[-1]["text/html"] for handle in pictures] == ["", ""], "there is one of each"
    assert any("Variables of default" in handle.shown[-1]["text/plain"] for handle in views)
    assert widget._ended
    assert thumbs._ended


def _judged_in_a_cell(lab: Lab, monkeypatch: pytest.MonkeyPatch, update: Callable[[str], object]) -> None:
    """Show thumbs in a cell whose picture is given to ``update``, and say of the run that it was bad."""
    import IPython.display

    class Handle:
        def update(self, data: Any, raw: bool) -> None:
            update(data["text/html"])

    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: Handle())
    monkeypatch.setattr(InteractiveShell, "initialized", lambda: True)
    monkeypatch.setattr("dspex_lab.widgets._live_show._Saved.EVERY", 0.0)
    _thumbs(lab)
    lab.feedback(verdict="down")


def test_the_picture_beside_it_follows_what_is_live(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Event()
    _judged_in_a_cell(lab, monkeypatch, lambda html: written.set() if "bad" in html else None)
    assert written.wait(30)


def test_a_picture_that_is_written_while_it_is_closed_does_not_stay_beside_the_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    emptied = threading.Event()

    def update(html: str) -> None:
        if "<style>" in html:
            lab.close()
        shown.append(html)
        if not html and any("<style>" in each for each in shown):
            emptied.set()

    _judged_in_a_cell(lab, monkeypatch, update)
    assert emptied.wait(30)
    assert shown[-1] == ""


CELLS = """
import dspex_lab as dx
lab = dx.lab()
lab.variables.float("t", 0.0, 1.5, default=0.5)
%load_ext dspex_lab
%dspex vars --live
---
lab.variables["t"].set(0.75)
lab.close()
"""


def test_a_saved_notebook_has_the_picture_in_the_boards_place(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in CELLS.split("---")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    output, beside = [o for o in notebook.cells[0].outputs if o.output_type == "display_data"]
    assert VIEW not in output.data
    assert "0.75" in output.data["text/html"]
    assert beside.data["text/html"] == ""


def test_a_notebook_that_is_saved_while_the_board_is_live_has_its_picture_too(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELLS.split("---")[0].strip())])
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    view, beside = [o for o in notebook.cells[0].outputs if o.output_type == "display_data"]
    assert view.data.keys() == {VIEW, "text/plain"}
    name = f"dspex-saved-{view.data[VIEW]['model_id']}"
    assert beside.data["text/html"].startswith(f'<div class="{name}">')
    assert "0.5" in beside.data["text/html"]
    assert "t = 0.5" in beside.data["text/plain"]
