import assert from "node:assert/strict";
import { test } from "node:test";
import { facts } from "../src/details.js";
import { neighbour, nodesOf } from "../src/graph.js";
import { ahead } from "../src/run.js";
import { geometry, nested, nestedGeometry, step, summary } from "./helpers.js";

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
test("arrows walk into an outer step, through it and out again", () => {
  const walk = (from, key) => neighbour(nestedGeometry.nodes, from, key)?.name ?? null;
  const right = ["clean", "reply", "reply.then", "reply.otherwise", "tone"];
  right.slice(1).forEach((name, i) => assert.equal(walk(right[i], "ArrowRight"), name));
  assert.equal(walk("tone", "ArrowRight"), null);
  assert.equal(walk("tone", "ArrowLeft"), "reply");
  assert.equal(walk("reply.otherwise", "ArrowLeft"), "reply.then");
  assert.equal(walk("reply.then", "ArrowLeft"), "reply");
  assert.equal(walk("reply.then", "ArrowDown"), null);
  assert.equal(walk("reply", "Home"), null);
});
test("inner nodes are found by their full names", () => {
  assert.deepEqual([...nodesOf(nested).keys()], ["clean", "reply", "reply.then", "reply.otherwise", "reply.otherwise.deep", "tone"]);
  assert.equal(nodesOf({ name: "empty" }).size, 0);
});
test("clocks go on between two pushes only while something runs", () => {
  const steps = { a: step({ status: "running", seconds: 1 }), b: step({ status: "complete", seconds: 2 }), c: step() };
  const [moved, after] = ahead(summary({ status: "running", seconds: 5 }), steps, 0.5);
  assert.deepEqual([moved.seconds, after.a.seconds, after.b.seconds, after.c.seconds], [5.5, 1.5, 2, null]);
  const [still] = ahead(summary({ status: "complete", seconds: 5 }), steps, 0.5);
  assert.equal(still.seconds, 5);
});
test("the mean of an inner step that ran many times does not move with the clock", () => {
  const steps = { "a.item": step({ status: "running", seconds: 1, times: 3, complete: 3 }) };
  assert.equal(ahead(summary({ status: "running", seconds: 5 }), steps, 0.5)[1]["a.item"].seconds, 1);
});
test("in a map the mean of a step does not move with the clock", () => {
  const steps = { a: step({ status: "running", seconds: 1 }) };
  const [moved, after] = ahead(summary({ kind: "map", status: "running", seconds: 5 }), steps, 0.5);
  assert.deepEqual([moved.seconds, after.a.seconds], [5.5, 1]);
});
test("the details name time, calls, tokens, implementation and worker", () => {
  const done = step({ status: "complete", seconds: 0.5, calls: 2, prompt_tokens: 30, completion_tokens: 4, cost: 0.01, implementation: "dspy", worker: "w-0" });
  assert.deepEqual(facts(done, false), [
    ["Time", "500 ms"], ["LM", "2 calls · $0.010"], ["Tokens", "34 (30 in, 4 out)"], ["Ran by", "dspy"], ["Worker", "w-0"]]);
  assert.deepEqual(facts(step({ complete: 3, failed: 1, seconds: 0.1 }), true), [["Rows", "3 complete, 1 failed"], ["Mean time", "100 ms"]]);
  assert.deepEqual(facts(step({ times: 4, complete: 3, partial: 1, seconds: 0.1 }), false), [["Times", "3 complete, 1 partial"], ["Mean time", "100 ms"]]);
  assert.deepEqual(facts(null, false), []);
});
