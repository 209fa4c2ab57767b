import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import widget from "../src/job.js";
import thumbs from "../src/thumbs.js";
import { modelOf, page } from "./helpers.js";

let window, cleanups;
beforeEach(() => { window = page(); cleanups = []; });
afterEach(() => cleanups.forEach((f) => f()));

const EVIL = "<img src=x>";
const head = (changes = {}) => ({
  number: 3, kind: "optimize", name: `support ${EVIL}`, state: "running", fraction: 0.25, done: "3 of 12", best: "best 0.9", trials: "2 trials",
  spent: "$0.12, 40 calls", left: "about 9 s left", repeated: "", note: EVIL, error: "", adopted: "", buttons: ["stop"], ...changes,
});
const row = (number, changes = {}) => ({
  number, parent: "", status: "complete", score: "0.5", rows: "10", seconds: "1.0 s", cost: "$0.01", said: EVIL, best: false, ...changes,
});
const candidate = (changes = {}) => ({
  number: 1, said: "Trial 1, made from 0: 0.9", lines: [["@", "t.instructions"], ["-", "Say it."], ["+", `Say it well. ${EVIL}`]], ...changes,
});
const facts = (changes = {}) => ({
  head: head(), trials: [row(0), row(1, { best: true, score: "0.9" })], hidden: 0, lineage: "0 0.5\n  1 0.9", candidate: candidate(),
  curve: { dots: [{ x: 6, y: 60, said: "trial 0: 0.5", kept: true }, { x: 314, y: 8, said: "trial 1: 0.9", kept: false }], line: "6,60 314,8", low: "0.5", high: "0.9" },
  rejected: [{ number: 2, why: "not better", text: EVIL }], ...changes,
});

function show(given = facts()) {
  const model = modelOf({ facts: given, candidate: given.candidate, answered: { n: 0, deed: "", error: "" } });
  const el = document.createElement("div");
  document.body.append(el);
  const close = widget.render({ model, el });
  cleanups.push(close);
  return { model, el, close, button: (deed) => el.querySelector(`[data-deed="${deed}"]`) };
}

test("what is known of a job is said, and none of it is markup", () => {
  const { el } = show();
  assert.equal(el.querySelector("img"), null);
  const top = el.querySelector(".dspex-head").textContent;
  for (const word of ["Job 3: optimize support", "running", "3 of 12", "best 0.9", "2 trials", "$0.12, 40 calls", "about 9 s left"]) assert.ok(top.includes(word), word);
  assert.equal(el.querySelector(".dspex-progress > div").getAttribute("style"), "width:25%");
  assert.equal(el.querySelector(".dspex-error").hasAttribute("hidden"), true);
});

test("trials have a row each, the best one marked, and can be looked at", () => {
  const { model, el } = show(facts({ hidden: 7 }));
  assert.equal(el.querySelectorAll("tbody tr").length, 2);
  assert.equal(el.querySelector(".dspex-best").dataset.trial, "1");
  assert.match(el.textContent, /Trials \(9\)/);
  assert.match(el.textContent, /7 earlier trials/);
  el.querySelector('[data-trial="0"] button').click();
  assert.deepEqual(model.sent, [{ type: "look", number: 0 }]);
});

test("the candidate is shown as what it changed", async () => {
  const { model, el } = show();
  const lines = [...el.querySelectorAll(".dspex-diff > div")];
  assert.deepEqual(lines.map((l) => l.className), ["dspex-part", "dspex-removed", "dspex-added"]);
  assert.equal(lines[2].textContent, `+ Say it well. ${EVIL}`);
  await model.push({ candidate: candidate({ said: "Trial 0", lines: [] }) });
  assert.equal(el.querySelector(".dspex-diff").parentNode.hasAttribute("hidden"), true);
});

test("scores are drawn once there are two, lineage and rejected proposals unfold", async () => {
  const { model, el } = show();
  assert.equal(el.querySelectorAll("circle").length, 2);
  assert.equal(el.querySelector("circle.dspex-not title").textContent, "trial 1: 0.9");
  assert.equal(el.querySelector("polyline").getAttribute("points"), "6,60 314,8");
  assert.equal(el.querySelector(".dspex-lineage").textContent, "0 0.5\n  1 0.9");
  assert.match(el.querySelector("li").textContent, /2: <img src=x> not better/);
  await model.push({ facts: facts({ curve: { dots: [], line: "", low: "", high: "" }, lineage: "", rejected: [], trials: [] }) });
  assert.equal(el.querySelector(".dspex-scores").hasAttribute("hidden"), true);
  assert.equal([...el.querySelectorAll("details[hidden]")].length, 3);
});

test("only the buttons that can be used are there; a pressed one waits for its answer", async () => {
  const { model, el, button } = show();
  assert.equal(button("stop").hasAttribute("hidden"), false);
  assert.equal(button("adopt").hasAttribute("hidden"), true);
  button("stop").click();
  assert.deepEqual(model.sent, [{ type: "stop" }]);
  assert.equal(button("stop").disabled, true);
  await model.push({ facts: facts({ head: head({ state: "complete", buttons: ["adopt"], fraction: null }) }) });
  assert.equal(button("stop").hasAttribute("hidden"), true);
  assert.equal(el.querySelector(".dspex-progress").hasAttribute("hidden"), true);
  button("adopt").click();
  await model.push({ answered: { n: 1, deed: "adopt", error: `Job 3 is not adopted ${EVIL}` } });
  const refused = el.querySelector(".dspex-refused");
  assert.equal(refused.textContent, `Job 3 is not adopted ${EVIL}`);
  assert.equal(button("adopt").disabled, false);
  await model.push({ answered: { n: 2, deed: "adopt", error: "" } });
  assert.equal(refused.hasAttribute("hidden"), true);
});

test("what did not change is not drawn again, and a closed widget listens to nothing", async () => {
  const { model, el, close } = show();
  const before = el.querySelector("tbody tr");
  await model.push({ facts: facts({ head: head({ done: "4 of 12" }) }) });
  assert.equal(el.querySelector("tbody tr"), before);
  assert.match(el.textContent, /4 of 12/);
  close();
  assert.equal(model.listening(), 0);
});

function thumb(changes = {}) {
  const model = modelOf({ fields: [["label", "wrong"], ["note", EVIL]], said: { verdict: "", corrected: [], error: "" }, ...changes });
  const el = document.createElement("div");
  document.body.append(el);
  cleanups.push(thumbs.render({ model, el }));
  return { model, el };
}

test("a thumb says what a person thinks of a run", async () => {
  const { model, el } = thumb();
  const [up, down] = el.querySelectorAll(".dspex-thumb");
  assert.deepEqual([up, down].map((b) => b.getAttribute("aria-label")), ["this run was good", "this run was bad"]);
  assert.deepEqual([up, down].map((b) => [b.textContent, b.querySelectorAll("svg[aria-hidden] path").length]), [["", 1], ["", 1]]);
  up.click();
  down.click();
  assert.deepEqual(model.sent, [{ type: "say", verdict: "up", correction: null }, { type: "say", verdict: "down", correction: null }]);
  await model.push({ said: { verdict: "bad", corrected: ["label"], error: "" } });
  assert.equal(down.getAttribute("aria-pressed"), "true");
  assert.equal(up.getAttribute("aria-pressed"), "false");
  assert.match(el.textContent, /corrected: label/);
  await model.push({ said: { verdict: "bad", corrected: [], error: EVIL } });
  assert.equal(el.querySelector(".dspex-refused").textContent, EVIL);
  assert.equal(el.querySelector("img"), null);
});

test("only what was changed is a correction", () => {
  const { model, el } = thumb();
  const save = [...el.querySelectorAll("button")].at(-1);
  save.click();
  assert.deepEqual(model.sent, []);
  const [label, note] = el.querySelectorAll("textarea");
  assert.equal(note.value, EVIL);
  label.value = "right";
  save.click();
  assert.deepEqual(model.sent, [{ type: "say", verdict: null, correction: { label: "right" } }]);
});
