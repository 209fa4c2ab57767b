import assert from "node:assert/strict";
import { test } from "node:test";
import { fit, held, LEAST, makeViewport, MOST, zoom } from "../src/viewport.js";
import { page } from "./helpers.js";

const drawing = { width: 1000, height: 400 };

test("all of a drawing is shown, in the middle and never enlarged", () => {
  assert.deepEqual(fit(drawing, { width: 500, height: 400 }), { x: 0, y: 0, scale: 0.5 });
  assert.deepEqual(fit(drawing, { width: 1200, height: 400 }), { x: 100, y: 0, scale: 1 });
  assert.equal(fit({ width: 1e6, height: 10 }, { width: 500, height: 400 }).scale, LEAST);
});
test("zooming keeps the point under the pointer where it is", () => {
  const view = { x: 30, y: -20, scale: 0.8 };
  const at = { x: 200, y: 100 };
  const there = (v) => [(at.x - v.x) / v.scale, (at.y - v.y) / v.scale];
  const next = zoom(view, 1.5, at);
  there(next).forEach((value, i) => assert.ok(Math.abs(value - there(view)[i]) < 1e-9));
});
test("zoom has an end in both directions", () => {
  assert.equal(zoom({ x: 0, y: 0, scale: 1 }, 1e6, { x: 0, y: 0 }).scale, MOST);
  assert.equal(zoom({ x: 0, y: 0, scale: 1 }, 1e-6, { x: 0, y: 0 }).scale, LEAST);
});
test("some of the drawing stays in the window", () => {
  const room = { width: 500, height: 300 };
  assert.deepEqual(held({ x: -5000, y: 5000, scale: 1 }, drawing, room), { x: -940, y: 240, scale: 1 });
  assert.deepEqual(held({ x: 5000, y: -5000, scale: 1 }, drawing, room), { x: 440, y: -340, scale: 1 });
});
test("a box outside the window is brought into it, one inside moves nothing", () => {
  page();
  const viewport = makeViewport(drawing, "steps");
  const before = viewport.view();
  viewport.reveal({ x: 10, y: 10, width: 100, height: 40 });
  assert.deepEqual(viewport.view(), before);
  viewport.reveal({ x: 1500, y: 10, width: 100, height: 40 });
  const { x, scale } = viewport.view();
  assert.ok(x + 1600 * scale <= 1000 && x + 1500 * scale >= 0);
  viewport.reveal({ x: -300, y: 10, width: 100, height: 40 });
  assert.ok(viewport.view().x - 300 >= 0);
});
