import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import widget from "../src/board.js";
import { placeOf, places, valueAt } from "../src/board-control.js";
import { modelOf, page } from "./helpers.js";

let window, cleanups;
beforeEach(() => { window = page(); cleanups = []; });
afterEach(() => cleanups.forEach((f) => f()));

const slider = (changes = {}) => ({ type: "slider", low: 0, high: 1.5, step: null, log: false, whole: false, ...changes });
const row = (name, changes = {}) => ({
  name, text: "0.5", full: "", place: 0.5, range: "float 0 … 1.5", control: slider(), version: 3, by: "optimizer gepa-1: clearer",
  score: "0.91", changed: 1700000000, pinned: false, derived: "", counts: true, spark: "2.0,17.0 94.0,3.0", leased: "", note: "", ...changes,
});
const state = () => ({
  rows: {
    temperature: row("temperature"),
    module: row("module", { text: "Predict", place: 0, range: "module of 2", control: { type: "select", options: ["Predict", "ReAct"] }, leased: "gepa-1, then tune-2" }),
    short: row("short", { text: "True", place: true, range: "bool", control: { type: "toggle" }, spark: "" }),
    words: row("words", { text: "Say <b>it</b>", full: "Say <b>it</b>\nagain", place: null, range: "text", control: { type: "none" } }),
    any: row("any", { place: 7, control: { type: "number", low: null, high: 9, step: 1 } }),
    twice: row("twice", { derived: "2 * temperature", control: { type: "none" }, counts: false, by: "" }),
  },
  head: { space: "default", said: "version 7 · 6 variables" },
  answered: { n: 0, name: "", error: "" },
});

function show(changes = {}) {
  const model = modelOf({ ...state(), ...changes });
  const el = document.createElement("div");
  document.body.append(el);
  const close = widget.render({ model, el });
  cleanups.push(close);
  const of = (name) => el.querySelector(`[data-variable="${name}"]`);
  return { model, el, close, of, control: (name) => of(name).querySelector("input, select") };
}
const fire = (node, kind) => node.dispatchEvent(new window.Event(kind, { bubbles: true }));

test("each variable has a row of what is known of it", () => {
  const { el, of } = show();
  assert.equal(el.querySelector(".dspex-head").textContent, "Variables of defaultversion 7 · 6 variables");
  assert.equal(el.querySelectorAll("tbody tr").length, 6);
  const said = [...of("temperature").children].map((c) => c.textContent);
  assert.deepEqual(said.slice(2, 6), ["float 0 … 1.5", "3", "optimizer gepa-1: clearer", "0.91"]);
  assert.equal(of("temperature").querySelector("polyline").getAttribute("points"), "2.0,17.0 94.0,3.0");
  assert.equal(of("module").querySelector(".dspex-leased").textContent, "gepa-1, then tune-2");
  assert.equal(of("short").querySelector(".dspex-spark").hasAttribute("hidden"), true);
  assert.match(of("twice").textContent, /= 2 \* temperature/);
  assert.match(of("twice").textContent, /does not count now/);
});

test("what is computed cannot be pinned, and a note stands by its variable", () => {
  const rows = { ...state().rows, noted: row("noted", { note: "how many <b>" }) };
  const { of } = show({ rows });
  assert.equal(of("twice").querySelector(".dspex-pin").hasAttribute("hidden"), true);
  assert.equal(of("temperature").querySelector(".dspex-pin").hasAttribute("hidden"), false);
  assert.equal(of("noted").querySelector(".dspex-remark").textContent, "how many <b>");
  assert.equal(of("temperature").querySelector(".dspex-remark").textContent, "");
});

test("the picture in the saved output is hidden as long as the view is there", () => {
  assert.equal(show({ saved: "dspex-saved-12ab" }).el.querySelector("style").textContent, ".dspex-saved-12ab { display: none; }");
  assert.equal(show({ saved: "x, body" }).el.querySelector("style"), null);
  assert.equal(show().el.querySelector("style"), null);
});

test("nothing of a value is read as markup", () => {
  const { el, of } = show();
  assert.equal(el.querySelector("b"), null);
  assert.equal(of("words").querySelector("pre").textContent, "Say <b>it</b>\nagain");
  assert.equal(of("words").querySelector("details").hasAttribute("hidden"), false);
  assert.equal(of("temperature").querySelector("details").hasAttribute("hidden"), true);
});

test("a slider says where it is while it moves and asks when it is let go", () => {
  const { model, of, control } = show();
  const input = control("temperature");
  assert.equal(input.getAttribute("aria-label"), "Value of temperature");
  assert.equal(input.max, "200");
  input.value = "100";
  fire(input, "input");
  assert.equal(of("temperature").querySelector(".dspex-value").textContent, "0.75");
  assert.deepEqual(model.sent, []);
  fire(input, "change");
  assert.deepEqual(model.sent, [{ type: "set", name: "temperature", value: 0.75 }]);
});

test("what is pushed does not move a slider under a person's hand", async () => {
  const { model, of, control } = show();
  control("temperature").value = "100";
  fire(control("temperature"), "input");
  const rows = state().rows;
  rows.temperature = row("temperature", { text: "0.1", place: 0.1 });
  await model.push({ rows });
  assert.equal(control("temperature").value, "100");
  assert.equal(of("temperature").querySelector(".dspex-value").textContent, "0.75");
  fire(control("temperature"), "change");
  await model.push({ rows: { ...rows } });
  assert.equal(of("temperature").querySelector(".dspex-value").textContent, "0.1");
});

test("a refused change is said in words and the control goes back", async () => {
  const { model, of, control } = show();
  control("temperature").value = "200";
  fire(control("temperature"), "input");
  fire(control("temperature"), "change");
  await model.push({ answered: { n: 1, name: "temperature", error: "The constraint <i> does not hold." } });
  const error = of("temperature").querySelector(".dspex-refused");
  assert.equal(error.textContent, "The constraint <i> does not hold.");
  assert.equal(error.hasAttribute("hidden"), false);
  assert.equal(control("temperature").value, String(placeOf(slider(), 0.5)));
  assert.equal(of("temperature").querySelector(".dspex-value").textContent, "0.5");
  await model.push({ answered: { n: 2, name: "temperature", error: "" } });
  assert.equal(error.hasAttribute("hidden"), true);
  await model.push({ answered: { n: 3, name: "gone", error: "x" } });
});

test("lists, switches and numbers ask for what was chosen", () => {
  const { model, control } = show();
  control("module").selectedIndex = 1;
  fire(control("module"), "change");
  control("short").checked = false;
  fire(control("short"), "input");
  fire(control("short"), "change");
  control("any").value = "8";
  fire(control("any"), "change");
  control("any").value = "";
  fire(control("any"), "change");
  assert.deepEqual(model.sent, [
    { type: "set", name: "module", value: 1 }, { type: "set", name: "short", value: false }, { type: "set", name: "any", value: 8 },
  ]);
  assert.equal(control("any").min, "");
  assert.equal(control("any").max, "9");
  assert.equal(control("twice"), null);
  assert.equal(control("words"), null);
});

test("a variable is pinned and unpinned, and pinned it has no control to use", async () => {
  const { model, of, control } = show();
  const pin = () => of("temperature").querySelector(".dspex-pin");
  assert.equal(pin().getAttribute("aria-label"), "Pin temperature");
  pin().click();
  const rows = state().rows;
  rows.temperature = row("temperature", { pinned: true });
  await model.push({ rows });
  assert.equal(pin().textContent, "Unpin");
  assert.ok(control("temperature").disabled);
  assert.match(of("temperature").textContent, /pinned/);
  pin().click();
  assert.deepEqual(model.sent, [{ type: "pin", name: "temperature", value: true }, { type: "pin", name: "temperature", value: false }]);
});

test("variables come, go, change place and kind", async () => {
  const { model, el, of, control } = show();
  const before = of("short");
  const all = state().rows;
  await model.push({ rows: { short: all.short, fresh: row("fresh"), module: { ...all.module, control: slider(), place: 1 } } });
  assert.deepEqual([...el.querySelectorAll("[data-variable]")].map((r) => r.dataset.variable), ["short", "fresh", "module"]);
  assert.equal(of("short"), before, "what stays is not made anew");
  assert.equal(control("module").type, "range");
  await model.push({ rows: {} });
  assert.ok(el.querySelector("table").hasAttribute("hidden"));
  assert.match(el.textContent, /no variables yet/);
});

test("a view that is closed listens no more", () => {
  const { model, close } = show();
  assert.equal(model.listening(), 3);
  close();
  assert.equal(model.listening(), 0);
});

test("sliders go by the range's own steps and scale, and reach both ends", () => {
  const steps = slider({ low: 0.1, high: 0.7, step: 0.1 });
  assert.equal(places(steps), 6);
  assert.deepEqual([0, 2, 6].map((p) => valueAt(steps, p)), [0.1, 0.3, 0.7]);
  const whole = slider({ low: 1, high: 1000, step: 1, log: true, whole: true });
  assert.deepEqual([0, 100, 200].map((p) => valueAt(whole, p)), [1, 32, 1000]);
  const log = slider({ low: 1e-5, high: 1, log: true });
  assert.deepEqual([0, 80, 200].map((p) => valueAt(log, p)), [1e-5, 0.001, 1]);
  const plain = slider({ low: -1 / 3, high: 1 / 3 });
  assert.deepEqual([0, 100, 200].map((p) => valueAt(plain, p)), [-1 / 3, 0, 1 / 3]);
  for (const control of [steps, whole, log]) {
    for (const place of [0, 1, 5]) assert.equal(valueAt(control, placeOf(control, valueAt(control, place))), valueAt(control, place));
  }
  assert.equal(valueAt(slider({ low: 0, high: 1, step: 1e-7 }), 3), 3e-7);
});
