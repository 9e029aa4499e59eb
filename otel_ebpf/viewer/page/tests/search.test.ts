import assert from "node:assert/strict";
import { test } from "node:test";
import "./browser";
import type { TraceSummary } from "../src/api";
import { nearest, scaleOf } from "../src/traces/scale";
import { fieldText, filtersOf, parseDuration, plainMs, questionOf, searchOf } from "../src/traces/search";
import { changed } from "../src/url";
import { stretch } from "../src/virtual";
import { timeTicks } from "../src/waterfall/ticks";

const read = (query: string) => searchOf(new URLSearchParams(query));

test("a search is in the address, and what the API would refuse is not asked", () => {
  const search = read("service=shop&status=error&attr=a%3D1&attr=b%3D%3D&limit=99999&order=random&start=-1h");
  const question = changed(new URLSearchParams(), questionOf(search)).toString();
  assert.equal(question, "service=shop&status=error&attr=a%3D1&attr=b%3D%3D&limit=1000");
  assert.equal(changed(new URLSearchParams(), questionOf(read("status=maybe"))).toString(), "limit=200");
});

test("each filter can be taken away by itself", () => {
  const filters = filtersOf(read("service=shop&min_ms=5&attr=a%3D1&attr=b%3D2"));
  assert.deepEqual(filters.map((one) => one.label), ["service shop", "at least 5 ms", "a = 1", "b = 2"]);
  assert.deepEqual(filters.at(-1)?.without, { attr: ["a=1"] });
});

test("durations are read with and without a unit", () => {
  assert.equal(parseDuration("250"), 250);
  assert.equal(parseDuration(" 1.5 s "), 1500);
  assert.equal(parseDuration("1,5s"), 1500);
  assert.equal(parseDuration("40µs"), 0.04);
  assert.equal(parseDuration("40 us"), 0.04);
  for (const wrong of ["", "fast", "-5", "1e3", "5 parsecs", "1 2", "0x10"]) assert.equal(parseDuration(wrong), null, wrong);
});

test("durations are written as the API reads them, and shown with the unit that suits", () => {
  assert.equal(plainMs(0.0000001), "0");
  assert.equal(plainMs(123.45678912), "123.456789");
  assert.equal(fieldText("1500"), "1.5 s");
  assert.equal(fieldText("0.04"), "40 µs");
  assert.equal(fieldText("abc"), "abc");
});

const at = (start: number, duration: number): TraceSummary => ({
  trace_id: `${start}`, start, duration, service: "s", name: "n", failed: false, spans: 1, errors: 0, services: [], entry: null,
  matched: { span_id: "1", service: "s", name: "n", start, duration } });

test("the scatter's axes lead back to what they show", () => {
  const area = { left: 50, top: 10, width: 400, height: 100 };
  const traces = [at(1000, 1), at(2000, 100), at(3000, 0)];
  const scale = scaleOf(traces, { start: 0, end: 4000 }, area);
  assert.ok(Math.abs(scale.time(scale.x(2000)) - 2000) < 1e-6);
  assert.ok(Math.abs(scale.ms(scale.y(100)) - 100) < 1e-6);
  for (const trace of traces) assert.ok(scale.y(trace.duration) >= area.top && scale.y(trace.duration) <= area.top + area.height);
  assert.equal(nearest(traces, scale, scale.x(2000) + 5, scale.y(100))?.trace_id, "2000");
  assert.equal(nearest(traces, scale, 60, 15), null);
});

test("ticks of time are few and round, also over a week", () => {
  assert.equal(timeTicks(0, 900_000, 8).length, 8);
  assert.ok(timeTicks(0, 7 * 864e5, 8).length <= 8);
});

test("of a long list only what is in sight is made", () => {
  assert.deepEqual(stretch(2600, 520, 26, 1000, 10), { first: 90, last: 130 });
  assert.deepEqual(stretch(0, 520, 26, 5, 10), { first: 0, last: 5 });
  assert.deepEqual(stretch(99_999, 520, 26, 5, 10), { first: 0, last: 5 });
});
