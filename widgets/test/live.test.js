import assert from "node:assert/strict";
import { test } from "node:test";
import { gathered, listen } from "../src/live.js";
import { modelOf } from "./helpers.js";

test("what changes together is drawn once, and what changes later again", async () => {
  let drawn = 0;
  const changed = gathered(() => { drawn += 1; });
  changed();
  changed();
  assert.equal(drawn, 0);
  await Promise.resolve();
  assert.equal(drawn, 1);
  changed();
  await Promise.resolve();
  assert.equal(drawn, 2);
});

test("a model is heard until that is ended", async () => {
  const heard = [];
  const model = modelOf({});
  const end = listen(model, { "change:a": () => heard.push("a"), "change:b": () => heard.push("b") });
  await model.push({ a: 1, b: 1 });
  end();
  await model.push({ a: 2, b: 2 });
  assert.deepEqual(heard, ["a", "b"]);
  assert.equal(model.listening(), 0);
});
