"""The widget's Python half: throttled pushes, traits, cancelling, the mime bundle, and a real kernel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import traitlets
from nbclient import NotebookClient
from widget_records import Emits, whole_run

import dspex_lab.widgets as room
from dspex_lab.widgets import RunWidget, show_run

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def widget(graph: dict[str, Any]) -> Iterator[RunWidget]:
    made = RunWidget(graph, lm="maker/model", simulated=True)
    yield made
    made.flush()
    made.close()


def pushes(widget: RunWidget) -> list[str]:
    """Return a list that grows by the status of the summary with every push."""
    seen: list[str] = []
    widget.observe(lambda change: seen.append(change["new"]["status"]), "summary")
    return seen


def test_it_starts_with_everything_waiting(widget: RunWidget) -> None:
    assert widget.summary["status"] == "waiting"
    assert widget.summary["lm"] == "maker/model"
    assert [n["name"] for n in widget.geometry["nodes"]] == ["clean", "label", "look", "answer"]
    assert widget.keys.count("graph") == 1
    assert "dspex-run" in widget._esm
    assert "--jp-" in widget._css


def test_the_first_change_and_the_end_are_pushed_at_once(widget: RunWidget) -> None:
    widget.INTERVAL = 3600
    seen = pushes(widget)
    for record in whole_run():
        widget.observe_run(record)
    assert seen == ["running", "partial"]
    assert widget.final
    assert widget.steps["look"]["status"] == "failed"


def test_what_comes_between_is_pushed_later_by_itself(widget: RunWidget) -> None:
    widget.observe_run(Emits().start())
    pushed = threading.Event()
    widget.observe(lambda _: pushed.set(), "steps")
    widget.observe_run(Emits().step("clean"))
    assert pushed.wait(30)
    assert widget.steps["clean"]["status"] == "running"


def test_a_change_after_the_end_is_not_lost(widget: RunWidget) -> None:
    widget.INTERVAL = 3600
    for record in whole_run():
        widget.observe_run(record)
    widget.observe_run(Emits().call("label", 5, 5))
    widget.flush()
    assert widget.steps["label"]["calls"] == 2


def test_records_from_many_threads_all_count(graph: dict[str, Any]) -> None:
    widget = RunWidget(graph, total_rows=4000)
    seen = pushes(widget)
    widget.observe_run(Emits("m").start(kind="map"))

    def work(thread: int) -> None:
        for i in range(1000):
            row = Emits(f"{thread}-{i}")
            widget.observe_run(row.span("clean"))
            widget.observe_run(row.row("m"))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    widget.observe_run(Emits("m").end(kind="map"))
    assert (widget.steps["clean"]["complete"], widget.summary["rows"]["done"]) == (4000, 4000)
    assert widget.summary["status"] == "complete"
    assert len(seen) < 800  # 8,001 records
    widget.close()


def test_an_interrupted_run_is_shown_as_such(widget: RunWidget) -> None:
    widget.observe_run(Emits().start())
    widget.interrupt()
    assert widget.summary["status"] == "interrupted"
    assert widget.final


def test_the_end_is_told_once(widget: RunWidget) -> None:
    told: list[str] = []
    widget.on_final(lambda: told.append(widget.summary["status"]))
    for record in whole_run():
        widget.observe_run(record)
    widget.observe_run(Emits().end("partial"))
    widget.interrupt()
    assert told == ["partial"]
    widget.on_final(lambda: told.append("late"))
    assert told == ["partial", "late"]


def test_cancel_calls_back_once(widget: RunWidget) -> None:
    calls: list[int] = []
    assert widget.cancelling == "none"
    widget._handle_custom_msg({"type": "cancel"}, [])
    remove = widget.on_cancel(lambda: calls.append(1))
    assert widget.cancelling == "ready"
    widget._handle_custom_msg({"type": "something else"}, [])
    widget._handle_custom_msg("nonsense", [])
    assert calls == []
    widget._handle_custom_msg({"type": "cancel"}, [])
    widget._handle_custom_msg({"type": "cancel"}, [])
    assert calls == [1]
    assert widget.cancelling == "asked"
    remove()
    assert widget.cancelling == "none"


@pytest.mark.parametrize(
    ("trait", "value"),
    [
        ("graph", {"nodes": [{"name": ""}]}),
        ("graph", {"nodes": [{"name": "a"}, {"name": "a"}]}),
        ("graph", {"nodes": [{"name": "a"}], "edges": [{"from": "a", "to": "b"}]}),
        ("steps", {"clean": {"status": "odd"}}),
        ("summary", {"status": "odd"}),
        ("cancelling", "odd"),
        ("steps", ["not a dict"]),
    ],
)
def test_a_trait_of_the_wrong_shape_is_refused(widget: RunWidget, trait: str, value: Any) -> None:
    with pytest.raises(traitlets.TraitError):
        setattr(widget, trait, value)


def test_the_bundle_has_the_widget_a_picture_of_now_and_a_line(widget: RunWidget) -> None:
    widget.INTERVAL = 3600
    widget.observe_run(Emits().start())
    widget.observe_run(Emits().step("clean"))
    data, _ = widget._repr_mimebundle_()
    assert set(data) == {VIEW, "text/html", "text/plain"}
    assert "dspex-node dspex-is-running" in data["text/html"]
    assert data["text/plain"].startswith("demo: running")
    assert "<svg" in widget.to_svg()


def test_a_closed_widget_still_has_its_picture(graph: dict[str, Any]) -> None:
    widget = RunWidget(graph)
    layout_model = widget.layout
    for record in whole_run():
        widget.observe_run(record)
    widget.close()
    assert "Partial" in widget._repr_html_()
    assert repr(widget).startswith("demo: partial")
    assert layout_model.comm is None
    widget.observe_run(Emits().call("label"))
    widget.flush()


def test_outside_ipython_the_line_is_printed(graph: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with show_run(RunWidget(graph)) as widget:
        for record in whole_run():
            widget.observe_run(record)
    before, after = capsys.readouterr().out.splitlines()
    assert before == "demo: waiting"
    assert after.startswith("demo: partial")


def test_an_unknown_name_of_the_room_is_an_error() -> None:
    assert set(room.__all__) <= set(dir(room))
    with pytest.raises(AttributeError, match="nothing"):
        _ = room.nothing


CELLS = [
    "import sys, threading; sys.path.insert(0, {path!r})\n"
    "from widget_records import Emits, whole_run\n"
    "from dspex_lab.widgets import RunWidget, show_run\n"
    "graph = {graph!r}",
    "with show_run(RunWidget(graph)) as w:\n"
    "    t = threading.Thread(target=lambda: [w.observe_run(r) for r in whole_run()]); t.start(); t.join()",
    "w = RunWidget(graph); w\n",
    "with show_run(RunWidget(graph)) as w:\n    w.observe_run(Emits().start()); w.observe_run(Emits().step('clean'))\n"
    "    raise ValueError('stop')",
    "with show_run(RunWidget(graph)) as later:\n    later.observe_run(Emits().start())",
]


def test_a_saved_notebook_holds_the_last_state(graph: dict[str, Any], tmp_path: Path) -> None:
    cells = [CELLS[0].format(path=str(Path(__file__).parent), graph=graph), *CELLS[1:]]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, kernel_name="python3", timeout=120, allow_errors=True).execute(cwd=str(tmp_path))
    _, run, shown, raised, background = [cell["outputs"] for cell in notebook["cells"]]
    assert [o["output_type"] for o in run] == ["display_data"]
    assert set(run[0]["data"]) == {"text/html", "text/plain"}
    assert "dspex-is-partial" in run[0]["data"]["text/html"]
    assert run[0]["data"]["text/plain"].startswith("demo: partial")
    assert {VIEW, "text/html"} <= set(shown[0]["data"])
    assert raised[0]["data"]["text/plain"].startswith("demo: interrupted")
    assert (raised[1]["output_type"], raised[1]["ename"]) == ("error", "ValueError")
    assert VIEW in background[0]["data"]
