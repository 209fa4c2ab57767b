// The graph widget: a pipeline before it runs. An anywidget; Python's half is dspex_lab/widgets/_graph.py.
import { makeDetails } from "./details.js";
import { html, svg } from "./dom.js";
import { makeGraph } from "./graph.js";
import { makeViewport } from "./viewport.js";

let panels = 0;

function makeHead(graph) {
  const codes = (names) => ((names ?? []).length ? names.map((n) => html("code", {}, n)) : ["–"]);
  const joined = html("span", { class: "dspex-muted" }, "takes ", ...codes(graph.inputs), " gives ", ...codes(graph.outputs));
  return html("div", { class: "dspex-head" }, html("strong", { class: "dspex-name" }, graph.name), joined);
}

function makeLegend(kinds) {
  const icon = (d) => svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, svg("path", { class: "dspex-icon", d }));
  return html("div", { class: "dspex-legend" }, ...kinds.map((k) => html("span", { class: `dspex-kind-${k.kind}` }, icon(k.icon), k.word)));
}

function render({ model, el }) {
  const panel = `dspex-plan-${++panels}`;
  let close = () => {};

  function draw() {
    close();
    const [graph, geometry] = [model.get("graph"), model.get("geometry")];
    const places = new Map(geometry.nodes.map((place) => [place.name, place]));
    const viewport = makeViewport(geometry, `Steps of ${graph.name}`);
    const picture = makeGraph(graph, geometry, (name) => choose(name === model.get("selected") ? "" : name ?? ""), {
      plan: true, within: viewport.canvas,
    });
    const details = makeDetails(panel, () => {
      const was = model.get("selected");
      choose("");
      picture.focus(was);
    });

    function choose(name) {
      model.set("selected", name);
      model.save_changes();
      show();
    }
    function show() {
      const place = places.get(model.get("selected")) ?? null;
      picture.select(place?.name ?? null, panel);
      details.update(place, place && picture.nodes.get(place.name), null, false);
    }
    const seen = (event) => {
      const place = places.get(event.target.getAttribute?.("data-step"));
      if (place) viewport.reveal(place);
    };
    viewport.canvas.addEventListener("focusin", seen);
    const root = html(
      "div",
      { class: "dspex-run dspex-plan", role: "group", "aria-label": `Pipeline ${graph.name}` },
      makeHead(graph), viewport.element, makeLegend(geometry.legend), details.element,
    );
    model.on("change:selected", show);
    show();
    el.replaceChildren(root);
    close = () => {
      model.off("change:selected", show);
      viewport.close();
    };
  }

  model.on("change:geometry", draw);
  draw();
  return () => {
    model.off("change:geometry", draw);
    close();
  };
}

export default { render };
