// The job widget: a job as it goes on, with buttons. An anywidget; Python's half is dspex_lab/widgets/_job.py.
import { html, say, set, svg, text } from "./dom.js";
import { gathered, instead, listen } from "./live.js";

const COLUMNS = ["Trial", "From", "Status", "Score", "Rows", "Time", "Cost", "What"];
const KEYS = ["number", "parent", "status", "score", "rows", "seconds", "cost", "said"];
const WORDS = ["done", "best", "trials", "spent", "left", "repeated"];
const SAID = ["note", "adopted", "error"];
const LABELS = { stop: "Stop", resume: "Resume", adopt: "Adopt", rollback: "Roll back" };
const TITLES = {
  stop: "end with the best so far", resume: "go on from what it kept",
  adopt: "put its result to use", rollback: "bring back what was in use before",
};
const MARKS = { "+": "dspex-added", "-": "dspex-removed", "@": "dspex-part" };

function fold(title, ...content) {
  const summary = html("summary", {}, title);
  return { element: html("details", { hidden: "" }, summary, ...content), title: (words) => text(summary, words) };
}

/** Make a list's children anew where what it shows has changed. */
function lister(parent, make) {
  let shown = "";
  return (items) => {
    const now = JSON.stringify(items);
    if (now === shown) return;
    shown = now;
    parent.replaceChildren(...items.map(make));
  };
}

function makeCurve() {
  const line = svg("polyline");
  const dots = svg("g");
  const drawing = svg(
    "svg", { class: "dspex-curve", viewBox: "0 0 320 72", width: 320, height: 72, role: "img", "aria-label": "scores" }, line, dots,
  );
  const ends = html("span", { class: "dspex-muted" });
  const element = html("div", { class: "dspex-scores" }, drawing, ends);
  const list = lister(dots, (dot) =>
    svg("circle", { cx: dot.x, cy: dot.y, r: 2.5, class: dot.kept ? null : "dspex-not" }, svg("title", {}, dot.said)));
  return {
    element,
    update(curve) {
      element.toggleAttribute("hidden", curve.dots.length < 2);
      set(line, "points", curve.line);
      text(ends, `${curve.low} … ${curve.high}`);
      list(curve.dots);
    },
  };
}

function makeHead(send) {
  const name = html("strong", { class: "dspex-name" });
  const state = html("span", { class: "dspex-state" });
  const words = WORDS.map((key) => html("span", { class: "dspex-muted", "data-word": key }));
  const buttons = Object.keys(LABELS).map((deed) => {
    const button = html("button", { type: "button", class: "dspex-cancel", "data-deed": deed, title: TITLES[deed], hidden: "" }, LABELS[deed]);
    button.addEventListener("click", () => {
      button.disabled = true;
      send({ type: deed });
    });
    return button;
  });
  const fill = html("div");
  const bar = html("div", { class: "dspex-progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const said = SAID.map((key) => html("div", { class: `dspex-${key}` }));
  const refused = html("div", { class: "dspex-refused", role: "alert", hidden: "" });
  const top = html("div", { class: "dspex-head" }, name, state, ...words, html("span", { class: "dspex-spring" }), ...buttons);
  return {
    elements: [top, bar, ...said, refused],
    update(head) {
      text(name, `Job ${head.number}: ${head.kind} ${head.name}`);
      text(state, head.state);
      set(state, "class", `dspex-state dspex-is-${head.state}`);
      words.forEach((element, n) => text(element, head[WORDS[n]]));
      bar.toggleAttribute("hidden", head.fraction === null);
      const share = Math.round((head.fraction ?? 0) * 1000) / 10;
      set(fill, "style", `width:${share}%`);
      set(bar, "aria-valuenow", share);
      said.forEach((element, n) => say(element, head[SAID[n]]));
      for (const button of buttons) {
        const offered = head.buttons.includes(button.dataset.deed);
        if (!offered) button.disabled = false;
        button.toggleAttribute("hidden", !offered);
      }
    },
    answer(error) {
      say(refused, error);
      for (const button of buttons) button.disabled = false;
    },
  };
}

function makeTrials(send) {
  const body = html("tbody");
  const more = html("div", { class: "dspex-muted" });
  const heads = COLUMNS.map((word) => html("th", { scope: "col" }, word));
  const table = html("table", { class: "dspex-trials" }, html("thead", {}, html("tr", {}, ...heads)), body);
  const part = fold("Trials", html("div", { class: "dspex-scroll" }, more, table));
  const list = lister(body, (row) => {
    const look = html("button", { type: "button", class: "dspex-look", title: "show what it changed" }, String(row.number));
    look.addEventListener("click", () => send({ type: "look", number: row.number }));
    const cells = KEYS.slice(1).map((key) => html("td", {}, String(row[key])));
    return html("tr", { class: row.best ? "dspex-best" : null, "data-trial": row.number }, html("td", {}, look), ...cells);
  });
  return {
    element: part.element,
    update({ trials, hidden }) {
      part.element.toggleAttribute("hidden", trials.length === 0);
      part.title(`Trials (${trials.length + hidden})`);
      text(more, hidden ? `${hidden} earlier trials` : "");
      list(trials);
    },
  };
}

function makeCandidate() {
  const lines = html("div", { class: "dspex-diff" });
  const part = fold("", lines);
  part.element.open = true;
  const list = lister(lines, ([sign, words]) => html("div", { class: MARKS[sign] ?? null }, sign === "@" ? words : `${sign} ${words}`));
  return {
    element: part.element,
    update(shown) {
      part.element.toggleAttribute("hidden", shown.lines.length === 0);
      part.title(shown.said);
      list(shown.lines);
    },
  };
}

function render({ model, el }) {
  const send = (message) => model.send(message);
  const head = makeHead(send);
  const curve = makeCurve();
  const candidate = makeCandidate();
  const trials = makeTrials(send);
  const tree = html("pre", { class: "dspex-lineage" });
  const lineage = fold("Lineage", tree);
  const rejects = html("ul");
  const rejected = fold("Rejected", rejects);
  const reject = lister(rejects, (each) => html("li", {}, `${each.number}: ${each.text} ${each.why}`.trim()));
  const root = html(
    "div", { class: "dspex-run dspex-job", role: "group", "aria-label": "Job" },
    ...head.elements, curve.element, candidate.element, trials.element, lineage.element, rejected.element,
  );

  function draw() {
    const facts = model.get("facts");
    head.update(facts.head);
    curve.update(facts.curve);
    candidate.update(model.get("candidate"));
    trials.update(facts);
    lineage.element.toggleAttribute("hidden", !facts.lineage);
    text(tree, facts.lineage);
    rejected.element.toggleAttribute("hidden", facts.rejected.length === 0);
    rejected.title(`Rejected (${facts.rejected.length})`);
    reject(facts.rejected);
  }

  function answered() {
    draw();
    head.answer(model.get("answered").error);
  }

  const changed = gathered(draw);
  const end = listen(model, { "change:facts": changed, "change:candidate": changed, "change:answered": answered });
  draw();
  instead(model, root);
  el.append(root);
  return end;
}

export default { render };
