// Thumbs and a correction under a result. An anywidget; Python's half is dspex_lab/widgets/_job_thumbs.py.
import { html, say, set, svg, text } from "./dom.js";
import { instead } from "./live.js";

// Drawn, because not every machine has a font with the signs.
const THUMB = "M1 7h3v8H1z M5 14V7l3-6c1.2 0 2 .8 2 2v3h4a1.2 1.2 0 0 1 1.2 1.5l-1.5 6a1.5 1.5 0 0 1-1.5 1.5H7z";

const thumb = (turned) => svg("svg", { viewBox: "0 0 16 16", width: 15, height: 15, "aria-hidden": "true" },
  svg("path", { d: THUMB, fill: "currentColor", transform: turned ? "rotate(180 8 8)" : null }));

function render({ model, el }) {
  const thumbs = [["up", "this run was good"], ["down", "this run was bad"]].map(([verdict, title]) => {
    const button = html("button", { type: "button", class: "dspex-thumb", title, "aria-label": title, "data-verdict": verdict }, thumb(verdict === "down"));
    button.addEventListener("click", () => model.send({ type: "say", verdict, correction: null }));
    return button;
  });
  const fields = model.get("fields").map(([name, value]) => {
    const input = html("textarea", { rows: 1, "aria-label": `correct ${name}` });
    input.value = value;
    return { name, value, input, row: html("label", { class: "dspex-correct" }, html("span", {}, name), input) };
  });
  const save = html("button", { type: "button", class: "dspex-cancel" }, "Save correction");
  save.addEventListener("click", () => {
    const changed = fields.filter((field) => field.input.value !== field.value);
    if (changed.length === 0) return;
    model.send({ type: "say", verdict: null, correction: Object.fromEntries(changed.map((f) => [f.name, f.input.value])) });
  });
  const words = html("span", { class: "dspex-muted", role: "status" });
  const error = html("div", { class: "dspex-refused", role: "alert", hidden: "" });
  const correct = html("details", {}, html("summary", {}, "Correct"), ...fields.map((f) => f.row), save);
  const root = html("div", { class: "dspex-run dspex-thumbs", role: "group", "aria-label": "Feedback" },
    html("div", { class: "dspex-head" }, ...thumbs, words), correct, error);

  function draw() {
    const said = model.get("said");
    for (const button of thumbs) {
      const mine = { up: "good", down: "bad" }[button.dataset.verdict] === said.verdict;
      set(button, "aria-pressed", String(mine));
    }
    text(words, said.corrected.length ? `corrected: ${said.corrected.join(", ")}` : "");
    say(error, said.error);
  }

  model.on("change:said", draw);
  draw();
  instead(model, root);
  el.append(root);
  return () => model.off("change:said", draw);
}

export default { render };
