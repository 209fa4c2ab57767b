// The graph of steps: an SVG whose boxes are buttons. Geometry comes ready from Python, the state is patched in.
import { set, svg, text } from "./dom.js";
import { ICONS, nature, stepLabel, stepLine } from "./text.js";

/** All nodes of a graph, inner ones too, by the names that geometry and records give them ("outer.inner"); pure. */
export function nodesOf(graph, prefix = "", found = new Map()) {
  for (const node of graph.nodes ?? []) {
    found.set(prefix + node.name, node);
    if (node.parts) nodesOf(node.parts, `${prefix}${node.name}.`, found);
  }
  return found;
}

/**
 * The box to go to by an arrow key, or null; pure. Right of an outer step are first its inner ones, left of the first inner
 * ones the outer one; beyond the last it goes on after the outer one.
 */
export function neighbour(boxes, from, key) {
  const at = boxes.find((b) => b.name === from);
  if (!at) return null;
  const beside = boxes.filter((b) => (b.parent ?? "") === (at.parent ?? ""));
  const middle = (b) => b.y + b.height / 2;
  const nearest = (list, to = at) =>
    list.sort((a, b) => Math.abs(middle(a) - middle(to)) - Math.abs(middle(b) - middle(to)))[0] ?? null;
  if (key === "ArrowUp") return nearest(beside.filter((b) => b.layer === at.layer && b.y < at.y));
  if (key === "ArrowDown") return nearest(beside.filter((b) => b.layer === at.layer && b.y > at.y));
  const step = key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0;
  if (!step) return null;
  if (step > 0 && at.group) {
    const within = boxes.filter((b) => b.parent === at.name);
    return nearest(within.filter((b) => b.layer === Math.min(...within.map((o) => o.layer))));
  }
  for (let place = at; place; place = boxes.find((b) => b.name === place.parent)) {
    const siblings = boxes.filter((b) => (b.parent ?? "") === (place.parent ?? "") && (b.layer - place.layer) * step > 0);
    if (siblings.length) {
      const layers = siblings.map((b) => b.layer);
      const next = step > 0 ? Math.min(...layers) : Math.max(...layers);
      return nearest(siblings.filter((b) => b.layer === next), place);
    }
    if (step < 0) return boxes.find((b) => b.name === place.parent) ?? null;
  }
  return null;
}

function pool(place) {
  if (!place.badge) return null;
  const width = place.badge_width;
  return svg(
    "g",
    { class: "dspex-pool", transform: `translate(${place.width - width - 9} 24)` },
    svg("rect", { width, height: 14, rx: 7 }), svg("text", { x: width / 2, y: 10.5, "text-anchor": "middle" }, place.badge),
  );
}

function box(place, plan) {
  const { x, y, width, height } = place;
  const part = {
    place,
    title: svg("title"),
    icon: svg("path", { class: "dspex-icon", d: place.icon }),
    line: svg("text", { class: "dspex-line", x: 29, y: 34 }, place.line),
    count: svg("text", { class: "dspex-count", x: width - 10, y: 19, "text-anchor": "end" }),
    done: svg("rect", { class: "dspex-done", x: 8, y: height - 4, width: 0, height: 2, rx: 1 }),
    bad: svg("rect", { class: "dspex-bad", x: 8, y: height - 4, width: 0, height: 2 }),
  };
  const label = svg("text", { class: "dspex-label", x: 29, y: 19 }, place.label);
  const frame = svg("path", { class: "dspex-box", d: place.shape });
  const behind = place.folded ? svg("path", { class: "dspex-behind", transform: "translate(4 4)", d: place.shape }) : null;
  part.root = svg(
    "g",
    { transform: `translate(${x} ${y})`, role: "button", "data-step": place.name, tabindex: -1 },
    part.title, behind, frame, svg("g", { transform: "translate(9 8)" }, part.icon), label, part.line,
    ...(plan ? [pool(place)] : [part.count, part.done, part.bad]),
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

/** A line, with a broader one under the pointer that tells its fields. */
function link(edge) {
  const path = svg("path", { class: "dspex-edge", d: edge.path });
  const moved = edge.dx || edge.dy ? `translate(${edge.dx} ${edge.dy})` : null;
  const hit = svg("path", { class: "dspex-hit", d: edge.path });
  return [path, svg("g", { class: "dspex-link", transform: moved }, svg("title", {}, edge.fields.join(", ")), path, hit)];
}

/**
 * Make the graph; `onSelect(name)` is told of clicks and of Enter and Space. Returns {element, update, select, focus}.
 * With `plan` the boxes show what the steps are, else how they are doing; then they wait for `update`.
 */
export function makeGraph(graph, geometry, onSelect, { plan = false, within = null } = {}) {
  const nodes = nodesOf(graph);
  const parts = new Map();
  const edges = [];
  const { width, height } = geometry;
  const root = within ?? svg("svg", {
    class: "dspex-graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "group",
    "aria-label": `Steps of ${graph.name}`, "data-lm-suppress-shortcuts": "true", style: `max-width:${width}px;min-width:${Math.round(0.75 * width)}px`,
  });
  const drawLinks = (parent) => {
    for (const edge of geometry.edges.filter((e) => (e.parent ?? "") === parent)) {
      const [path, element] = link(edge);
      edges.push([edge, path]);
      root.append(element);
    }
  };
  drawLinks("");
  for (const place of geometry.inputs) root.append(pill(place));
  for (const place of geometry.nodes) {
    const part = box(place, plan);
    parts.set(place.name, part);
    root.append(part.root);
    if (place.group) drawLinks(place.name);
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

  const look = (place, status) =>
    `dspex-node dspex-is-${status} dspex-kind-${place.kind}${place.group ? " dspex-group" : ""}`;

  function describe(place) {
    const { root: element, title } = parts.get(place.name);
    const node = nodes.get(place.name);
    const told = [stepLabel({ ...node, name: place.name }, null, false), ...place.facts.map(([term, value]) => `${term}: ${value}`)];
    set(element, "class", look(place, "waiting"));
    set(element, "aria-label", told.join(", "));
    text(title, told.join("\n"));
  }
  if (plan) geometry.nodes.forEach(describe);

  function update(steps, rows) {
    for (const [name, part] of parts) {
      const step = steps[name] ?? null;
      const node = nodes.get(name);
      const status = step?.status ?? "waiting";
      set(part.root, "class", look(part.place, status));
      set(part.root, "aria-label", stepLabel({ ...node, name }, step, rows !== null));
      set(part.icon, "d", ICONS[status]);
      const line = stepLine(node, step, rows !== null);
      text(part.line, line === nature(node) ? part.place.nature : line); // the same, fitted
      text(part.title, step?.errors[0]?.text ?? name);
      text(part.count, rows && step?.failed ? `${step.failed} ✕` : "");
      const room = part.place.width - 16;
      const share = (n) => (rows?.total ? Math.min((room * n) / rows.total, room) : 0);
      const done = step ? share(step.complete + step.partial + step.skipped) : 0;
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
  return { element: root, nodes, update, select, focus };
}
