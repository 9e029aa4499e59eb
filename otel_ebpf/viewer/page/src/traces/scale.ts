// Where a trace stands in the scatter: time across, duration upwards on a logarithmic axis.

import type { TraceSummary } from "../api";
import type { Window } from "../api";

export interface Area { left: number; top: number; width: number; height: number }
export interface Scale { x: (time: number) => number; y: (ms: number) => number; time: (x: number) => number; ms: (y: number) => number; low: number; high: number }

/** What lasts shorter than 100 ns says nothing of the axis; it is drawn at its foot. */
const SHORTEST = 1e-4;

export function scaleOf(traces: readonly TraceSummary[], window: Window, area: Area): Scale {
  let low = Infinity;
  let high = SHORTEST;
  for (const { matched } of traces) {
    if (matched.duration >= SHORTEST) low = Math.min(low, matched.duration);
    high = Math.max(high, matched.duration);
  }
  low = Number.isFinite(low) ? low / 1.35 : 1;
  high = Math.max(high * 1.35, low * 4);
  const perMs = area.width / Math.max(1, window.end - window.start);
  const perE = area.height / Math.log(high / low);
  return {
    low, high,
    x: (time) => area.left + (time - window.start) * perMs,
    y: (ms) => area.top + area.height - Math.log(Math.max(low, ms) / low) * perE,
    time: (x) => window.start + (x - area.left) / perMs,
    ms: (y) => low * Math.exp((area.top + area.height - y) / perE),
  };
}

/** By the number of spans: its square root, so that areas compare. */
export function radiusOf(trace: TraceSummary): number {
  return Math.min(9, 2.4 + 0.42 * Math.sqrt(trace.spans));
}

/** The trace nearest to a point, within 14 px of it. */
export function nearest(traces: readonly TraceSummary[], scale: Scale, x: number, y: number): TraceSummary | null {
  let best: TraceSummary | null = null;
  let least = 14 ** 2;
  for (const trace of traces) {
    const distance = (scale.x(trace.matched.start) - x) ** 2 + (scale.y(trace.matched.duration) - y) ** 2;
    if (distance < least) {
      least = distance;
      best = trace;
    }
  }
  return best;
}
