// The lines that are kept: the newest thousand. While they are held (paused), what comes is kept beside them.

import type { LiveSpan } from "../api";

export const KEPT = 1000;

export interface Line extends LiveSpan { number: number }

/** Newest first. A value: every change makes a new one. */
export interface Lines {
  shown: readonly Line[];
  /** Came while held; newest first, at most KEPT of `waited`. */
  waiting: readonly Line[];
  waited: number;
  held: boolean;
  total: number;
  /** Fitted the filter, but were more than the server sends or keeps. */
  missed: number;
}

export const NONE: Lines = { shown: [], waiting: [], waited: 0, held: false, total: 0, missed: 0 };

/** `spans`: as they are sent, in batches of each sender; within one they are put in order. */
export function added(lines: Lines, spans: readonly LiveSpan[]): Lines {
  const fresh = [...spans].sort((one, other) => one.time - other.time).map((span, index): Line => ({ ...span, number: lines.total + index })).reverse();
  const total = lines.total + spans.length;
  return lines.held
    ? { ...lines, total, waited: lines.waited + spans.length, waiting: [...fresh, ...lines.waiting].slice(0, KEPT) }
    : { ...lines, total, shown: [...fresh, ...lines.shown].slice(0, KEPT) };
}

export function missed(lines: Lines, count: number): Lines {
  return { ...lines, missed: lines.missed + count };
}

export function hold(lines: Lines): Lines { return { ...lines, held: true }; }

export function release(lines: Lines): Lines {
  return { ...lines, held: false, waiting: [], waited: 0, shown: [...lines.waiting, ...lines.shown].slice(0, KEPT) };
}

/** The lines of the event "spans"; what is no such list is none. */
export function spansOf(data: string): LiveSpan[] {
  const value = parsed(data);
  return Array.isArray(value) ? value.filter((one): one is LiveSpan => typeof one === "object" && one !== null && "trace_id" in one) : [];
}

/** "GET https://localhost:8443/p/1" → "GET /p/1": the host is the column before it. */
export function pathFirst(what: string): string {
  return what.replace(/^([A-Z]+ )https?:\/\/[^/?#\s]+/, "$1");
}

/** The number of the event "missed". */
export function countOf(data: string): number {
  const value = parsed(data);
  return typeof value === "object" && value !== null && "count" in value && typeof value.count === "number" && value.count > 0 ? value.count : 0;
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
