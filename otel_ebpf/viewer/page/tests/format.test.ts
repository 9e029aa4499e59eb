import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, count, duration, exact, percent, rate, span, spanWords } from "../src/format";

const plain = (text: string): string => text.replaceAll("\u202f", " ");

test("a duration has the unit in which it has one to three digits before the point", () => {
  const cases: [number | null, string][] = [
    [null, "–"], [0, "0 ms"], [0.0004, "400 ns"], [0.012, "12 µs"], [0.9996, "1 ms"], [3.4, "3.4 ms"], [999.6, "1 s"],
    [1234, "1.23 s"], [59_999, "1 m"], [125_000, "2 m 5 s"], [Number.POSITIVE_INFINITY, "–"],
  ];
  for (const [ms, text] of cases) assert.equal(plain(duration(ms)), text);
});

test("what is not nothing is never shown as nothing, and what is not all never as all", () => {
  assert.equal(plain(percent(0)), "0 %");
  assert.equal(plain(percent(0.000001)), "< 0.01 %");
  assert.equal(plain(percent(0.99999)), "> 99.9 %");
  assert.equal(plain(percent(1)), "100 %");
  assert.equal(plain(percent(0.0042)), "0.42 %");
});

test("a rate below one in ten seconds is given by the minute or the hour", () => {
  assert.deepEqual([12.13, 0.5, 0.02, 0.001, 0, 1234].map(rate), ["12.1/s", "0.5/s", "1.2/min", "3.6/h", "0/s", "1.23k/s"]);
});

test("counts and bytes are short, exact numbers are whole", () => {
  assert.deepEqual([999, 1000, 999_600, 5.6e6].map(count), ["999", "1k", "1M", "5.6M"]);
  assert.equal(plain(bytes(1.4e6)), "1.4 MB");
  assert.equal(plain(exact(1234567)), "1 234 567");
});

test("a length of time has its two largest units; in words its largest", () => {
  assert.equal(plain(span(100_000_000)), "1 d 3 h");
  assert.equal(plain(span(3_600_000)), "1 h");
  assert.deepEqual([900_000, 3_600_000, 86_400_000, 30_000].map(spanWords), ["15 minutes", "1 hour", "24 hours", "30 seconds"]);
});
