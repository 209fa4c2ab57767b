"""The graph widget: traits, pictures, the mime bundle, a notebook without a kernel, and a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import traitlets
from graphs import chain, support
from nbclient import NotebookClient
from nbconvert import HTMLExporter

import dspex_lab as dx
from dspex_lab.pipelines import each, when
from dspex_lab.widgets import GraphWidget, RunState, graph_html, graph_svg, layout

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def widget() -> Iterator[GraphWidget]:
    made = GraphWidget(support())
    yield made
    made.close()


def test_it_has_the_graph_and_where_everything_goes(widget: GraphWidget) -> None:
    assert widget.graph["name"] == "support"
    assert "reply.otherwise.polish" in [n["name"] for n in widget.geometry["nodes"]]
    assert widget.selected == ""
    json.dumps([widget.graph, widget.geometry])


def test_another_graph_is_laid_out_anew_and_closes_the_details(widget: GraphWidget) -> None:
    widget.selected = "reply.then"
    widget.graph = chain(3)
    assert [n["name"] for n in widget.geometry["nodes"]] == ["step_0", "step_1", "step_2"]
    assert widget.selected == ""


def test_its_depth_holds_for_every_graph() -> None:
    widget = GraphWidget(chain(1), depth=0)
    widget.graph = support()
    assert not any(n["parent"] for n in widget.geometry["nodes"])
    widget.close()


def test_options_that_json_cannot_write_become_text() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    graph = chain(1)
    graph["nodes"][0]["options"] = {"fallback": Odd(), "outputs": ("a", "b")}
    widget = GraphWidget(graph)
    assert widget.graph["nodes"][0]["options"] == {"fallback": "<odd>", "outputs": ["a", "b"]}
    widget.close()


@pytest.mark.parametrize(
    "parts",
    [
        {"nodes": [{"name": "a"}, {"name": "a"}]},
        {"nodes": [{"name": ""}]},
        {"nodes": [{"name": "a"}], "edges": [{"from": "a", "to": "b"}]},
    ],
)
def test_inner_steps_of_the_wrong_shape_are_refused(widget: GraphWidget, parts: dict[str, Any]) -> None:
    with pytest.raises(traitlets.TraitError, match="'outer'"):
        widget.graph = {"name": "g", "nodes": [{"name": "outer", "parts": parts}], "edges": []}
    with pytest.raises(traitlets.TraitError):
        widget.graph = {"name": "g", **parts}


def test_its_pictures_are_those_of_the_pipeline(widget: GraphWidget) -> None:
    assert widget.to_svg() == graph_svg(support())
    assert widget.to_html() == graph_html(support())
    data, _ = widget._repr_mimebundle_()
    assert set(data) == {VIEW, "text/html", "text/plain"}
    assert data["text/html"] == graph_html(support())
    assert data["text/plain"] == "support: takes message · gives reply · 12 steps"


def test_a_pipeline_of_every_kind_that_holds_others_is_shown_as_it_runs() -> None:
    """The names in the graph are those of the engine's records."""

    def words(text: str) -> list[str]:
        return text.split()

    def shout(word: str) -> str:
        return word.upper()

    def loud(words: list[str]) -> str:
        return "loud"

    def quiet(words: list[str]) -> str:
        return "quiet"

    inner = dx.pipeline("inner", loud_too=dx.step(loud, outputs=["loud_too"]), quiet_too=dx.step(quiet, outputs=["quiet_too"]))
    made = dx.pipeline(
        "demo",
        words=words,
        shouted=each("words", shout, item="word"),
        tone=when("words[0] == 'a'", dx.step(loud, outputs=["tone"]), dx.step(quiet, outputs=["tone"])),
        inner=inner,
    )
    state, graph = RunState(made.graph()), made.graph()
    with dx.Lab(":memory:") as lab:
        lab.bus.subscribe(state.apply)
        assert lab.run(made, text="a b c").status == "complete"
    steps, summary = state.snapshot()
    assert summary["status"] == "complete"
    assert {n: s["status"] for n, s in steps.items() if s["status"] != "complete"} == {"tone.otherwise": "skipped"}
    assert steps["shouted.item"]["times"] == 3
    assert {"tone.then", "tone.otherwise", "inner.loud_too", "shouted.item"} < {n["name"] for n in layout(graph)["nodes"]}
    shown = graph.widget()
    assert isinstance(shown, GraphWidget)
    assert graph.svg() == graph_svg(graph)
    shown.close()


def test_a_closed_widget_still_has_its_picture(widget: GraphWidget) -> None:
    widget.close()
    assert widget._repr_html_() == graph_html(support())


def test_a_report_of_a_notebook_shows_the_picture_and_asks_for_nothing(tmp_path: Path) -> None:
    code = f"from dspex_lab.widgets import GraphWidget\nGraphWidget({support()!r})"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=120, store_widget_state=False).execute(cwd=str(tmp_path))
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jupyter_widgets_base_url="", embed_images=True)
    exporter.config.NbConvertBase.display_data_priority = ["text/html", "text/plain"]
    html, _ = HTMLExporter(config=exporter.config).from_notebook_node(notebook)
    assert "dspex-plan" in html
    assert "reply.otherwise.polish" in html


@pytest.fixture
def page(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Write a page that shows a graph by the shipped module, with a model that only remembers; its address."""
    static = Path(__file__).parents[2] / "dspex_lab" / "static"

    def make(graph: dict[str, Any]) -> str:
        widget = GraphWidget(graph)
        state = json.dumps({"graph": widget.graph, "geometry": widget.geometry, "selected": ""}).replace("<", "\\u003c")
        widget.close()
        file = tmp_path / "page.html"
        file.write_text(f"""<!doctype html><meta charset="utf-8"><style>{(static / "run.css").read_text()}</style>
        <body style="width:1000px"><div id="cell"></div><script type="module">
        const state = {state}, listeners = {{}};
        const model = {{
          get: (name) => state[name], save_changes() {{ window.saved = state.selected; }},
          on: (event, f) => (listeners[event] ??= new Set()).add(f), off: (event, f) => listeners[event]?.delete(f),
          set(name, value) {{ state[name] = value; listeners[`change:${{name}}`]?.forEach((f) => f()); }},
        }};
        const source = {json.dumps((static / "pipeline.js").read_text())};
        const url = URL.createObjectURL(new Blob([source], {{ type: "text/javascript" }}));
        (await import(url)).default.render({{ model, el: document.getElementById("cell") }});
        window.ready = true;
        </script>""")
        return file.as_uri()

    return make


def test_in_a_browser_steps_are_clicked_dragged_and_zoomed(
    browser: Any, page: Callable[[dict[str, Any]], str], asked: Callable[[Any], set[str]]
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page(support()))
    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return window.ready"))
    one = lambda css: browser.find_element(By.CSS_SELECTOR, css)  # noqa: E731
    moved = lambda: one(".dspex-canvas > g").get_attribute("transform")  # noqa: E731

    one("[data-step='reply.otherwise.polish']").click()
    assert browser.execute_script("return window.saved") == "reply.otherwise.polish"
    assert one(".dspex-details").is_displayed()
    assert "reply.otherwise.polish" in one(".dspex-details").text

    before = moved()
    ActionChains(browser).move_to_element(one("[data-step=clean]")).click_and_hold().move_by_offset(40, 25).release().perform()
    assert moved() != before, "it was dragged"
    assert browser.execute_script("return window.saved") == "reply.otherwise.polish", "a drag chooses nothing"

    one("[aria-label='Zoom in']").click()
    one("[aria-label='Show all']").click()
    canvas, boxes = one(".dspex-canvas").rect, browser.find_elements(By.CSS_SELECTOR, ".dspex-box")
    assert all(canvas["x"] <= b.rect["x"] and b.rect["x"] + b.rect["width"] <= canvas["x"] + canvas["width"] for b in boxes)

    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    one("[data-step=clean]").click()
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    assert browser.execute_script("return window.saved") in ("find", "about")
    assert {url for url in asked(browser) if not url.startswith("blob:")} == set()
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
