"""Static pictures: well-formed, escaped, without scripts or requests."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from graphs import KINDS, chain, support
from widget_records import Emits, whole_run

import dspex_lab as dx
from dspex_lab.widgets import RunState, graph_html, graph_svg, graph_text, graph_view, layout, run_html, run_svg, run_text

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
        "nodes": [
            {
                **dict.fromkeys(("name", "kind", "pool", "does"), EVIL),
                "inputs": [EVIL],
                "outputs": [EVIL],
                "options": {EVIL: EVIL},
                "parts": {"nodes": [{"name": EVIL, "kind": EVIL}], "edges": []},
            }
        ],
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
    assert "dspex-pool" in html.partition("</style>")[2]


def test_a_pipelines_svg_tells_what_it_is_to_those_who_cannot_see_it() -> None:
    root = ElementTree.fromstring(graph_svg(support()))  # noqa: S314 - our own text
    space = {"s": "http://www.w3.org/2000/svg"}
    assert root.get("role") == "img"
    assert root.findtext("s:title", namespaces=space) == "Pipeline support"
    told = root.findtext("s:desc", namespaces=space) or ""
    assert told.startswith("Takes message; gives reply. 12 steps: clean (native), ")
    assert "find (native · general pool)" in told
    assert "reply.otherwise.draft to reply.otherwise.polish (d)" in told
    titles = {e.text for e in root.iter("{http://www.w3.org/2000/svg}title")}
    assert {"orders", "summary"} <= titles, "lines tell their fields"
    assert any("Timeout: 5.0 s" in str(t) for t in titles)


def test_a_picture_names_only_the_kinds_there_are() -> None:
    for picture in (graph_svg(support()), graph_html(support())):
        text = "".join(read(picture).text)
        assert "check that must hold" in text
        assert "my_kind" in text
        assert "repeat until" not in text
    assert "dspex-legend" not in graph_html({"name": "nothing", "nodes": [], "edges": []}).partition("</style>")[2]
    assert {k for k in KINDS if f".dspex-kind-{k}{{" in graph_svg(support())} == set(KINDS), "each has a colour"


def test_inner_steps_unfold_too() -> None:
    reader = read(graph_html(support()))
    labels = [a["aria-label"] for t, a in reader.tags if t == "summary"]
    assert len(labels) == 12
    assert "Step reply.otherwise.polish, lm" in labels
    assert "Timeout5.0 s" in reader.text.replace("\n", "")


@pytest.mark.parametrize("count", [1, 30, 200])
def test_pictures_of_any_size_keep_their_width(count: int) -> None:
    graph = chain(count)
    root = ElementTree.fromstring(graph_svg(graph))  # noqa: S314 - our own text
    assert float(root.get("width") or 0) < 1300
    assert sum("dspex-node" in str(e.get("class")) for e in root.iter()) == count == len(layout(graph)["nodes"])


def test_what_xml_cannot_write_is_replaced() -> None:
    graph = {"name": "a\x00b\ud800", "nodes": [{"name": "s\x1b", "kind": "lm", "does": "\ufffe"}], "edges": []}
    root = ElementTree.fromstring(graph_svg(graph))  # noqa: S314 - our own text
    assert "a\ufffdb\ufffd" in "".join(root.itertext())


def test_a_page_of_its_own_says_its_encoding_and_name() -> None:
    page = graph_view.page({**support(), "name": EVIL})
    assert page.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in page
    assert "<img" not in page
    assert graph_html(support()) in graph_view.page(support())


def test_a_pipeline_in_one_line() -> None:
    assert graph_text(support()) == "support: takes message · gives reply · 12 steps"
    assert graph_text({"name": "p", "nodes": [{"name": "a"}]}) == "p: takes nothing · gives nothing · 1 step"


def test_a_run_shows_inner_steps_with_how_often_they_ran() -> None:
    state = RunState(support())
    run = Emits(name="support")
    state.apply(run.start())
    for i in range(12):
        state.apply(run.span("about.item", 0.04, "failed" if i == 3 else "complete", "bad" if i == 3 else None))
    state.apply(run.span("about", 0.2, "partial", "1 of 12 items: item 3: bad"))
    html = run_html(support(), *state.snapshot())
    assert "12 × 40 ms" in html
    assert "11 complete, 1 failed" in read(html).text
    assert "1 of 12 items: item 3: bad" in read(html).text
    assert "12 × 40 ms" in run_svg(support(), *state.snapshot())


def test_what_a_waiting_step_is_fits_its_box() -> None:
    graph = chain(1)
    graph["nodes"][0].update(kind="a_kind_with_a_very_long_name", pool="a_pool_with_a_very_long_name")
    picture = run_svg(graph, *RunState(graph).snapshot())
    (line,) = re.findall(r'class="dspex-line"[^>]*>([^<]*)<', picture)
    assert line.startswith("a_kind_with")
    assert line.endswith("…")


def test_a_legend_goes_on_below() -> None:
    kinds = {"name": "g", "nodes": [{"name": f"s{k}", "kind": k} for k in KINDS], "edges": []}
    rows = set(re.findall(r'<g class="dspex-kind-\w+" transform="translate\([\d.]+ ([\d.]+)\)">', graph_svg(kinds)))
    assert len(rows) > 1


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


def test_a_nested_pipeline_with_followers_fits_the_page() -> None:
    inner = dx.pipeline("inner", clean=lambda text: text, mark=lambda clean: 1, words=lambda clean, mark: 1)
    outer = dx.pipeline("p", held=inner, more=lambda words: 1, again=lambda more: 1, third=lambda again, clean: 2)
    width = re.search(r'class="dspex-stage"[^>]* style="width:([\d.]+)px"', graph_html(outer.graph()))
    assert width is not None
    assert float(width[1]) <= 900
