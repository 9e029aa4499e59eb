// The time window that all views show, from the parameters `start` and `end` (the query API's own notation).
// "Live" is a window that ends now; pausing pins both ends, so that a copied link shows what was on the screen.

import { computed, signal } from "@preact/signals";
import { param, setQuery } from "./url";

export const RANGES: readonly { label: string; start: string; ms: number }[] = [
  { label: "5 m", start: "-5m", ms: 300_000 },
  { label: "15 m", start: "-15m", ms: 900_000 },
  { label: "1 h", start: "-1h", ms: 3_600_000 },
  { label: "6 h", start: "-6h", ms: 21_600_000 },
  { label: "24 h", start: "-24h", ms: 86_400_000 },
];
const DEFAULT = "-15m";

/** The parameters as the API takes them. */
export const range = computed(() => ({ start: param("start", DEFAULT), end: param("end", "now") }));

/** The window ends now: views poll. */
export const live = computed(() => range.value.end === "now");

/** "-15m" and "now" as Unix ms; anything else that is not a number: null. */
export function resolve(text: string, now: number): number | null {
  if (text === "now") return now;
  const relative = /^-(\d+(?:\.\d+)?)([smhd])$/.exec(text);
  if (relative) return now - Number(relative[1]) * { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }[relative[2] as "s" | "m" | "h" | "d"];
  const absolute = Number(text);
  return text !== "" && Number.isFinite(absolute) ? absolute : null;
}

/** The window in Unix ms, as of this moment. */
export function bounds(now = Date.now()): { start: number; end: number } {
  const end = resolve(range.value.end, now) ?? now;
  const start = resolve(range.value.start, now) ?? end - 900_000;
  return { start: Math.min(start, end), end };
}

export function setRange(start: string | number, end: string | number = "now"): void {
  setQuery({ start: start === DEFAULT && end === "now" ? null : start, end: end === "now" ? null : end });
}

/** Where to go back to when the pinned window is let go. */
const relativeStart = signal(DEFAULT);

export function pause(): void {
  relativeStart.value = range.value.start;
  const { start, end } = bounds();
  setRange(Math.round(start), Math.round(end));
}

export function resume(): void {
  setRange(relativeStart.value, "now");
}

/** How often live views ask: a hundredth of the window, between 5 and 60 s. */
export function pollingInterval(): number {
  const { start, end } = bounds();
  return Math.min(60_000, Math.max(5_000, (end - start) / 180));
}

/** Counts up when the user asks for fresh data. */
export const refreshes = signal(0);
export function refresh(): void { refreshes.value += 1; }
