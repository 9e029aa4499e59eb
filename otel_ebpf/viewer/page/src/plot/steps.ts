// What the plots show, computed from a series: rates and shares by step, cells of the heat map, labels of a time axis.

import type { RedSeries } from "../api";
import { clock, dateTime } from "../format";

/** Rates and shares of a series' steps. */
export function perStep(series: RedSeries): { rate: number[]; failedRate: number[]; share: (number | null)[] } {
  const seconds = series.step / 1000;
  return {
    rate: series.calls.map((calls) => calls / seconds),
    failedRate: series.failed.map((failed) => failed / seconds),
    share: series.calls.map((calls, index) => (calls > 0 ? (series.failed[index] ?? 0) / calls : null)),
  };
}

/** Shades of the heat map; 0 is for nothing. */
export const SHADES = 13;

export interface Cell { start: number; end: number; from: number; to: number; count: number }

/** The rows that hold something, with one to spare on both sides: [first, last]. */
export function rowsOf(counts: readonly (readonly number[])[]): [number, number] | null {
  let first = Infinity;
  let last = -Infinity;
  for (const column of counts) {
    column.forEach((count, row) => {
      if (count > 0) {
        first = Math.min(first, row);
        last = Math.max(last, row);
      }
    });
  }
  return last < 0 ? null : [Math.max(0, first - 1), last + 1];
}

/** Row j holds durations from bounds[j-1] to bounds[j]; the last one those beyond all bounds. */
export function cellOf(series: RedSeries, column: number, row: number): Cell {
  const { bounds } = series.heat;
  const start = series.times[column] ?? series.start;
  return {
    start, end: start + series.step,
    from: row > 0 ? bounds[row - 1] ?? 0 : 0,
    to: bounds[row] ?? Infinity,
    count: series.heat.counts[column]?.[row] ?? 0,
  };
}

/** Shades by the logarithm: a few slow requests are what one looks for, and they are few. */
export const shadeOf = (count: number, most: number): number =>
  (count <= 0 ? 0 : Math.max(1, Math.min(SHADES - 1, Math.ceil((Math.log1p(count) / Math.log1p(most)) * (SHADES - 1)))));

/** Between two colours "#rrggbb". */
export function mixed(one: string, other: string, share: number): string {
  const channel = (text: string, index: number): number => Number.parseInt(text.slice(1 + 2 * index, 3 + 2 * index), 16) || 0;
  const mix = (index: number): string => Math.round(channel(one, index) * (1 - share) + channel(other, index) * share).toString(16).padStart(2, "0");
  return `#${mix(0)}${mix(1)}${mix(2)}`;
}

/** Ticks within a day by the clock, those of several days with the date. */
export function timeLabels(seconds: readonly number[]): string[] {
  const first = seconds[0] ?? 0;
  const step = (seconds[1] ?? first + 60) - first;
  const days = (seconds.at(-1) ?? first) - first > 86_400;
  return seconds.map((at) => {
    if (days) return dateTime(at * 1000).slice(5, 16);
    return step < 60 ? clock(at * 1000) : clock(at * 1000).slice(0, 5);
  });
}
