// The three plots by which a service, an operation or an edge is judged: rate, errors, duration.

import type { RedSeries } from "../api";
import { count, duration, percent } from "../format";
import { live, setRange } from "../window";
import { perStep } from "./steps";
import { TimePlot } from "./time";

/** Without the newest step while it fills: spans come in batches, and a dip at the right edge would be no news;
 * but it is kept where it has all there is. */
function complete(series: RedSeries): RedSeries {
  if (!live.value || series.times.length < 3 || series.calls.slice(0, -1).every((calls) => calls === 0)) return series;
  const cut = <T,>(values: readonly T[]): T[] => values.slice(0, -1);
  return { ...series, times: cut(series.times), calls: cut(series.calls), failed: cut(series.failed), p50: cut(series.p50), p99: cut(series.p99) };
}

export function RedPlots({ series: all, height = 130 }: { series: RedSeries; height?: number }) {
  const series = complete(all);
  const { rate, failedRate, share } = perStep(series);
  const perSecond = (value: number): string => `${count(value)}/s`;
  const select = (start: number, end: number): void => setRange(start, end);
  const plots = { times: series.times, height, select };
  return (
    <>
      <figure><figcaption>Rate</figcaption>
        <TimePlot {...plots} label="Calls per second" format={perSecond}
          lines={[{ label: "calls", values: rate, color: "plot-1", fill: true }, { label: "failed", values: failedRate, color: "bad", bars: true }]} /></figure>
      <figure><figcaption>Errors</figcaption>
        <TimePlot {...plots} label="Share of failed calls" format={percent}
          lines={[{ label: "failed", values: share, color: "bad", fill: true }]} /></figure>
      <figure><figcaption>Duration</figcaption>
        <TimePlot {...plots} label="Duration" format={duration}
          lines={[{ label: "p50", values: series.p50, color: "plot-1" }, { label: "p99", values: series.p99, color: "plot-2", dash: [5, 3] }]} /></figure>
    </>
  );
}
