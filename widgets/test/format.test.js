import assert from "node:assert/strict";
import { test } from "node:test";
import { cost, count, left, rate, seconds } from "../src/format.js";

const table = (f, pairs) => { for (const [value, expected] of pairs) assert.equal(f(value), expected); };

test("a duration grows its unit with its length", () => {
  table(seconds, [[null, ""], [0.0001, "<1 ms"], [0.34, "340 ms"], [0.9994, "999 ms"], [0.9999, "1.0 s"], [4.25, "4.3 s"], [9.96, "10 s"],
    [59.6, "1 min 00 s"], [184, "3 min 04 s"], [7500, "2 h 05 min"]]);
});
test("the time left is in whole seconds and never nothing", () => table(left, [[0.2, "1 s"], [3.1, "4 s"], [61, "1 min 01 s"]]));
test("large counts are shortened", () => {
  table(count, [[0, "0"], [1204, "1,204"], [9999, "9,999"], [12345, "12.3k"], [999949, "999.9k"], [4500000, "4.5M"]]);
});
test("a cost keeps the digits that matter", () => {
  table(cost, [[0, "$0"], [0.00001, "<$0.0001"], [0.0031, "$0.0031"], [0.0123, "$0.012"], [12.3, "$12.30"]]);
});
test("a slow rate is per minute", () => table(rate, [[1240, "1,240/s"], [3.21, "3.2/s"], [0.2, "12/min"]]));
