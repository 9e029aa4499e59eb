import assert from "node:assert/strict";
import { test } from "node:test";
import type { Span } from "../src/api";
import { rest, union } from "../src/waterfall/intervals";
import { paletteOf } from "../src/waterfall/palette";
import { logTicks, ticks } from "../src/waterfall/ticks";
import { treeOf, unfolded, type Node } from "../src/waterfall/tree";

function span(id: string, parent: string | null, start: number, duration: number, more: Partial<Span> = {}): Span {
  return { trace_id: "t", span_id: id, parent_id: parent, service: "shop", name: id, kind: "internal", start, duration, status: "unset", message: "", scope: "", attributes: {}, resource: {}, events: [], links: [], ...more };
}
const ids = (nodes: readonly Node[]): string => nodes.map((node) => node.span.span_id).join(" ");
const find = (spans: Span[], id: string): Node => {
  const found = treeOf({ spans }).nodes.find((node) => node.span.span_id === id);
  assert.ok(found);
  return found;
};

test("spans stand below their parents, siblings by their start, whatever their order was", () => {
  const tree = treeOf({ spans: [span("c", "a", 6, 2), span("d", "b", 2, 1), span("a", null, 0, 10), span("b", "a", 1, 3)] });
  assert.equal(ids(tree.nodes), "a b d c");
  assert.deepEqual(tree.nodes.map((node) => node.depth), [0, 1, 2, 1]);
  assert.equal(tree.main?.below, 3);
  assert.deepEqual([tree.start, tree.end], [0, 10]);
});

test("self time is what no child covers; children that overlap or outlast their parent count once and as far as it", () => {
  const node = find([span("a", null, 0, 10), span("b", "a", 1, 4), span("c", "a", 3, 3), span("d", "a", 9, 5)], "a");
  assert.deepEqual(node.own, [[0, 1], [6, 9]]);
  assert.equal(node.self, 4);
});

test("the critical path goes back from the root's end through the children that finished last", () => {
  const tree = treeOf({ spans: [
    span("root", null, 0, 100), span("quick", "root", 10, 20), span("slow", "root", 10, 50), span("inner", "slow", 20, 30),
    span("late", "root", 70, 20), span("detached", "root", 80, 60),
  ] });
  const path = Object.fromEntries(tree.nodes.filter((node) => node.critical).map((node) => [node.span.span_id, node.critical]));
  assert.deepEqual(path, { root: [[0, 10], [60, 70], [90, 100]], slow: [[10, 20], [50, 60]], inner: [[20, 50]], late: [[70, 90]] });
});

test("the network's part of a hop is the client's duration less the server's", () => {
  const client = find([span("c", null, 0, 10, { kind: "client" }), span("s", "c", 2, 7, { kind: "server", service: "catalog" })], "c");
  assert.equal(client.network, 3);
  const twice = find([span("c", null, 0, 10, { kind: "client" }), span("s", "c", 1, 2, { kind: "server" }), span("t", "c", 4, 2, { kind: "server" })], "c");
  assert.equal(twice.network, null, "two servers: which was it?");
});

test("a server span outside its client's is told as a difference of clocks, and the network's part still known", () => {
  const spans = [span("c", null, 0, 10, { kind: "client" }), span("s", "c", -4, 8, { kind: "server" })];
  assert.deepEqual([find(spans, "s").outside, find(spans, "s").sameClock], [4, false]);
  assert.equal(find(spans, "c").network, 2);
});

test("a hop on one host, by resource or loopback address, is told from one between hosts", () => {
  const hop = (attributes: Record<string, unknown>, resource = {}): boolean => find(
    [span("c", null, 0, 10, { kind: "client", attributes, resource }), span("s", "c", 2, 7, { kind: "server", resource })], "c").oneHost;
  assert.deepEqual([hop({}), hop({ "server.address": "10.0.0.1" }), hop({ "server.address": "localhost" }), hop({ "network.peer.address": "127.0.0.1" }), hop({}, { "host.name": "h" })],
    [false, false, true, true, true]);
});

test("a trace that begins with a client is named after the first server below it", () => {
  const tree = treeOf({ spans: [span("root", null, 0, 10, { kind: "client" }), span("late", "root", 5, 1, { kind: "server" }), span("route", "root", 1, 3, { kind: "server" })] });
  assert.equal(tree.entry?.span.span_id, "route");
  assert.equal(treeOf({ spans: [span("root", null, 0, 10, { kind: "server" }), span("b", "root", 1, 3, { kind: "server" })] }).entry, null);
});

test("on one host it is not for the clocks that a server span is outside its client's", () => {
  const resource = { "host.id": "h" };
  const tree = treeOf({ spans: [span("c", null, 0, 10, { kind: "client", resource }), span("s", "c", 2, 20, { kind: "server", resource })] });
  assert.deepEqual([tree.skewed.length, tree.outlasting.length, tree.nodes[1]?.outside, tree.nodes[0]?.network], [0, 1, 12, null]);
});

test("a span whose parent is not here is a further root, and not the one that names the trace", () => {
  const tree = treeOf({ spans: [span("x", "gone", 0, 100), span("a", null, 5, 10)] });
  assert.equal(ids(tree.roots), "x a");
  assert.equal(tree.roots[0]?.orphan, "missing");
  assert.equal(tree.main?.span.span_id, "a");
});

test("spans that are their own ancestors are shown once each", () => {
  const tree = treeOf({ spans: [span("a", "b", 0, 5), span("b", "a", 1, 3), span("c", "b", 2, 1), span("d", "d", 3, 1)] });
  assert.equal(tree.nodes.length, 4);
  assert.deepEqual(tree.roots.map((node) => node.orphan), ["loop", "loop"]);
});

test("two spans of one id are both shown, children go to the first", () => {
  const tree = treeOf({ spans: [span("a", null, 0, 5), span("a", null, 1, 3), span("c", "a", 2, 1)] });
  assert.equal(tree.nodes.length, 3);
  assert.equal(tree.nodes.find((node) => node.span.span_id === "c")?.parent?.key, 0);
});

test("a span that came twice, exactly alike, is shown once and said", () => {
  const tree = treeOf({ spans: [span("a", null, 0, 5), span("b", "a", 1, 3), span("b", "a", 1, 3), span("b", "a", 2, 3)] });
  assert.equal(tree.nodes.length, 3);
  assert.equal(tree.repeated, 1);
});

test("20,000 levels do not overflow the stack", () => {
  const tree = treeOf({ spans: Array.from({ length: 20_000 }, (_, index) => span(`s${index}`, index ? `s${index - 1}` : null, index, 40_000 - 2 * index)) });
  assert.equal(tree.nodes.at(-1)?.depth, 19_999);
  assert.equal(tree.main?.below, 19_999);
});

test("folding hides what is below", () => {
  const tree = treeOf({ spans: [span("a", null, 0, 10), span("b", "a", 1, 3), span("d", "b", 2, 1), span("c", "a", 6, 2)] });
  assert.equal(ids(unfolded(tree, new Set(["b"]))), "a b c");
  assert.equal(ids(unfolded(tree, new Set(["a"]))), "a");
});

test("time by service: what a client waits for the network is not its own", () => {
  const tree = treeOf({ spans: [
    span("a", null, 0, 20, { kind: "server" }), span("c", "a", 2, 10, { kind: "client" }), span("s", "c", 3, 8, { kind: "server", service: "catalog", status: "error" }),
  ] });
  assert.deepEqual(tree.services, [{ name: "shop", spans: 2, errors: 0, self: 10, network: 2 }, { name: "catalog", spans: 1, errors: 1, self: 8, network: 0 }]);
  assert.equal(tree.main?.failedBelow, 1);
});

test("no spans: no tree", () => {
  assert.equal(treeOf({ spans: [] }).main, null);
});

test("unions and rests of intervals", () => {
  assert.deepEqual(union([[5, 7], [1, 3], [2, 4], [9, 20]], [0, 10]), [[1, 4], [5, 7], [9, 10]]);
  assert.deepEqual(rest([0, 10], [[1, 4], [5, 7], [9, 10]]), [[0, 1], [4, 5], [7, 9]]);
});

test("services of a trace have colours of their own while there are enough", () => {
  const palette = paletteOf(["a", "b", "c", "d", "e", "f", "g", "h"]);
  assert.equal(new Set(palette.values()).size, 8);
  assert.equal(paletteOf(Array.from({ length: 40 }, (_, index) => `s${index}`)).size, 40);
});

test("ticks are round", () => {
  assert.deepEqual(ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(ticks(0, 0, 5), []);
  assert.deepEqual(logTicks(0.5, 2000), [1, 10, 100, 1000]);
  assert.deepEqual(logTicks(10, 60), [10, 20, 50]);
});
