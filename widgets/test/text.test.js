import assert from "node:assert/strict";
import { test } from "node:test";
import { budgetText, callsText, costText, errorText, ICONS, notesText, outcomes, rowsText, shares, stepLabel, stepLine, tokensText, WORDS } from "../src/text.js";
import { notes, rows, step, summary } from "./helpers.js";

const node = { name: "look", kind: "native", pool: "general" };

test("every status has a word and an icon", () => assert.deepEqual(Object.keys(WORDS), Object.keys(ICONS)));
test("a waiting step says what it is", () => assert.equal(stepLine(node, step(), false), "native · general pool"));
test("a done step says its time and tokens", () => {
  assert.equal(stepLine(node, step({ status: "complete", seconds: 0.42, prompt_tokens: 300, completion_tokens: 12 }), false), "420 ms · 312 tok");
});
test("in a map the time is that of a row", () => {
  assert.equal(stepLine(node, step({ status: "running", seconds: 0.042, complete: 5 }), true), "42 ms/row");
});
test("a step that did not run says so", () => assert.equal(stepLine(node, step({ status: "skipped" }), false), "skipped"));
test("a step is told in words, its error too", () => {
  const failed = step({ status: "failed", seconds: 1, failed: 1, errors: [{ text: "KeyError: 1", count: 1 }] });
  assert.equal(stepLabel(node, failed, false), "Step look, native · general pool, failed, 1.0 s, KeyError: 1");
});
test("an inner step that ran many times says how often, and the mean", () => {
  const item = step({ status: "complete", seconds: 0.04, times: 12, complete: 11, partial: 1 });
  assert.equal(stepLine(node, item, false), "12 × 40 ms");
  assert.equal(stepLabel(node, item, false), "Step look, native · general pool, complete, 11 complete, 1 partial, 40 ms each");
});
test("outcomes leave out what did not happen", () => assert.equal(outcomes(step({ complete: 1296, failed: 3 })), "1,296 complete, 3 failed"));
test("the rows' line has done, failed, total, rate and time left", () => {
  assert.equal(rowsText(rows({ done: 50, complete: 47, failed: 3, rate: 41, eta: 1.2 })), "50 / 100 rows · 3 failed · 41/s · 2 s left");
  assert.equal(rowsText(rows({ total: null, done: 50 })), "50 rows");
});
test("shares are of the total, and nothing without one", () => {
  assert.deepEqual(shares(rows({ total: 200, done: 60, complete: 50, partial: 6, failed: 3, cancelled: 1 })), [25, 3, 2]);
  assert.deepEqual(shares(rows({ total: null, done: 60, complete: 60 })), [0, 0, 0]);
  assert.deepEqual(shares(rows({ total: 0 })), [0, 0, 0]);
});
test("a cost that is not wholly known says so", () => {
  assert.equal(costText(summary({ calls: 2, unpriced: 2 })), "cost unknown");
  assert.equal(costText(summary({ calls: 2, unpriced: 1, cost: 0.0031 })), "≥ $0.0031");
  assert.equal(costText(summary({ calls: 2, cost: 0.0031 })), "$0.0031");
  assert.equal(costText(summary({ cost: 0 })), "");
});
test("tokens and calls are counted in words", () => {
  assert.equal(tokensText(summary({ calls: 1, prompt_tokens: 1 })), "1 token");
  assert.equal(tokensText(summary()), "");
  assert.equal(callsText(step({ calls: 12, cached: 3 })), "12 calls, 3 cached");
});
test("an error names its step", () => {
  assert.equal(errorText(summary({ error: "bad", error_step: "look" })), "look: bad");
  assert.equal(errorText(summary({ error: "bad" })), "bad");
});
test("what went another way is said, and nothing where all went as planned", () => {
  assert.equal(notesText(notes()), "");
  assert.equal(notesText(notes({ retried: 1 })), "1 retry");
  const all = notes({ retried: 2, again: 1, hedged: 3, instead: [{ name: "b/two", count: 4 }], open: ["a/one"], level: "no_second_opinions" });
  assert.equal(
    notesText(all),
    "2 retries · asked again in JSON 1 × · b/two answered instead 4 × · 3 hedges won · circuit of a/one is open · under load: no second opinions",
  );
});
test("of a budget the share that is spent is said, and never more than it is", () => {
  assert.equal(budgetText([]), "");
  assert.equal(budgetText([{ of: "this run", share: 0.999, limit: "$2.00" }, { of: "this Lab", share: 1.2, limit: "9 calls" }]), "99% of $2.00 (this run) · 120% of 9 calls (this Lab)");
  assert.equal(budgetText([{ of: "this run", share: 0.29, limit: "$1.00" }]), "29% of $1.00 (this run)");
});
