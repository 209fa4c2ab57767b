// The graph of steps: an SVG whose boxes are buttons. Geometry comes ready from Python, the state is patched in.
import { set, svg, text } from "./dom.js";
import { ICONS, stepLabel, stepLine } from "./text.js";

/** The nearest box in the direction of an arrow key, or null; pure. */
export function neighbour(boxes, from, key) {
  const at = boxes.find((b) => b.name === from);
  const middle = (b) => b.y + b.height / 2;
  const nearest = (list) =>
    list.sort((a, b) => Math.abs(middle(a) - middle(at)) - Math.abs(middle(b) - middle(at)))[0] ?? null;
  if (!at) return null;
  if (key === "ArrowUp") return nearest(boxes.filter((b) => b.layer === at.layer && b.y < at.y));
  if (key === "ArrowDown") return nearest(boxes.filter((b) => b.layer === at.layer && b.y > at.y));
  const step = key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0;
  const layers = boxes.map((b) => b.layer).filter((l) => (l - at.layer) * step > 0);
  if (!layers.length) return null;
  const next = step > 0 ? Math.min(...layers) : Math.max(...layers);
  return nearest(boxes.filter((b) => b.layer === next));
}

function box(place) {
  const { x, y, width, height } = place;
  const part = {
    title: svg("title"),
    icon: svg("path", { class: "dspex-icon" }),
    line: svg("text", { class: "dspex-line", x: 29, y: 34 }),
    count: svg("text", { class: "dspex-count", x: width - 10, y: 19, "text-anchor": "end" }),
    done: svg("rect", { class: "dspex-done", x: 8, y: height - 4, width: 0, height: 2, rx: 1 }),
    bad: svg("rect", { class: "dspex-bad", x: 8, y: height - 4, width: 0, height: 2 }),
  };
  const label = svg("text", { class: "dspex-label", x: 29, y: 19 }, place.label);
  const frame = svg("rect", { class: "dspex-box", width, height, rx: 7 });
  part.root = svg(
    "g",
    { transform: `translate(${x} ${y})`, role: "button", "data-step": place.name, tabindex: -1 },
    part.title, frame, svg("g", { transform: "translate(9 8)" }, part.icon), label, part.line, part.count, part.done, part.bad,
  );
  return part;
}

const pill = (place) =>
  svg(
    "g",
    { class: "dspex-input", transform: `translate(${place.x} ${place.y})` },
    svg("title", {}, `input ${place.name}`),
    svg("rect", { width: place.width, height: place.height, rx: place.height / 2 }),
    svg("text", { x: place.width / 2, y: 15, "text-anchor": "middle" }, place.label),
  );

/** Make the graph; `onSelect(name)` is told of clicks and of Enter and Space. Returns {element, update, select}. */
export function makeGraph(graph, geometry, onSelect) {
  const nodes = new Map(graph.nodes.map((n) => [n.name, n]));
  const parts = new Map();
  const edges = [];
  const { width, height } = geometry;
  const root = svg("svg", {
    class: "dspex-graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "group",
    "aria-label": `Steps of ${graph.name}`, "data-lm-suppress-shortcuts": "true", style: `max-width:${width}px;min-width:${Math.round(0.75 * width)}px`,
  });
  for (const edge of geometry.edges) {
    const path = svg("path", { class: "dspex-edge", d: edge.path }, svg("title", {}, edge.fields.join(", ")));
    edges.push([edge, path]);
    root.append(path);
  }
  for (const place of geometry.inputs) root.append(pill(place));
  for (const place of geometry.nodes) {
    const part = box(place);
    parts.set(place.name, { ...part, place });
    root.append(part.root);
    part.root.addEventListener("click", () => { focus(place.name); onSelect(place.name); });
  }

  function focus(name) {
    for (const [other, part] of parts) set(part.root, "tabindex", other === name ? 0 : -1);
    parts.get(name)?.root.focus({ preventScroll: true });
  }
  const first = geometry.nodes[0];
  if (first) set(parts.get(first.name).root, "tabindex", 0);

  root.addEventListener("keydown", (event) => {
    const name = event.target.closest?.("[data-step]")?.getAttribute("data-step");
    if (!name) return;
    const next = event.key.startsWith("Arrow") ? neighbour(geometry.nodes, name, event.key) : null;
    if (next) focus(next.name);
    else if (event.key === "Enter" || event.key === " ") onSelect(name);
    else if (event.key === "Escape") onSelect(null);
    else if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    event.stopPropagation();
  });

  function update(steps, rows) {
    for (const [name, part] of parts) {
      const step = steps[name] ?? null;
      const node = nodes.get(name);
      const status = step?.status ?? "waiting";
      set(part.root, "class", `dspex-node dspex-is-${status}`);
      set(part.root, "aria-label", stepLabel(node, step, rows !== null));
      set(part.icon, "d", ICONS[status]);
      text(part.line, stepLine(node, step, rows !== null));
      text(part.title, step?.errors[0]?.text ?? node.name);
      text(part.count, rows && step?.failed ? `${step.failed} ✕` : "");
      const room = part.place.width - 16;
      const share = (n) => (rows?.total ? Math.min((room * n) / rows.total, room) : 0);
      const done = step ? share(step.complete + step.skipped) : 0;
      set(part.done, "width", done);
      set(part.bad, "x", 8 + done);
      set(part.bad, "width", step ? Math.min(share(step.failed), room - done) : 0);
    }
    for (const [edge, path] of edges) {
      const target = steps[edge.to]?.status ?? "waiting";
      set(path, "class", `dspex-edge dspex-to-${target}`);
    }
  }

  function select(name, panel) {
    for (const [other, part] of parts) {
      set(part.root, "aria-expanded", String(other === name));
      set(part.root, "aria-controls", other === name ? panel : null);
    }
  }
  return { element: root, update, select, focus };
}
