import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import widget from "../src/run.js";
import { geometry, graph, modelOf, nested, nestedGeometry, notes, page, rows, step, summary, waiting } from "./helpers.js";

let window, cleanups;
beforeEach(() => { window = page(); cleanups = []; mock.timers.enable({ apis: ["setInterval"] }); });
afterEach(() => { cleanups.forEach((f) => f()); mock.timers.reset(); });

function show(changes = {}) {
  const model = modelOf({ graph, geometry, steps: waiting(), summary: summary(), cancelling: "none", ...changes });
  const el = document.createElement("div");
  document.body.append(el);
  const close = widget.render({ model, el });
  cleanups.push(close);
  return { model, el, close, one: (css) => el.querySelector(css), node: (name) => el.querySelector(`[data-step=${name}]`) };
}
const press = (node, key) => node.dispatchEvent(new window.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const click = (node) => node.dispatchEvent(new window.MouseEvent("click", { bubbles: true }));

test("the graph has a box for each step and a line for each edge", () => {
  const { el } = show();
  assert.equal(el.querySelectorAll(".dspex-node").length, 4);
  assert.equal(el.querySelectorAll(".dspex-edge").length, 5);
  assert.equal(el.querySelectorAll(".dspex-input").length, 1);
  assert.equal(el.querySelector("[data-step=look] .dspex-line").textContent, "nature of look", "as it fits its box");
});

test("a push changes a step's state, words and label in place", async () => {
  const { model, node } = show();
  const before = node("label");
  await model.push({ steps: { ...waiting(), label: step({ status: "complete", seconds: 0.42, prompt_tokens: 312 }) } });
  assert.equal(node("label"), before);
  assert.ok(before.classList.contains("dspex-is-complete"));
  assert.equal(before.querySelector(".dspex-line").textContent, "420 ms · 312 tok");
  assert.equal(before.getAttribute("aria-label"), "Step label, dspy, complete, 420 ms, 312 tokens");
});

test("the header has name, status, time, model, tokens and cost", async () => {
  const { model, one } = show();
  await model.push({ summary: summary({ status: "complete", seconds: 3.2, lm: "a/b", calls: 2, prompt_tokens: 1200, completion_tokens: 4, cost: 0.0031 }) });
  assert.equal(one(".dspex-head").textContent, "demoComplete3.2 sa/boffline, simulated1,204 tokens$0.0031Cancel");
  assert.ok(one(".dspex-badge").hidden);
  assert.ok(one(".dspex-cancel").hidden);
});

test("a simulated model wears its badge", () => {
  const { one } = show({ summary: summary({ lm: "x", simulated: true }) });
  assert.equal(one(".dspex-badge").hidden, false);
});

test("a failed step shows its error on hover and on click, and the run its own", async () => {
  const { model, node, one } = show();
  const steps = { ...waiting(), look: step({ status: "failed", failed: 1, errors: [{ text: "<b>KeyError</b>", count: 1 }] }) };
  await model.push({ steps, summary: summary({ status: "partial", error: "<b>KeyError</b>", error_step: "look" }) });
  assert.equal(node("look").querySelector("title").textContent, "<b>KeyError</b>");
  assert.equal(one(".dspex-error").textContent, "look: <b>KeyError</b>");
  click(node("look"));
  assert.equal(one(".dspex-details pre").textContent, "<b>KeyError</b>");
  assert.equal(one("b"), null);
});

test("a click opens a step's fields and a second one closes them", () => {
  const { node, one } = show();
  click(node("answer"));
  assert.equal(one(".dspex-details").hidden, false);
  assert.match(one(".dspex-details").textContent, /Takesintentorder/);
  assert.match(one(".dspex-details").textContent, /Givesanswer/);
  assert.equal(node("answer").getAttribute("aria-expanded"), "true");
  assert.equal(node("answer").getAttribute("aria-controls"), one(".dspex-details").id);
  click(node("answer"));
  assert.ok(one(".dspex-details").hidden);
});

test("the keyboard reaches every step, opens and closes it", () => {
  const { node, one } = show();
  assert.equal(node("clean").getAttribute("tabindex"), "0");
  node("clean").focus();
  press(document.activeElement, "ArrowRight");
  press(document.activeElement, "ArrowDown");
  assert.equal(document.activeElement, node("look"));
  assert.deepEqual(["clean", "label", "look"].map((n) => node(n).getAttribute("tabindex")), ["-1", "-1", "0"]);
  press(document.activeElement, "Enter");
  assert.equal(one(".dspex-details").getAttribute("aria-label"), "Step look");
  press(document.activeElement, "Escape");
  assert.ok(one(".dspex-details").hidden);
  press(document.activeElement, " ");
  press(one(".dspex-close"), "Escape");
  assert.ok(one(".dspex-details").hidden);
  assert.equal(document.activeElement, node("look"));
});

test("keys that mean nothing here are left to the page", () => {
  const { node } = show();
  const event = new window.KeyboardEvent("keydown", { key: "Tab", bubbles: true, cancelable: true });
  node("clean").dispatchEvent(event);
  assert.equal(event.defaultPrevented, false);
});

test("JupyterLab's own keys do not act on a focused step", () => {
  assert.ok(show().node("clean").closest("[data-lm-suppress-shortcuts]"));
});

test("a map has a progress bar that is also told in words", async () => {
  const { model, one, node } = show({ summary: summary({ kind: "map", rows: rows() }) });
  const steps = { ...waiting(), label: step({ status: "running", complete: 40, failed: 10, seconds: 0.01 }) };
  await model.push({ steps, summary: summary({ kind: "map", status: "running", seconds: 1, rows: rows({ done: 50, complete: 40, failed: 10, rate: 50, eta: 1 }) }) });
  const bar = one("[role=progressbar]");
  assert.deepEqual(["now", "max", "text"].map((n) => bar.getAttribute(`aria-value${n}`)), ["50", "100", "50 / 100 rows · 10 failed · 50/s · 1 s left"]);
  assert.equal(one(".dspex-part-complete").style.width, "40%");
  assert.equal(one(".dspex-part-failed").style.width, "10%");
  assert.equal(node("label").querySelector(".dspex-count").textContent, "10 ✕");
  assert.equal(Number(node("label").querySelector(".dspex-done").getAttribute("width")), 0.4 * 144);
});

test("a map of unknown length counts without a share", () => {
  const { one } = show({ summary: summary({ kind: "map", rows: rows({ total: null, done: 7, complete: 7 }) }) });
  assert.ok(one("[role=progressbar]").classList.contains("dspex-unknown"));
  assert.equal(one("[role=progressbar]").hasAttribute("aria-valuenow"), false);
});

test("Cancel is there only where someone listens and sends one message", async () => {
  const { model, one } = show({ summary: summary({ status: "running", seconds: 0 }) });
  assert.ok(one(".dspex-cancel").hidden);
  await model.push({ cancelling: "ready" });
  assert.equal(one(".dspex-cancel").hidden, false);
  click(one(".dspex-cancel"));
  assert.deepEqual(model.sent, [{ type: "cancel" }]);
  assert.ok(one(".dspex-cancel").disabled);
  assert.equal(one(".dspex-cancel").textContent, "Cancelling…");
  await model.push({ summary: summary({ status: "cancelled", seconds: 1 }) });
  assert.ok(one(".dspex-cancel").hidden);
});

test("the clock runs while the run does and stops with it", async () => {
  const now = mock.method(performance, "now", () => 1000);
  const { model, one } = show({ summary: summary({ at: Date.now() / 1000 + 60 }) });
  await model.push({ summary: summary({ status: "running", seconds: 1 }) });
  now.mock.mockImplementation(() => 1600);
  mock.timers.tick(200);
  assert.equal(one(".dspex-time").textContent, "1.6 s");
  await model.push({ summary: summary({ status: "complete", seconds: 1.5 }) });
  now.mock.mockImplementation(() => 9000);
  mock.timers.tick(1000);
  assert.equal(one(".dspex-time").textContent, "1.5 s");
  now.mock.restore();
});

test("a view of a state that is already old starts with its age", () => {
  const { one } = show({ summary: summary({ status: "running", seconds: 10, at: Date.now() / 1000 - 20 }) });
  assert.equal(one(".dspex-time").textContent, "30 s");
});

test("inner steps have boxes, states and details of their own, in their outer step's box", async () => {
  const states = () => ({ clean: step(), reply: step(), "reply.then": step(), "reply.otherwise": step(), "reply.otherwise.deep": step(), tone: step() });
  const { model, el, one } = show({ graph: nested, geometry: nestedGeometry, steps: states() });
  const box = (name) => el.querySelector(`[data-step="${name}"]`);
  await model.push({ steps: { ...states(), reply: step({ status: "partial", seconds: 1 }), "reply.then": step({ status: "complete", seconds: 0.3, times: 3, complete: 3 }) } });
  assert.ok(box("reply").classList.contains("dspex-group"));
  assert.ok(box("reply").classList.contains("dspex-is-partial"));
  assert.equal(box("reply.then").querySelector(".dspex-line").textContent, "3 × 300 ms");
  assert.ok(box("reply.otherwise").querySelector(".dspex-behind"), "what is folded is a stack");
  const order = [...el.querySelectorAll(".dspex-node, .dspex-link")];
  const inner = order.findIndex((e) => e.querySelector("title").textContent === "reply" && e.getAttribute("transform") === "translate(210 46)");
  assert.ok(order.indexOf(box("reply")) < inner && inner < order.indexOf(box("reply.then")), "over the outer box, under the inner ones");
  click(box("reply.then"));
  assert.equal(one(".dspex-details strong").textContent, "reply.then");
  assert.match(one(".dspex-details").textContent, /Times3 complete/);
});

test("a second view of a model shows the same open step", () => {
  const first = show();
  click(first.node("look"));
  const el = document.createElement("div");
  cleanups.push(widget.render({ model: first.model, el }));
  assert.equal(el.querySelector(".dspex-details").getAttribute("aria-label"), "Step look");
});

test("closing a view leaves no listener and no timer", () => {
  const { model, close } = show({ summary: summary({ status: "running", seconds: 0 }) });
  close();
  assert.equal(model.listening(), 0);
});

test("what went another way and the budget have a line while there is something to say", async () => {
  const { model, one } = show();
  assert.ok(one(".dspex-notes").hidden);
  const budgets = [{ of: "this run", share: 0.41, limit: "$2.00" }];
  await model.push({ summary: summary({ status: "running", seconds: 1, notes: notes({ instead: [{ name: "<b>x</b>", count: 1 }] }), budgets }) });
  assert.equal(one(".dspex-notes").hidden, false);
  assert.equal(one(".dspex-noted").textContent, "<b>x</b> answered instead 1 ×");
  assert.equal(one(".dspex-budget").textContent, "41% of $2.00 (this run)");
  assert.equal(one("b"), null);
  assert.equal(one(".dspex-near"), null);
  await model.push({ summary: summary({ budgets: [{ ...budgets[0], share: 0.8 }] }) });
  assert.ok(one(".dspex-near"), "four fifths are spent");
});
