// Times that spans tell in attributes.

import type { Span } from "../api";

/** Milliseconds from the first byte of the request to the first of the response; null: not told. */
export function firstByte(span: Pick<Span, "attributes" | "duration">): number | null {
  const value = span.attributes["otel_ebpf.first_byte_ns"];
  const ns = typeof value === "number" ? value : typeof value === "string" && value !== "" ? Number(value) : NaN;
  return Number.isFinite(ns) && ns >= 0 ? ns / 1e6 : null;
}
