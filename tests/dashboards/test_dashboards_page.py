"""The page as a Panel object: what it says, what it does when it is used, and how it follows the store."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import panel as pn
import pytest
from bokeh.document import Document
from panel.io.model import add_to_doc
from pyviz_comms import Comm

from dspex_lab import dashboards
from dspex_lab.dashboards import _place
from dspex_lab.dashboards._panes import Html
from dspex_lab.dashboards._place import Place
from dspex_lab.errors import StoreError
from dspex_lab.events import RunRecord

EVIL = "<img src=x onerror=alert(1)>"


def _html(page: pn.Column) -> str:
    """Return all HTML that the page asks a browser to read."""
    return "\n".join(pane.object for pane in page.select(Html) if pane.visible)


def _visible(section: Any) -> bool:
    return bool(section.view.visible)


def test_an_empty_store_says_what_to_do_and_shows_no_empty_boxes(lab) -> None:
    page = dashboards.build(lab)
    assert "Nothing has run yet" in _html(page)
    assert "lab.predict(" in _html(page)
    assert [_visible(s) for s in (page.empty, page.trends, page.runs, page.errors, page.detail, page.running)] == [True] + [
        False
    ] * 5


def test_an_empty_page_that_is_the_filters_doing_says_so(lab) -> None:
    lab.run(started=1_700_000_000.0)
    page = dashboards.build(lab)
    assert "No run in this time" in _html(page)
    page.filters.name.value = "nothing like it"
    assert "No run passes these filters" in _html(page)
    page.filters.name.value, page.filters.window.value = "", 0
    assert not _visible(page.empty)
    assert _visible(page.runs)


def test_the_top_has_name_runs_failures_tokens_cost_drops_and_simulated(lab) -> None:
    lab.run()
    lab.run(status="failed", error="no", simulated=True)
    lab.run(kind="row", status="failed")
    lab.run(status="partial")
    html = dashboards.build(lab).header.view.object
    for part in ("tickets.ipynb", "<b>3</b><span>runs", 'bad"><b>1</b><span>failed', "<b>1</b><span>partial", "<b>360</b>"):
        assert part in html
    assert "<b>1</b><span>map rows, 1 not complete" in html
    assert "<b>$0.7500</b><span>cost" in html
    assert "<b>0</b><span>records dropped" in html
    assert "offline engine: their tokens and times are simulated" in html


def test_without_a_simulated_run_nothing_is_said_of_simulation(lab) -> None:
    lab.run()
    assert "simulated" not in dashboards.build(lab).header.view.object


def test_dropped_records_are_not_overlooked(tmp_path) -> None:
    from dspex_lab.events import Event
    from dspex_lab.store import Store

    gate, held = threading.Event(), threading.Event()

    class Small:
        name = "small"
        store = Store(":memory:", capacity=1)

    def hold(_records: object) -> None:
        held.set()
        gate.wait()

    with Small.store as store:
        unsubscribe = store.on_commit(hold)
        store.write(Event("run.start", 0.0, "r"))
        held.wait()
        for _ in range(50):
            store.write(Event("lm.call", 0.0, "r"))
        gate.set()
        unsubscribe()
        assert store.dropped > 0
        html = dashboards.build(Small()).header.view.object
        assert f'bad"><b>{store.dropped}</b><span>records dropped' in html
        assert f"{store.dropped} detail records were dropped" in html


def test_whatever_a_record_says_is_shown_as_text(lab) -> None:
    lab.name = EVIL
    run_id = lab.run(EVIL, status="failed", error=f"{EVIL}\nline 2", error_step=EVIL, lm=EVIL, inputs={EVIL: EVIL})
    lab.begin(EVIL)
    page = dashboards.build(lab)
    page.choose(run_id)
    html = _html(page)
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 6
    assert "Where is my &lt;card&gt;?" in html
    assert "It &lt;b&gt;comes&lt;/b&gt;" in html
    for table in (page.runs.table.view, page.errors.table.view):
        assert EVIL in set(table.value["name"])
        texts = [name for name in table.value.columns if table.value[name].dtype.kind not in "fi" and name != "key"]
        assert all(table.formatters[name] == {"type": "plaintext"} for name in texts)


def test_the_list_has_what_a_run_was_and_sorts_numbers_as_numbers(lab) -> None:
    lab.run(status="failed", error="ValueError: no\nmore", error_step="triage")
    row = dashboards.build(lab).runs.table.view.value.iloc[0]
    assert (row["status"], row["name"], row["kind"], row["error"]) == ("✗ failed", "support", "run", "triage: ValueError: no")
    assert (row["seconds"], row["tokens"], row["cost"]) == (1.5, 120.0, 0.25)


def test_choosing_a_run_shows_its_spans_and_calls_and_keeps_it_while_others_come(lab) -> None:
    first = lab.run("first", status="failed", error="broke", error_step="triage")
    page = dashboards.build(lab)
    assert not _visible(page.detail)
    page.runs.table._clicked(type("Event", (), {"row": 0}))
    assert _visible(page.detail)
    assert page.detail.spans.chart is not None
    for part in ("broke", "Be kind.", "from cache", "Inputs", "Outputs", "100 + 20 tokens"):
        assert part in _html(page)
    lab.run("second")
    page.update()
    assert page.runs.table.chosen == [first] == page.errors.table.chosen
    assert list(page.runs.table.view.value["mark"]) == ["", "▸"]
    page.choose(None)
    assert not _visible(page.detail)


def test_choosing_an_error_shows_its_run(lab) -> None:
    run_id = lab.run("failing", kind="row", row_index=3, status="failed", error="broke")
    page = dashboards.build(lab)
    page.errors.table._clicked(type("Event", (), {"row": 0}))
    assert page.errors.table.chosen == [run_id]
    assert "failing" in page.detail.view[0].object


def test_an_error_of_no_run_cannot_be_chosen(lab) -> None:
    from dspex_lab.events import LMCall

    lab.run()
    lab.store.write(LMCall("c", None, None, None, "m", 4e9, 0.1, None, None, None, False, False, "no answer"))
    page = dashboards.build(lab)
    page.errors.table._clicked(type("Event", (), {"row": 0}))
    assert not _visible(page.detail)


def test_a_map_says_how_many_rows_it_has_and_lists_them(lab) -> None:
    whole = lab.run("many", kind="map")
    lab.run("many", kind="row", parent_id=whole, row_index=0)
    lab.run("many", kind="row", parent_id=whole, row_index=1, status="failed")
    page = dashboards.build(lab)
    page.choose(whole)
    assert "2 rows, 1 of them not complete" in _html(page)
    page.filters.rows.value = True
    assert set(page.runs.table.view.value["name"]) == {"many [0]", "many [1]"}


def test_long_and_odd_calls_are_shown_whole_enough(lab) -> None:
    from dspex_lab.events import LMCall

    run_id = lab.run()
    for index, messages in enumerate(["just text", {"role": "user", "content": [{"type": "text"}]}, ["x" * 30_000], None]):
        call = LMCall(f"c{index}", None, run_id, None, "m", 4e9 + index, None, None, None, None, False, True, "late", messages)
        lab.store.write(call._replace(outputs={"text": "from a dict"} if index else [{"tool_calls": []}]))
    page = dashboards.build(lab)
    page.choose(run_id)
    html = _html(page)
    for part in (
        "just text",
        "&quot;type&quot;: &quot;text&quot;",
        "10,000 more characters",
        "from a dict",
        "tool_calls",
        "late",
    ):
        assert part in html


def test_a_run_without_values_spans_and_calls_is_shown_without_boxes_for_them(lab) -> None:
    lab.store.write(RunRecord("bare", None, "run", "bare", "cancelled", 4e9, 0.1))
    page = dashboards.build(lab)
    page.choose("bare")
    html = _html(page)
    assert "Inputs" not in html
    assert "No language model was called." in html
    assert "No spans were kept for this run." in html
    assert page.detail.spans.chart is None


def test_what_is_the_same_is_not_sent_again(lab) -> None:
    lab.run()
    page = dashboards.build(lab)
    changes: list[Any] = []
    for view in page.select(lambda v: hasattr(v, "param")):
        view.param.watch(changes.append, [n for n in ("object", "value", "visible", "height") if n in view.param])
    page.update()
    assert changes == []
    lab.run()
    page.update()
    assert changes


def test_what_runs_is_shown_with_a_clock_that_goes_on(lab) -> None:
    lab.begin("long map", "map", started=1_700_000_000.0)
    page = dashboards.build(lab)
    before = page.running.view.object
    assert "Running now (1)" in before
    assert "0 rows done" in before
    assert page.running.busy
    page.running._frame["started"] -= __import__("pandas").Timedelta(hours=5)
    page.running.beat()
    assert page.running.view.object != before


def test_a_page_that_is_shown_follows_the_store_until_it_is_gone(lab, eventually) -> None:
    page = dashboards.build(lab, refresh=0.01)
    assert not page.live
    assert repr(page) == "Dashboard of 'tickets.ipynb'"
    root = page.get_root(Document())
    assert page.live
    assert "live" in repr(page)
    lab.run("new one")
    eventually(lambda: "new one" in set(page.runs.table.view.value["name"]))
    page.filters.name.value = "no such"
    eventually(lambda: "No run passes" in _html(page))
    page._cleanup(root)
    eventually(lambda: not page.live)
    page.get_root(Document())
    page.filters.name.value = ""
    eventually(lambda: _visible(page.runs))
    page.stop()
    page.stop()
    assert not page.live
    lab.run("unseen")
    page._tick(True)  # one that was under way finds no place to show anything
    assert "unseen" not in set(page.runs.table.view.value["name"])


def test_a_page_that_is_shown_beats_while_something_runs(lab, eventually) -> None:
    page = dashboards.build(lab, refresh=0.01)
    page.get_root(Document())
    run_id = lab.begin("slow one", started=__import__("time").time() - 1.9)
    eventually(lambda: page.running.busy)
    first = page.running.view.object
    eventually(lambda: page.running.view.object != first)
    lab.run("slow one", run_id=run_id)
    eventually(lambda: not page.running.busy)
    page.stop()


def test_a_closed_store_is_said_and_a_shown_page_survives_it(lab, caplog, eventually) -> None:
    page = dashboards.build(lab, refresh=0.01)
    page.get_root(Document())
    lab.store.close()
    page.filters.name.value = "x"
    eventually(lambda: "could not be updated" in caplog.text)
    page.stop()
    with pytest.raises(StoreError):
        dashboards.build(lab)


class _Cell(Comm):
    """The connection of a cell's output, which opens when the test says so and keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []

    def init(self, on_msg: Any = None) -> None:
        self._comm = self

    def send(self, data: Any = None, metadata: Any = None, buffers: Any = ()) -> None:
        self.sent.append(data)


def test_a_cell_is_sent_changes_from_when_its_browser_is_there(lab, eventually) -> None:
    page = dashboards.build(lab, refresh=0.01)
    cell = _Cell()
    document = Document()
    add_to_doc(page.get_root(document, cell), document, hold=True)  # as Panel does for a cell
    lab.run("early")
    assert cell.sent == []
    assert page.runs.table.view.value.empty
    cell.init()
    eventually(lambda: any("early" in str(data) for data in cell.sent))
    page.stop()
    assert "ImportedStyleSheet" not in str(cell.sent)  # Panel would send these again, as addresses of a CDN
    assert "cdn." not in str(cell.sent)


def test_a_second_cell_has_a_page_of_its_own_that_ends_with_the_first(lab, monkeypatch) -> None:
    lab.run("shown")
    monkeypatch.setattr(pn.config, "inline", pn.config.inline)
    page = dashboards.build(lab)
    first, _ = page._repr_mimebundle_()
    assert "tickets.ipynb" in first["text/html"]
    page._repr_mimebundle_()
    (other,) = page._others
    assert other.live
    page.stop()
    assert not other.live


def test_a_change_is_made_in_the_kernels_loop_or_else_where_it_came_from(monkeypatch) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def place() -> Place:
        return Place(Document(), _Cell())

    there = asyncio.run_coroutine_threadsafe(place(), loop).result()
    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(_place, "PATIENCE", 60.0)  # a loop that is free comes round to it, however slow the machine is
        there.do(lambda: done.append(threading.get_ident()))
    assert done == [thread.ident]

    busy, release = threading.Event(), threading.Event()
    loop.call_soon_threadsafe(lambda: (busy.set(), release.wait()))
    busy.wait()
    there.do(lambda: done.append(threading.get_ident()))  # the loop is held by "a cell"
    assert done[1:] == [threading.get_ident()]
    release.set()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    assert len(done) == 2
    loop.close()
    there.do(lambda: done.append(0))
    assert done[2:] == [0]
    assert _place.PATIENCE < 1
