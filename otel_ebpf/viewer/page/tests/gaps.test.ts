import assert from "node:assert/strict";
import { test } from "node:test";
import "./browser";
import { gapText } from "../src/ui/gaps";

const at = new Date(2026, 7, 1, 14, 2, 10).getTime();

test("a gap of an agent says what the picture lacks, in plain words", () => {
  const of = (place: string, reason: string, count: number): string => gapText({ what: `agent: ${place}`, reason, count, says: "what it says", since: at, until: at + 10_000 });
  assert.equal(of("tracing", "late_amendment", 35), "35 responses that went on after a pause (streams) are shown shorter than they were");
  assert.equal(of("tracing", "late_amendment", 1), "1 response that went on after a pause (a stream) is shown shorter than it was");
  assert.equal(of("kernel", "ring_full_exchange", 1203), "1\u202f203 messages of requests are missing: the agent was too busy to read them (give it more CPU, or exclude what need not be seen)");
  assert.equal(of("a place", "a_new_reason", 2), "2 lost by an agent (a place): what it says");
});

test("a gap of the viewer says what could not be stored, when and why", () => {
  assert.equal(gapText({ what: "viewer: traces", reason: "ends before it starts", count: 2, says: "", since: at, until: at }),
    "2 of the traces that came here could not be stored: ends before it starts (14:02:10)");
  assert.equal(gapText({ what: "viewer", reason: "requests not taken: unauthorized", count: 18, says: "", since: at, until: at + 10_000 }),
    "18 requests to store data came without the right token, and nothing of it is here (14:02:10 – 14:02:20)");
  assert.equal(gapText({ what: "exchanges", reason: "the ring was full", count: 1, says: "", since: at, until: at }), "1 exchanges lost: the ring was full (14:02:10)");
});
