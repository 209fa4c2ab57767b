// The panel under the graph: everything about the chosen step.
import { html, text } from "./dom.js";
import { count, seconds } from "./format.js";
import { callsText, costText, nature, outcomes, tokensOf, WORDS } from "./text.js";

const fields = (names) => html("span", {}, ...(names.length ? names.map((n) => html("code", {}, n)) : ["–"]));

/** How a step is doing, as [term, text]; pure. */
export function facts(step, isMap) {
  if (!step) return [];
  const rows = [];
  const many = isMap || step.times > 1;
  if (many && outcomes(step)) rows.push([isMap ? "Rows" : "Times", outcomes(step)]);
  if (step.seconds !== null) rows.push([many ? "Mean time" : "Time", seconds(step.seconds)]);
  if (step.calls) {
    rows.push(["LM", [callsText(step), costText(step)].filter(Boolean).join(" · ")]);
    rows.push(["Tokens", `${count(tokensOf(step))} (${count(step.prompt_tokens)} in, ${count(step.completion_tokens)} out)`]);
  }
  if (step.implementation) rows.push(["Ran by", step.implementation]);
  if (step.worker) rows.push(["Worker", step.worker]);
  return rows;
}

/** Make the panel; `onClose()` is told of its button and of Escape. Returns {element, update}. */
export function makeDetails(id, onClose) {
  const close = html("button", { type: "button", class: "dspex-close", "aria-label": "Close details" }, "×");
  const name = html("strong");
  const state = html("span", { class: "dspex-muted" });
  const list = html("dl");
  const errors = html("div", { class: "dspex-errors" });
  const root = html(
    "section",
    { class: "dspex-details", id, hidden: "", "data-lm-suppress-shortcuts": "true" },
    html("div", { class: "dspex-details-head" }, name, state, close), list, errors,
  );
  close.addEventListener("click", onClose);
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") onClose(); });
  let shown = "";

  /** Show a step: its place in the geometry (with the facts known before it runs), its node in the graph, its state. */
  function update(place, node, step, isMap) {
    root.toggleAttribute("hidden", !node);
    const what = JSON.stringify([place, node, step, isMap]);
    if (!node || what === shown) return;
    shown = what;
    root.setAttribute("aria-label", `Step ${place.name}`);
    text(name, place.name);
    text(state, [step && WORDS[step.status].toLowerCase(), nature(node)].filter(Boolean).join(" · "));
    const pair = ([term, value]) => html("div", {}, html("dt", {}, term), html("dd", {}, value));
    const own = [["Takes", fields(node.inputs ?? [])], ["Gives", fields(node.outputs ?? [])]];
    list.replaceChildren(...[...own, ...facts(step, isMap), ...place.facts].map(pair));
    errors.replaceChildren(
      ...(step?.errors ?? []).map((e) => html("pre", { tabindex: 0 }, (e.count > 1 ? `${count(e.count)} × ` : "") + e.text)),
    );
  }
  return { element: root, update };
}
