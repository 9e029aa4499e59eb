import assert from "node:assert/strict";
import { test } from "node:test";
import "./browser";
import type { LiveSpan } from "../src/api";
import { toggled } from "../src/live/filter";
import { added, countOf, hold, KEPT, missed, NONE, pathFirst, release, spansOf } from "../src/live/lines";
import { Parser } from "../src/live/stream";

const spans = (...times: number[]): LiveSpan[] => times.map((time) => ({
  time, service: "shop", kind: "server", peer: "", system: "http", what: "GET /", status: "200", failed: false, duration: 1, link: "", trace_id: "t", span_id: "s" }));

test("events arrive whole, however the bytes were cut", () => {
  const text = ': these are spans\n\nevent: spans\ndata: [1]\n\nevent: missed\r\ndata: {"count":3}\r\n\r\ndata: a\ndata: b\n\n';
  const wanted = [{ name: "spans", data: "[1]" }, { name: "missed", data: '{"count":3}' }, { name: "message", data: "a\nb" }];
  assert.deepEqual(new Parser().push(text), wanted);
  const parser = new Parser();
  assert.deepEqual([...text].flatMap((letter) => parser.push(letter)), wanted);
});

test("a stream without ends of lines, or with an endless event, does not fill the memory", () => {
  const parser = new Parser(1000);
  for (let index = 0; index < 100; index += 1) assert.deepEqual(parser.push("x".repeat(100)), []);
  for (let index = 0; index < 100; index += 1) assert.deepEqual(parser.push(`data: ${"x".repeat(100)}\n`), []);
  assert.deepEqual(parser.push("\n"), [], "an event that was cut is none");
  assert.deepEqual(parser.push("data: y\n\n"), [{ name: "message", data: "y" }]);
});

test("the newest line is on top, and a thousand are kept", () => {
  const lines = added(added(NONE, spans(1, 2)), spans(3));
  assert.deepEqual(lines.shown.map((line) => line.time), [3, 2, 1]);
  assert.equal(new Set(lines.shown.map((line) => line.number)).size, 3);
  assert.equal(added(lines, spans(...Array.from({ length: 1500 }, (_, index) => index))).shown.length, KEPT);
});

test("while held nothing moves, what comes is counted and shown afterwards", () => {
  let lines = hold(added(NONE, spans(1)));
  lines = added(lines, spans(2, 3));
  assert.deepEqual([lines.shown.length, lines.waited], [1, 2]);
  lines = release(lines);
  assert.deepEqual([lines.shown.map((line) => line.time), lines.waited], [[3, 2, 1], 0]);
  lines = added(hold(lines), spans(...Array.from({ length: 5000 }, (_, index) => index)));
  assert.deepEqual([lines.waited, lines.waiting.length], [5000, KEPT]);
});

test("what was not sent is counted; nonsense is nothing", () => {
  assert.equal(missed(missed(NONE, 1200), countOf('{"count":4}')).missed, 1204);
  for (const data of ["", "{", "null", '{"count":"7"}', '{"count":-1}', "[]"]) assert.equal(countOf(data), 0, data);
  for (const data of ["", "{", "null", "{}", "[null, 1, {}]"]) assert.deepEqual(spansOf(data), [], data);
});

test("an example is put into the filter, and taken out again", () => {
  assert.equal(toggled("service=shop", "error=true"), "service=shop error=true");
  assert.equal(toggled("error=true  service=shop", "error=true"), "service=shop");
});

test("within a batch lines stand by their time, whatever order they came in", () => {
  assert.deepEqual(added(NONE, spans(3, 1, 2)).shown.map((line) => line.time), [3, 2, 1]);
});

test("a URL is shown from its path on: its host is the peer", () => {
  assert.equal(pathFirst("GET https://localhost:8443/p/1?q=2"), "GET /p/1?q=2");
  assert.equal(pathFirst("SELECT 'GET http://a/b'"), "SELECT 'GET http://a/b'");
});
