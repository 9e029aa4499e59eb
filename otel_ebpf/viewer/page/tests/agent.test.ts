import assert from "node:assert/strict";
import { test } from "node:test";
import { placeWords, reasonWords } from "../src/agent/words";

test("losses are told in words", () => {
  assert.equal(`${placeWords("otel_ebpf.losses kernel")}: ${reasonWords("otel_ebpf.losses kernel", "ring_full_exchange")}`,
    "kernel: the ring of exchanges was full: the agent did not read fast enough");
  assert.equal(`${placeWords("otel_ebpf.parse.failures")} ${reasonWords("otel_ebpf.parse.failures", "http")}`, "could not be read as http");
});

test("what the page does not know is shown as it came", () => {
  assert.equal(reasonWords("otel_ebpf.losses kernel", "a_new_reason"), "a new reason");
  assert.equal(reasonWords("otel_ebpf.losses kernel", "constructor"), "constructor");
  assert.equal(placeWords("other.counter x"), "other.counter x");
});
