// The run widget: a pipeline's steps while they run. An anywidget; Python's half is dspex_lab/widgets/_run.py.
import { makeDetails } from "./details.js";
import { html, say, set, svg, text } from "./dom.js";
import { makeGraph } from "./graph.js";
import { seconds } from "./format.js";
import { gathered, listen } from "./live.js";
import { budgetText, costText, errorText, ICONS, notesText, rowsText, shares, tokensText, WORDS } from "./text.js";

const TICK = 200; // ms between two steps of the clock
const chosen = new WeakMap(); // the step whose details are open, by model: it survives a new view of the same model
let panels = 0;

function makeHead(onCancel) {
  const icon = svg("path", { class: "dspex-icon" });
  const word = html("span", { "aria-live": "polite" });
  const state = html("span", { class: "dspex-state" }, svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, icon), word);
  const name = html("strong", { class: "dspex-name" });
  const time = html("span", { class: "dspex-time", title: "elapsed time" });
  const lm = html("span", { class: "dspex-lm", title: "language model" });
  const badge = html("span", { class: "dspex-badge", title: "No provider was asked: answers, tokens and times are simulated." }, "offline, simulated");
  const tokens = html("span", { class: "dspex-tokens" });
  const cost = html("span", { class: "dspex-cost" });
  const cancel = html("button", { type: "button", class: "dspex-cancel" }, "Cancel");
  cancel.addEventListener("click", onCancel);
  const spring = html("span", { class: "dspex-spring" });
  const root = html("div", { class: "dspex-head" }, name, state, time, spring, lm, badge, tokens, cost, cancel);

  function update(summary, cancelling) {
    set(state, "class", `dspex-state dspex-is-${summary.status}`);
    set(icon, "d", ICONS[summary.status]);
    text(word, WORDS[summary.status]);
    text(name, summary.name);
    text(time, seconds(summary.seconds));
    text(lm, summary.lm ?? "");
    badge.toggleAttribute("hidden", !summary.simulated);
    text(tokens, tokensText(summary));
    text(cost, costText(summary));
    const over = summary.status !== "running" && summary.status !== "waiting";
    cancel.toggleAttribute("hidden", over || cancelling === "none");
    cancel.disabled = cancelling === "asked";
    text(cancel, cancelling === "asked" ? "Cancelling…" : "Cancel");
  }
  return { element: root, update };
}

function makeRows() {
  const parts = ["complete", "partial", "failed"].map((k) => html("i", { class: `dspex-part-${k}` }));
  const bar = html("div", { class: "dspex-bar", role: "progressbar", "aria-label": "Rows", "aria-valuemin": 0 }, ...parts);
  const words = html("div", { class: "dspex-rows-text" });
  const root = html("div", { class: "dspex-rows" }, bar, words);

  function update(rows) {
    root.toggleAttribute("hidden", rows === null);
    if (rows === null) return;
    shares(rows).forEach((share, i) => { parts[i].style.width = `${share}%`; });
    bar.classList.toggle("dspex-unknown", rows.total === null && rows.done > 0);
    set(bar, "aria-valuemax", rows.total);
    set(bar, "aria-valuenow", rows.total === null ? null : rows.done);
    set(bar, "aria-valuetext", rowsText(rows));
    text(words, rowsText(rows));
  }
  return { element: root, update };
}

function makeNotes() {
  const noted = html("span", { class: "dspex-noted", "aria-live": "polite" });
  const budget = html("span", { class: "dspex-budget", title: "share of the budget that is spent" });
  const root = html("div", { class: "dspex-notes", hidden: "" }, noted, budget);

  function update(summary) {
    const [notes, budgets] = [notesText(summary.notes), budgetText(summary.budgets)];
    root.toggleAttribute("hidden", !notes && !budgets);
    text(noted, notes);
    text(budget, budgets);
    budget.classList.toggle("dspex-near", summary.budgets.some((b) => b.share >= 0.8));
  }
  return { element: root, update };
}

/** The state with its clocks put forward by `passed` seconds; pure. */
export function ahead(summary, steps, passed) {
  if (summary.status !== "running" || summary.seconds === null) return [summary, steps];
  const moved = { ...summary, seconds: summary.seconds + passed };
  if (summary.kind === "map") return [moved, steps];
  const put = ([name, s]) => [name, s.status === "running" && s.seconds !== null && !(s.times > 1) ? { ...s, seconds: s.seconds + passed } : s];
  return [moved, Object.fromEntries(Object.entries(steps).map(put))];
}

function render({ model, el }) {
  const graph = model.get("graph");
  const panel = `dspex-details-${++panels}`;
  // A view made from a state that is already old (a page opened anew) starts with its age; kernels on other
  // machines may have other clocks, so what is not plausible counts as nothing.
  const age = Date.now() / 1000 - (model.get("summary").at ?? 0);
  let taken = performance.now() - 1000 * (age > 0 && age < 86400 ? age : 0);
  let timer = null;
  let pressed = false;

  const head = makeHead(() => {
    pressed = true;
    model.send({ type: "cancel" });
    draw();
  });
  const rows = makeRows();
  const notes = makeNotes();
  const geometry = model.get("geometry");
  const places = new Map(geometry.nodes.map((place) => [place.name, place]));
  const picture = makeGraph(graph, geometry, (name) => {
    const now = chosen.get(model) ?? null;
    choose(name === now ? null : name);
  });
  const details = makeDetails(panel, () => {
    const was = chosen.get(model);
    choose(null);
    picture.focus(was);
  });
  const error = html("div", { class: "dspex-error", role: "alert", hidden: "" });
  const root = html(
    "div",
    { class: "dspex-run", role: "group", "aria-label": `Run of ${graph.name}` },
    head.element, rows.element, notes.element, html("div", { class: "dspex-scroll" }, picture.element), error, details.element,
  );

  function choose(name) {
    if (name === null) chosen.delete(model);
    else chosen.set(model, name);
    draw();
  }

  function draw() {
    const passed = (performance.now() - taken) / 1000;
    const [summary, steps] = ahead(model.get("summary"), model.get("steps"), passed);
    const name = chosen.get(model) ?? null;
    const isMap = summary.rows !== null;
    head.update(summary, pressed ? "asked" : model.get("cancelling"));
    rows.update(summary.rows);
    notes.update(summary);
    picture.update(steps, summary.rows);
    picture.select(name, panel);
    const place = places.get(name) ?? null;
    details.update(place, place && picture.nodes.get(name), steps[name] ?? null, isMap);
    say(error, errorText(summary));
    clock(summary.status === "running");
  }

  function clock(on) {
    if (on && timer === null) timer = setInterval(draw, TICK);
    else if (!on && timer !== null) {
      clearInterval(timer);
      timer = null;
    }
  }

  const drawSoon = gathered(draw);
  function changed() {
    taken = performance.now();
    drawSoon();
  }

  const end = listen(model, { "change:steps": changed, "change:summary": changed, "change:cancelling": changed });
  draw();
  el.append(root);
  return () => {
    clock(false);
    end();
  };
}

export default { render };
