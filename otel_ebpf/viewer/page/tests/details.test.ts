import assert from "node:assert/strict";
import { test } from "node:test";
import { linkInfo } from "../src/links";
import { barsOf, barOf } from "../src/waterfall/bars";
import { sqlLines } from "../src/waterfall/sql";
import { firstByte } from "../src/waterfall/timing";
import { filtered } from "../src/waterfall/values";

test("a query is shown a clause a line, what is quoted stays whole", () => {
  assert.equal(sqlLines("SELECT a FROM b LEFT JOIN c ON c.x = b.x WHERE d = 'x FROM y AND z' AND e LIMIT 1"),
    "SELECT a\nFROM b\nLEFT JOIN c ON c.x = b.x\nWHERE d = 'x FROM y AND z'\n  AND e\nLIMIT 1");
  assert.equal(sqlLines("SELECT 1\nFROM x WHERE y"), "SELECT 1\nFROM x WHERE y");
  assert.equal(sqlLines("GET cart:7"), "GET cart:7");
});

test("a hostile query costs no time", () => {
  sqlLines(`SELECT ${"' ".repeat(9_999)}`);
  sqlLines(" ".repeat(20_000));
});

test("how the parent was found, and what is not known of it", () => {
  assert.equal(linkInfo({ attributes: {} }), null);
  assert.deepEqual(linkInfo({ attributes: { "otel_ebpf.link.method": "thread-response", "otel_ebpf.link.confidence": 0.93, "otel_ebpf.link.candidates": 2 } }), {
    method: "thread-response", short: "resp", means: "The blocking thread that sent this request also wrote the response of the parent.", confidence: "93\u202f%", candidates: "2" });
  assert.match(linkInfo({ attributes: { "otel_ebpf.link.method": "toString" } })?.means ?? "", /does not know/);
});

test("the first byte's time is read from a number or a text, anything else is none", () => {
  assert.equal(firstByte({ duration: 1, attributes: { "otel_ebpf.first_byte_ns": 1_500_000 } }), 1.5);
  assert.equal(firstByte({ duration: 1, attributes: { "otel_ebpf.first_byte_ns": "1500000" } }), 1.5);
  assert.equal(firstByte({ duration: 1, attributes: { "otel_ebpf.first_byte_ns": -1 } }), null);
  assert.equal(firstByte({ duration: 1, attributes: {} }), null);
});

test("attributes are filtered by all words, in key or value", () => {
  const attributes = { "http.route": "/users", "db.rows": 3, nested: { a: ["x"] } };
  assert.deepEqual(filtered(attributes, "ROUTE users"), [["http.route", "/users"]]);
  assert.deepEqual(filtered(attributes, "x"), [["nested", '{"a":["x"]}']]);
  assert.equal(filtered(attributes, "").length, 3);
});

test("bars: what lies outside of the view is none, thousands of stretches become few", () => {
  const view = { from: 100, to: 200 };
  assert.equal(barOf([0, 50], view), null);
  assert.deepEqual(barOf([50, 150], view), { left: 0, width: 50 });
  const many = Array.from({ length: 50_000 }, (_, index): [number, number] => [100 + index / 500, 100 + index / 500 + 0.001]);
  assert.ok(barsOf(many, view).length <= 800);
});
