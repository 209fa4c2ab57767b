import assert from "node:assert/strict";
import { test } from "node:test";
import { facts } from "../src/details.js";
import { neighbour } from "../src/graph.js";
import { ahead } from "../src/run.js";
import { geometry, step, summary } from "./helpers.js";

const go = (from, key) => neighbour(geometry.nodes, from, key)?.name ?? null;

test("arrows go to the nearest box in their direction", () => {
  assert.equal(go("clean", "ArrowRight"), "label");
  assert.equal(go("label", "ArrowDown"), "look");
  assert.equal(go("look", "ArrowUp"), "label");
  assert.equal(go("look", "ArrowRight"), "answer");
  assert.equal(go("answer", "ArrowLeft"), "label");
});
test("where there is no box an arrow goes nowhere", () => {
  assert.equal(go("clean", "ArrowLeft"), null);
  assert.equal(go("answer", "ArrowRight"), null);
  assert.equal(go("nobody", "ArrowRight"), null);
});
test("clocks go on between two pushes only while something runs", () => {
  const steps = { a: step({ status: "running", seconds: 1 }), b: step({ status: "complete", seconds: 2 }), c: step() };
  const [moved, after] = ahead(summary({ status: "running", seconds: 5 }), steps, 0.5);
  assert.deepEqual([moved.seconds, after.a.seconds, after.b.seconds, after.c.seconds], [5.5, 1.5, 2, null]);
  const [still] = ahead(summary({ status: "complete", seconds: 5 }), steps, 0.5);
  assert.equal(still.seconds, 5);
});
test("in a map the mean of a step does not move with the clock", () => {
  const steps = { a: step({ status: "running", seconds: 1 }) };
  const [moved, after] = ahead(summary({ kind: "map", status: "running", seconds: 5 }), steps, 0.5);
  assert.deepEqual([moved.seconds, after.a.seconds], [5.5, 1]);
});
test("the details name time, calls, tokens, implementation and worker", () => {
  const done = step({ status: "complete", seconds: 0.5, calls: 2, prompt_tokens: 30, completion_tokens: 4, cost: 0.01, implementation: "dspy", worker: "w-0" });
  assert.deepEqual(facts({}, done, false), [
    ["Time", "500 ms"], ["LM", "2 calls · $0.010"], ["Tokens", "34 (30 in, 4 out)"], ["Ran by", "dspy"], ["Worker", "w-0"]]);
  assert.deepEqual(facts({}, step({ complete: 3, failed: 1, seconds: 0.1 }), true), [["Rows", "3 complete, 1 failed"], ["Mean time", "100 ms"]]);
});
