// How a span's parent was found (`otel_ebpf.link.method`), in words.

import type { Span } from "./api";
import { percent } from "./format";

interface Method { short: string; means: string }

const METHODS = new Map<string, Method>(Object.entries({
  traceparent: { short: "w3c", means: "The request carried W3C trace context (traceparent): the caller's own word." },
  b3: { short: "b3", means: "The request carried B3 headers: the caller's own word." },
  jaeger: { short: "uber", means: "The request carried an uber-trace-id header: the caller's own word." },
  skywalking: { short: "sw8", means: "The request carried an sw8 header (SkyWalking): the caller's own word." },
  datadog: { short: "dd", means: "The request carried x-datadog headers: the caller's own word." },
  xray: { short: "xray", means: "The request carried an X-Amzn-Trace-Id header: the caller's own word." },
  connection: { short: "conn", means: "The parent is the client span at the other end of the same connection, on this host. Certain." },
  "thread-response": { short: "resp", means: "The blocking thread that sent this request also wrote the response of the parent." },
  unit: { short: "unit", means: "The goroutine, Python context, greenlet or virtual thread that sent this request, or the one it was made by, wrote the response of the parent. Certain." },
  allocation: { short: "alloc", means: "The thread that handled the parent made the job, or the virtual thread, that sent this request: where that lies in the heap of the JVM tells." },
  "async-id": { short: "async", means: "Node made the asynchronous resource that sent this request while it handled the parent. Certain." },
  "request-id": { short: "rid", means: "The request bears the X-Request-Id of the parent, and no other request of the process did. Certain." },
  turn: { short: "turn", means: "The event loop sent this request right after it had received the parent, or a response for it. Used where the process's own responses agree with this rule." },
  order: { short: "order", means: "The event loop sends requests in the order in which it received theirs. Used where the process's own responses agree with this rule." },
  statistics: { short: "stat", means: "The delays fit no other request as well; calibrated on links of this service that were certain." },
  "thread-alone": { short: "alone", means: "The thread that sent this request had exactly one request open: the parent. Wrong only if the thread worked for nobody, or for another request." },
}));

/** All of them, a line each. */
export const METHOD_LIST = [...METHODS].map(([method, { short, means }]) => `${short} (${method}): ${means}`).join("\n");

export interface LinkInfo { method: string; short: string; means: string; confidence: string; candidates: string }

/** What is known of a link; null: nothing was said (spans of SDKs know their parents). */
export function linkInfo(span: Pick<Span, "attributes">): LinkInfo | null {
  const method = span.attributes["otel_ebpf.link.method"];
  if (typeof method !== "string" || method === "") return null;
  const confidence = span.attributes["otel_ebpf.link.confidence"];
  const candidates = span.attributes["otel_ebpf.link.candidates"];
  return {
    method,
    short: shortOf(method),
    means: meansOf(method),
    confidence: typeof confidence === "number" ? percent(confidence) : typeof confidence === "string" ? confidence : "",
    candidates: typeof candidates === "number" || typeof candidates === "string" ? String(candidates) : "",
  };
}

/** At most a few letters, as `otel-ebpf tap` has them. */
export function shortOf(method: string): string {
  return METHODS.get(method)?.short ?? method.slice(0, 12);
}

export function meansOf(method: string): string {
  return METHODS.get(method)?.means ?? "This page does not know the method; see the documentation of the agent that sent the span.";
}
