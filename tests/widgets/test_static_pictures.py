"""Static pictures: well-formed, escaped, without scripts or requests."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from widget_records import Emits, whole_run

from dspex_lab.widgets import RunState, graph_html, graph_svg, run_html, run_svg, run_text

EVIL = "<img src=x onerror=alert(1)> & \"quotes\" 'too'"


class Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def of_run(graph: dict[str, Any]) -> RunState:
    state = RunState(graph)
    for record in whole_run():
        state.apply(record)
    return state


def of_map(graph: dict[str, Any]) -> RunState:
    state = RunState(graph, total_rows=10)
    state.apply(Emits("m").start(kind="map"))
    for i in range(4):
        row = Emits(f"row{i}")
        state.apply(row.call("clean"))
        state.apply(row.span("clean", 0.1, "complete" if i else "failed", None if i else "bad"))
        state.apply(row.row("m", "complete" if i else "failed", at=i))
    state.apply(Emits("m").end("partial", 4, "map"))
    return state


def test_a_run_shows_its_steps_times_tokens_and_error(graph: dict[str, Any]) -> None:
    text = read(run_html(graph, *of_run(graph).snapshot())).text
    for part in ("demo", "Partial", "600 ms", "maker/model", "offline, simulated", "312 tokens", "400 ms · 312 tok", "skipped"):
        assert part in text
    assert "look: KeyError: '<script>alert(1)</script>'" in text
    assert "general-0" in text


def test_every_step_unfolds_its_fields(graph: dict[str, Any]) -> None:
    reader = read(run_html(graph, *of_run(graph).snapshot()))
    summaries = [attributes for tag, attributes in reader.tags if tag == "summary"]
    assert len(summaries) == 4
    assert summaries[0]["aria-label"] == "Step clean, native, complete, 3 ms"
    assert "KeyError" in str(summaries[2]["title"])
    assert re.search(r"Takes\s*intent\s*order\s*text\s*Gives\s*answer", re.sub(r"(intent|order|text)", r" \1 ", reader.text))


def test_a_map_shows_its_bar_and_counts(graph: dict[str, Any]) -> None:
    html = run_html(graph, *of_map(graph).snapshot())
    text = read(html).text
    assert "4 / 10 rows · 1 failed · 1.0/s" in text
    assert "3 complete, 1 failed" in text
    assert "1 ✕" in text
    assert "100 ms/row · 48 tok" in text
    assert 'class="dspex-part-complete" style="width:30.00%"' in html


def test_a_frequent_error_has_its_count(graph: dict[str, Any]) -> None:
    state = RunState(graph, total_rows=2)
    state.apply(Emits("m").start(kind="map"))
    state.apply(Emits("a").span("look", 0.1, "failed", "bad"))
    state.apply(Emits("b").span("look", 0.1, "failed", "bad"))
    assert "2 × bad" in run_html(graph, *state.snapshot())


def evil_pictures() -> list[str]:
    graph = {
        "name": EVIL,
        "inputs": [EVIL],
        "outputs": [EVIL],
        "nodes": [{"name": EVIL, "kind": EVIL, "inputs": [EVIL], "outputs": [EVIL], "pool": EVIL}],
        "edges": [{"from": "", "to": EVIL, "field": EVIL}],
    }
    run = Emits(name=EVIL)
    state = RunState(graph, lm=EVIL)
    state.apply(run.start())
    state.apply(run.span(EVIL, 0.1, "failed", EVIL, implementation=EVIL, worker=EVIL))
    state.apply(run.end("failed", error=EVIL, error_step=EVIL))
    snapshot = state.snapshot()
    return [graph_html(graph), run_html(graph, *snapshot), graph_svg(graph), run_svg(graph, *snapshot)]


@pytest.mark.parametrize("picture", evil_pictures(), ids=["graph", "run", "graph svg", "run svg"])
def test_nothing_from_outside_becomes_markup(picture: str) -> None:
    reader = read(picture)
    assert EVIL.split(" &")[0][:12] in reader.text
    assert {t for t, _ in reader.tags}.isdisjoint({"img", "script", "iframe", "link"})
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)


def test_pictures_ask_for_nothing(graph: dict[str, Any]) -> None:
    for picture in (*evil_pictures(), graph_html(graph)):
        assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", picture)
        assert not any({"src", "href"} & attributes.keys() for _, attributes in read(picture).tags)


def test_svg_is_a_document_of_its_own(graph: dict[str, Any]) -> None:
    state = of_run(graph)
    for picture in (graph_svg(graph), run_svg(graph, *state.snapshot()), run_svg(graph, *of_map(graph).snapshot())):
        root = ElementTree.fromstring(picture)  # noqa: S314 - our own text
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = "".join(root.itertext())
        assert "clean" in texts
        assert ".dspex-box" in texts


def test_a_pipelines_picture_has_its_fields_and_no_state(graph: dict[str, Any]) -> None:
    html = graph_html(graph)
    text = read(html).text
    assert "native · general pool" in text
    assert "waiting" not in text.lower()
    assert "dspex-icon" not in html.partition("</style>")[2]


def test_the_same_pipeline_gives_the_same_picture(graph: dict[str, Any]) -> None:
    assert graph_html(graph) == graph_html(graph)


def test_without_styles_the_text_still_reads(graph: dict[str, Any]) -> None:
    text = read(run_html(graph, *of_run(graph).snapshot())).text
    assert "demo\nPartial\n600 ms" in re.sub(r"\n+", "\n", text)
    assert "label: 400 ms · 312 tok" in text


def test_one_line_says_how_a_run_went(graph: dict[str, Any]) -> None:
    line = run_text(of_run(graph).snapshot()[1])
    assert line.startswith("demo: partial · 600 ms · 312 tokens · maker/model (offline, simulated) · look: KeyError")
    assert run_text(of_map(graph).snapshot()[1]).startswith("demo: partial · 4.0 s · 4 / 10 rows · 1 failed")
    assert run_text(RunState(graph).snapshot()[1]) == "demo: waiting"


def test_pictures_need_no_widget_library() -> None:
    code = (
        "import sys; from dspex_lab.widgets import graph_html\n"
        "graph_html({'name': 'x', 'nodes': [], 'edges': []})\n"
        "print(sorted({'anywidget', 'ipywidgets', 'traitlets', 'IPython'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
