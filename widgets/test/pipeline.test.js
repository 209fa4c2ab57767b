import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import widget from "../src/pipeline.js";
import { geometry, graph, modelOf, nested, nestedGeometry, page } from "./helpers.js";

let window, cleanups;
beforeEach(() => { window = page(); cleanups = []; });
afterEach(() => { cleanups.forEach((f) => f()); });

function show(changes = {}) {
  const model = modelOf({ graph: nested, geometry: nestedGeometry, selected: "", ...changes });
  const el = document.createElement("div");
  document.body.append(el);
  const close = widget.render({ model, el });
  cleanups.push(close);
  return { model, el, close, one: (css) => el.querySelector(css), node: (name) => el.querySelector(`[data-step="${name}"]`) };
}
const click = (node) => node.dispatchEvent(new window.MouseEvent("click", { bubbles: true }));
const press = (node, key, more = {}) => node.dispatchEvent(new window.KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
const pointer = (node, type, x, y, more = {}) => {
  node.dispatchEvent(new window.MouseEvent(type, { bubbles: true, cancelable: true, clientX: x, clientY: y, button: 0, buttons: 1, ...more }));
};
const moved = (one) => one(".dspex-canvas > g").getAttribute("transform");

test("it shows steps as what they are: kind, line, pool, and a legend", () => {
  const { one, node, el } = show();
  assert.equal(el.querySelectorAll(".dspex-node").length, 5);
  assert.ok(node("reply").classList.contains("dspex-kind-when"));
  assert.equal(node("reply.then").querySelector(".dspex-line").textContent, "line of reply.then");
  assert.equal(node("tone").querySelector(".dspex-pool").textContent, "general");
  assert.equal(one(".dspex-legend").textContent, "my<kind>");
  assert.equal(one(".dspex-head").textContent, "nestedtakes text gives reply");
  assert.match(node("reply").getAttribute("aria-label"), /^Step reply, when, Does: urgency > 0.8/);
});

test("a click opens what is known of a step; the choice is synced", () => {
  const { one, node, model } = show();
  click(node("reply"));
  assert.equal(one(".dspex-details").hidden, false);
  assert.match(one(".dspex-details").textContent, /TakescleanGivesreplyDoesurgency > 0.8Inner stepsthen, otherwise/);
  assert.deepEqual([model.get("selected"), model.saved], ["reply", 1]);
  assert.equal(node("reply").getAttribute("aria-expanded"), "true");
  click(node("reply"));
  assert.equal(model.get("selected"), "");
  assert.ok(one(".dspex-details").hidden);
});

test("Python may choose a step, and one that is not drawn opens nothing", async () => {
  const { one, model } = show();
  await model.push({ selected: "reply.then" });
  assert.equal(one(".dspex-details strong").textContent, "reply.then");
  await model.push({ selected: "reply.otherwise.deep" });
  assert.ok(one(".dspex-details").hidden);
});

test("the keyboard reaches every step, opens, closes and zooms", () => {
  const { one, node, model } = show();
  node("clean").focus();
  press(document.activeElement, "ArrowRight");
  press(document.activeElement, "ArrowRight");
  assert.equal(document.activeElement, node("reply.then"));
  press(document.activeElement, "Enter");
  assert.equal(model.get("selected"), "reply.then");
  press(one(".dspex-close"), "Escape");
  assert.equal(model.get("selected"), "");
  assert.equal(document.activeElement, node("reply.then"));
  const before = moved(one);
  press(document.activeElement, "+");
  assert.notEqual(moved(one), before);
  press(document.activeElement, "+", { ctrlKey: true }); // the browser's own zoom
  const after = moved(one);
  press(document.activeElement, "x");
  assert.equal(moved(one), after);
});

test("dragging moves and chooses nothing; a click without a drag chooses", () => {
  const { one, node, model } = show();
  const canvas = one(".dspex-canvas");
  const before = moved(one);
  pointer(canvas, "pointerdown", 10, 10);
  pointer(canvas, "pointermove", 12, 11);
  assert.equal(moved(one), before, "a tremble is no drag");
  pointer(canvas, "pointermove", 60, 30);
  assert.match(moved(one), /^translate\(50.0 20.0\)/);
  pointer(canvas, "pointerup", 60, 30);
  click(node("clean"));
  assert.equal(model.get("selected"), "");
  click(node("clean"));
  assert.equal(model.get("selected"), "clean");
});

test("a pointer that was let go outside drags no more", () => {
  const { one } = show();
  const canvas = one(".dspex-canvas");
  pointer(canvas, "pointerdown", 10, 10);
  const before = moved(one);
  pointer(canvas, "pointermove", 90, 90, { buttons: 0 });
  pointer(canvas, "pointermove", 190, 190);
  assert.equal(moved(one), before);
});

test("the wheel zooms only with Ctrl or ⌘, else the page scrolls", () => {
  const { one } = show();
  const turn = (more) => {
    const event = new window.WheelEvent("wheel", { deltaY: -100, bubbles: true, cancelable: true, ...more });
    one(".dspex-canvas").dispatchEvent(event);
    return event.defaultPrevented;
  };
  const before = moved(one);
  assert.equal(turn({}), false);
  assert.equal(moved(one), before);
  assert.equal(turn({ ctrlKey: true }), true);
  assert.notEqual(moved(one), before);
});

test("the buttons zoom in and out, show all, and the actual size", () => {
  const { el, one } = show();
  const [more, less, all, actual] = el.querySelectorAll(".dspex-tools button");
  const scale = () => Number(/scale\(([\d.]+)\)/.exec(moved(one))[1]);
  click(more);
  assert.equal(scale(), 1.25);
  click(less);
  assert.equal(scale(), 1);
  click(less);
  click(all);
  assert.equal(scale(), 1);
  click(more);
  click(actual);
  assert.equal(moved(one), "translate(0.0 0.0) scale(1.0000)");
});

test("another graph is drawn in its place", async () => {
  const { model, el } = show();
  await model.push({ graph, geometry });
  assert.deepEqual([...el.querySelectorAll(".dspex-node")].map((e) => e.getAttribute("data-step")), graph.nodes.map((n) => n.name));
  assert.equal(el.querySelectorAll(".dspex-plan").length, 1);
});

test("names from outside are text", () => {
  const evil = "<img src=x onerror=alert(1)>";
  const place = { ...nestedGeometry.nodes[0], name: evil, label: evil, line: evil, badge: evil, facts: [[evil, evil]] };
  const { el, one } = show({
    graph: { name: evil, inputs: [evil], outputs: [evil], nodes: [{ name: evil, kind: evil }], edges: [] },
    geometry: { ...nestedGeometry, nodes: [place], edges: [], legend: [{ kind: "other", word: evil, icon: "M0 0" }] },
    selected: evil,
  });
  assert.equal(one("img"), null);
  assert.ok(el.textContent.includes(evil));
});

test("a pipeline without fields says so", () => {
  const { one } = show({ graph: { ...nested, inputs: [], outputs: [] } });
  assert.equal(one(".dspex-head").textContent, "nestedtakes – gives –");
});

test("closing a view leaves no listener", () => {
  const { model, close } = show();
  close();
  assert.equal(model.listening(), 0);
});
