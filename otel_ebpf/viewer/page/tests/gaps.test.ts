import assert from "node:assert/strict";
import { test } from "node:test";
import { gapText } from "../src/ui/gaps";

const at = new Date(2026, 7, 1, 14, 2, 10).getTime();

test("a gap says how much was lost where, when and why", () => {
  assert.equal(gapText({ what: "agent: kernel", reason: "ring_full_process", count: 1203, since: at, until: at + 10_000 }),
    "1\u202f203 lost by an agent, kernel: the ring of processes was full (14:02:10 – 14:02:20)");
  assert.equal(gapText({ what: "viewer: traces", reason: "ends before it starts", count: 2, since: at, until: at }),
    "2 lost by the viewer, traces: ends before it starts (14:02:10)");
  assert.equal(gapText({ what: "exchanges", reason: "the ring was full", count: 1, since: at, until: at }), "1 exchanges lost: the ring was full (14:02:10)");
});
