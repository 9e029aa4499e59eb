import assert from "node:assert/strict";
import { test } from "node:test";
import "./browser";
import type { RedSeries } from "../src/api";
import { cellOf, mixed, perStep, rowsOf, shadeOf } from "../src/plot/steps";
import { type Column, sorted } from "../src/ui/table";

const series: RedSeries = {
  start: 0, end: 20_000, step: 10_000, times: [0, 10_000], calls: [20, 0], failed: [5, 0], p50: [1, null], p99: [2, null],
  heat: { bounds: [1, 2, 4], counts: [[0, 15, 5], [0, 0, 0]] }, gaps: [],
};

test("rates are by the second, and the share of failed calls is none where nothing was called", () => {
  assert.deepEqual(perStep(series), { rate: [2, 0], failedRate: [0.5, 0], share: [0.25, null] });
});

test("a cell of the heat map is a stretch of time and of durations", () => {
  assert.deepEqual(cellOf(series, 0, 1), { start: 0, end: 10_000, from: 1, to: 2, count: 15 });
  assert.deepEqual(cellOf(series, 1, 0), { start: 10_000, end: 20_000, from: 0, to: 1, count: 0 });
  assert.equal(cellOf(series, 0, 3).to, Infinity);
  assert.deepEqual(rowsOf(series.heat.counts), [0, 3]);
  assert.equal(rowsOf([[0, 0]]), null);
});

test("one request among a million has a shade, and nothing has none", () => {
  assert.equal(shadeOf(0, 1e6), 0);
  assert.ok(shadeOf(1, 1e6) >= 1);
  assert.ok(shadeOf(1e6, 1e6) > shadeOf(1000, 1e6));
  assert.equal(mixed("#000000", "#ff8000", 0.5), "#804000");
});

test("a table sorts numbers as numbers, names with numbers in them too, and what is unknown last both ways", () => {
  const columns: Column<{ name: string; p99: number | null }>[] = [
    { id: "name", title: "", value: (row) => row.name, cell: () => null }, { id: "p99", title: "", value: (row) => row.p99, cell: () => null },
  ];
  const rows = [{ name: "web-10", p99: 9 }, { name: "web-9", p99: null }, { name: "db", p99: 100 }];
  const names = (sort: string): string[] => sorted(rows, columns, sort).map((row) => row.name);
  assert.deepEqual(names("name"), ["db", "web-9", "web-10"]);
  assert.deepEqual(names("p99"), ["web-10", "db", "web-9"]);
  assert.deepEqual(names("-p99"), ["db", "web-10", "web-9"]);
  assert.deepEqual(names("nothing"), ["web-10", "web-9", "db"]);
});
