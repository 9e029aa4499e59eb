import assert from "node:assert/strict";
import { test } from "node:test";
import "./browser";
import type { MapEdge, MapNode, ServiceMap } from "../src/api";
import { curveOf, distance, portsOf } from "../src/map/geometry";
import { edgeId, graphOf, neighbours } from "../src/map/graph";
import { ranks } from "../src/map/layered";
import { type Box, extend, layout, type Point } from "../src/map/layout";

const red = (calls: number, failed = 0, p99 = 10) => ({ calls, failed, rate: calls / 60, p50: p99 / 5, p99 });
const node = (id: string, group: string | null = null, calls = 60): MapNode => ({ id, name: id, kind: "service", system: "http", group, guessed: false, ...red(calls) });
const edge = (client: string, server: string, calls = 60, p99 = 10): MapEdge => ({ client, server, connection_type: "", system: "http", ...red(calls, 0, p99) });
const map = (nodes: MapNode[], edges: MapEdge[]): ServiceMap => ({ start: 0, end: 60_000, nodes, edges, gaps: [], groupings: [] });

const boxes = (...ids: string[]): Box[] => ids.map((id) => ({ id, w: 140, h: 46 }));
const overlap = (all: readonly Box[], positions: ReadonlyMap<string, Point>): string[] => all.flatMap((one, index) => all.slice(index + 1).flatMap((other) => {
  const [a, b] = [positions.get(one.id), positions.get(other.id)];
  return a && b && Math.abs(a.x - b.x) < (one.w + other.w) / 2 && Math.abs(a.y - b.y) < (one.h + other.h) / 2 ? [`${one.id} ${other.id}`] : [];
}));

test("a folded group is one node, its edges add up, and what happens within it is not drawn", () => {
  const graph = graphOf(map([node("a", "g"), node("b", "g"), node("c")], [edge("a", "b"), edge("a", "c", 60, 10), edge("b", "c", 120, 90)]), new Set(["g"]));
  assert.deepEqual(graph.nodes.map(({ name, kind, members }) => [name, kind, members]), [["g", "group", 2], ["c", "service", 1]]);
  const [only, ...others] = graph.edges;
  assert.equal(others.length, 0);
  assert.deepEqual([only?.server, only?.calls, only?.rate, only?.p99, only?.members], ["c", 180, 3, 90, 2]);
});

test("an edge to a node that the answer does not have is left out", () => {
  assert.equal(graphOf(map([node("a")], [edge("a", "gone"), edge("gone", "a")]), new Set()).edges.length, 0);
});

test("a node that serves nothing has the numbers of what it sends", () => {
  const graph = graphOf(map([node("outside", null, 0), node("a")], [edge("outside", "a", 90)]), new Set());
  assert.deepEqual([graph.byId.get("outside")?.sends, graph.byId.get("outside")?.calls, graph.byId.get("a")?.sends], [true, 90, false]);
});

test("names that contain separators do not mix up edges", () => {
  assert.notEqual(edgeId('a","b', "c"), edgeId("a", 'b","c'));
  const graph = graphOf(map([node("a\u0000b"), node("c")], [edge("a\u0000b", "c")]), new Set());
  assert.deepEqual([...neighbours(graph, "c")].sort(), ["a\u0000b", "c"]);
});

test("a small graph runs from left to right and nothing overlaps", () => {
  const all = boxes("a", "b", "c", "d");
  const { positions } = layout(all, [{ from: "a", to: "b" }, { from: "b", to: "c" }, { from: "b", to: "d" }]);
  const x = (id: string): number => positions.get(id)?.x ?? Number.NaN;
  assert.ok(x("a") < x("b") && x("b") < x("c") && x("b") < x("d"));
  assert.deepEqual(overlap(all, positions), []);
});

test("columns follow the longest path, and a cycle does not keep them from ending", () => {
  const rank = ranks(boxes("a", "b", "c", "d"), [{ from: "a", to: "b" }, { from: "b", to: "c" }, { from: "c", to: "b" }, { from: "a", to: "c" }, { from: "d", to: "d" }]);
  assert.deepEqual(["a", "b", "c", "d"].map((id) => rank.get(id)), [0, 1, 2, 0]);
});

test("a large graph, flat or in groups, has a place for every node and nothing overlaps", () => {
  const ids = Array.from({ length: 200 }, (_, index) => `n${index}`);
  const links = Array.from({ length: 1000 }, (_, index) => ({ from: `n${(index * 7) % 200}`, to: `n${(index * 13 + Math.floor(index / 200)) % 200}` }));
  const grouped = ids.map((id, index) => ({ id, w: 176, h: 46, group: index % 9 ? `g${index % 9}` : null }));
  for (const all of [boxes(...ids), grouped]) {
    const { positions } = layout(all, links);
    assert.equal(positions.size, 200);
    assert.deepEqual(overlap(all, positions), []);
  }
});

test("what stands somewhere stays there, and a new node comes beside its neighbours", () => {
  const known = new Map([["a", { x: 100, y: 100 }], ["b", { x: 400, y: 100 }], ["c", { x: 400, y: 300 }]]);
  const all = boxes("a", "b", "c", "new");
  const positions = extend(all, [{ from: "a", to: "new" }], known);
  assert.deepEqual(["a", "b", "c"].map((id) => positions?.get(id)), [...known.values()]);
  assert.ok((positions?.get("new")?.x ?? 0) > 200);
  assert.deepEqual(overlap(all, positions ?? new Map()), []);
});

test("if most nodes are new, all are laid out anew", () => {
  assert.equal(extend(boxes("a", "b", "c", "d", "e", "f"), [], new Map([["a", { x: 0, y: 0 }]])), null);
});

test("a pointer on a curve finds it, one beside it does not", () => {
  const placed = new Map([["a", { id: "a", w: 100, h: 40, x: 0, y: 0 }], ["b", { id: "b", w: 100, h: 40, x: 400, y: 200 }]]);
  const graph = graphOf(map([node("a"), node("b")], [edge("a", "b")]), new Set());
  const ports = portsOf(graph.edges, placed).get(edgeId("a", "b"));
  assert.deepEqual(ports, { start: { x: 50, y: 0 }, end: { x: 350, y: 200 } });
  const curve = curveOf(ports, [], false);
  assert.ok(distance(curve, curve.middle, 6) < 1);
  assert.equal(distance(curve, { x: 200, y: 0 }, 6), Infinity);
});
