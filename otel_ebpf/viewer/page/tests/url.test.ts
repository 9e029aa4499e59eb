import assert from "node:assert/strict";
import { test } from "node:test";
import "./browser";
import { at, changed, split } from "../src/url";
import { resolve } from "../src/window";

test("names in paths come back as they were, whatever is in them", () => {
  for (const name of ["shop", "a/b", "<script>", "50 %", "ü?#&"]) assert.deepEqual(split(at("service", name)), ["service", name]);
});

test("a path that is not well percent-encoded is taken as it is", () => {
  assert.deepEqual(split("/service/50%"), ["service", "50%"]);
});

test("a changed query keeps the rest: null, empty and false take a key out, a list repeats it", () => {
  const query = changed(new URLSearchParams("start=-1h&q=x&fold=a"), { q: null, fold: ["b", "c"], live: true, off: false });
  assert.equal(query.toString(), "start=-1h&fold=b&fold=c&live=1");
});

test("a moment is now, relative to it, or Unix ms; anything else is none", () => {
  assert.deepEqual(["now", "-15m", "-1.5h", "1700000000000", "", "yesterday", "-15x"].map((text) => resolve(text, 10_000_000)),
    [10_000_000, 10_000_000 - 900_000, 10_000_000 - 5_400_000, 1_700_000_000_000, null, null, null]);
});
