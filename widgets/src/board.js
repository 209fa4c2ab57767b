// The variable board: the variables of a space, with controls. An anywidget; Python's half is dspex_lab/widgets/_board.py.
import { makeControl } from "./board-control.js";
import { html, say, set, svg, text } from "./dom.js";
import { gathered, instead, listen } from "./live.js";

const COLUMNS = ["Variable", "Value", "May be", "Version", "Changed by", "Score", "Past", "Leased to"];

function makeRow(name, send) {
  const label = html("span", { class: "dspex-variable" }, name);
  const mark = html("span", { class: "dspex-mark" });
  const note = html("div", { class: "dspex-remark" });
  const pin = html("button", { type: "button", class: "dspex-pin" });
  const value = html("span", { class: "dspex-value" });
  const whole = html("pre", { class: "dspex-whole", tabindex: 0 });
  const fold = html("details", {}, html("summary", {}, "whole value"), whole);
  const formula = html("span", { class: "dspex-formula" });
  const error = html("div", { class: "dspex-refused", role: "alert", hidden: "" });
  const line = svg("polyline");
  const spark = svg("svg", { class: "dspex-spark", viewBox: "0 0 96 20", width: 96, height: 20, "aria-hidden": "true" }, line);
  const cells = ["may", "version", "by", "score", "leased"].map((k) => html("td", { class: `dspex-${k}` }));
  const [may, version, by, score, leased] = cells;
  const control = makeControl(name, (place) => send({ type: "set", name, value: place }), (words) => text(value, words));
  const root = html(
    "tr", { "data-variable": name },
    html("td", {}, label, mark, note),
    html("td", { class: "dspex-set" }, control.element, value, formula, fold, error),
    may, version, by, score, html("td", {}, spark), leased, html("td", { class: "dspex-last" }, pin),
  );
  pin.addEventListener("click", () => send({ type: "pin", name, value: !now.pinned }));
  let now = null;

  function update(row) {
    now = row;
    root.classList.toggle("dspex-resting", !row.counts);
    text(mark, [row.pinned && "pinned", !row.counts && "does not count now"].filter(Boolean).join(", "));
    control.update(row);
    if (!control.moving()) text(value, row.text);
    text(formula, row.derived ? `= ${row.derived}` : "");
    fold.toggleAttribute("hidden", !row.full);
    text(whole, row.full);
    text(may, row.range);
    text(version, String(row.version));
    text(by, row.by);
    set(by, "title", row.changed ? new Date(row.changed * 1000).toLocaleString() : null);
    text(score, row.score);
    text(leased, row.leased);
    spark.toggleAttribute("hidden", !row.spark);
    set(line, "points", row.spark);
    text(note, row.note);
    pin.toggleAttribute("hidden", Boolean(row.derived));
    text(pin, row.pinned ? "Unpin" : "Pin");
    set(pin, "aria-label", `${row.pinned ? "Unpin" : "Pin"} ${name}`);
    set(pin, "title", row.pinned ? "let it be written again" : "nobody writes it until it is unpinned");
  }
  /** Show what came of a change: the control goes back to the value that holds, an error is said. */
  function answer(problem) {
    say(error, problem);
    control.reset(now);
    text(value, now.text);
  }
  return { element: root, update, answer };
}

function render({ model, el }) {
  const title = html("strong", { class: "dspex-name" });
  const said = html("span", { class: "dspex-muted" });
  const body = html("tbody");
  const heads = [...COLUMNS, ""].map((word) => html("th", { scope: "col" }, word));
  const table = html("table", { class: "dspex-board-table" }, html("thead", {}, html("tr", {}, ...heads)), body);
  const nothing = html("p", { class: "dspex-muted" }, "There are no variables yet.");
  const root = html(
    "div", { class: "dspex-run dspex-board", role: "group", "aria-label": "Variables" },
    html("div", { class: "dspex-head" }, title, said), html("div", { class: "dspex-scroll" }, table, nothing),
  );
  const rows = new Map();
  const send = (message) => model.send(message);

  function draw() {
    const [wanted, head] = [model.get("rows"), model.get("head")];
    const names = Object.keys(wanted);
    text(title, `Variables of ${head.space}`);
    text(said, head.said);
    for (const name of [...rows.keys()]) {
      if (!(name in wanted)) {
        rows.get(name).element.remove();
        rows.delete(name);
      }
    }
    names.forEach((name, place) => {
      if (!rows.has(name)) rows.set(name, makeRow(name, send));
      const { element, update } = rows.get(name);
      if (body.children[place] !== element) body.insertBefore(element, body.children[place] ?? null);
      update(wanted[name]);
    });
    table.toggleAttribute("hidden", names.length === 0);
    nothing.toggleAttribute("hidden", names.length > 0);
  }

  function answered() {
    draw();
    const { name, error } = model.get("answered");
    rows.get(name)?.answer(error);
  }

  const changed = gathered(draw);
  const end = listen(model, { "change:rows": changed, "change:head": changed, "change:answered": answered });
  draw();
  instead(model, root);
  el.append(root);
  return end;
}

export default { render };
