// A plot of values over time by uPlot: theme's colours, cursor with values, the same moment marked in all plots of a
// page, and a stretch of time selected by dragging.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { dateTime } from "../format";
import { color, dark } from "../theme";
import { timeLabels } from "./steps";

export interface Line {
  label: string;
  values: readonly (number | null)[];
  /** CSS variable: "plot-1", "bad", … */
  color: string;
  /** An area under the line, or bars. */
  fill?: boolean;
  bars?: boolean;
  dash?: readonly number[];
}

const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

/** What says whether a plot can be updated or must be made anew. */
const shapeOf = (lines: readonly Line[], height: number, isDark: boolean): string =>
  JSON.stringify([lines.map(({ label, color: name, fill, bars, dash }) => [label, name, fill, bars, dash]), height, isDark]);

export function TimePlot({ times, lines, format, label, height = 150, select, sync = "time" }: {
  /** Unix ms, ascending; every line has as many values. */
  times: readonly number[];
  lines: readonly Line[];
  format: (value: number) => string;
  /** What is plotted, in words: for screen readers. */
  label: string;
  height?: number;
  /** A stretch of time was selected, in Unix ms. */
  select?: (start: number, end: number) => void;
  /** Plots with the same key share their cursor. */
  sync?: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef({ format, select });
  latest.current = { format, select };
  const shape = shapeOf(lines, height, dark.value);
  const data: uPlot.AlignedData = [times.map((time) => time / 1000), ...lines.map((line) => [...line.values])];
  const latestData = useRef(data);
  latestData.current = data;

  useEffect(() => {
    const parent = box.current;
    if (!parent) return undefined;
    const options = optionsOf(lines, height, sync, (value) => latest.current.format(value), (start, end) => latest.current.select?.(start, end));
    const made = new uPlot({ ...options, width: Math.max(120, parent.clientWidth) }, latestData.current, parent);
    plot.current = made;
    showLast(made);
    const resized = new ResizeObserver(() => made.setSize({ width: Math.max(120, parent.clientWidth), height }));
    resized.observe(parent);
    return () => { resized.disconnect(); made.destroy(); plot.current = null; };
  }, [shape, sync]);

  useEffect(() => {
    plot.current?.setData(data);
    if (plot.current) showLast(plot.current);
  });

  return <div class="plot" role="img" aria-label={`${label}. ${summary(lines, format)}`} ref={box} />;
}

/** "rate: now 12/s, most 20/s": a plot in a sentence. */
function summary(lines: readonly Line[], format: (value: number) => string): string {
  return lines.map((line) => {
    const values = line.values.filter((value): value is number => value !== null);
    const last = values.at(-1);
    return last === undefined ? `${line.label}: no data` : `${line.label}: last ${format(last)}, most ${format(Math.max(...values))}`;
  }).join("; ");
}

function optionsOf(
  lines: readonly Line[], height: number, sync: string, format: (value: number) => string, select: (start: number, end: number) => void,
): Omit<uPlot.Options, "width"> {
  const axis = { stroke: color("faint"), font: FONT, ticks: { show: false }, grid: { stroke: color("grid"), width: 1 } };
  return {
    height,
    padding: [8, 16, 0, 0],
    legend: { live: true, markers: { width: 0, fill: (_, index) => color(lines[index - 1]?.color ?? "text") } },
    cursor: { y: false, points: { size: 6 }, sync: { key: sync }, drag: { x: true, y: false, setScale: false } },
    scales: { x: { time: true }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] } },
    axes: [
      { ...axis, size: 24, space: 70, grid: { show: false }, values: (_, ticks) => timeLabels(ticks) },
      { ...axis, size: 56, gap: 4, space: 28, values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      { value: (_, seconds) => (seconds === null ? "–" : dateTime(seconds * 1000).slice(5)), label: "time" },
      ...lines.map((line): uPlot.Series => ({
        label: line.label,
        stroke: color(line.color),
        width: line.bars ? 0 : 1.5,
        ...(line.dash ? { dash: [...line.dash] } : {}),
        ...(line.fill || line.bars ? { fill: line.bars ? color(line.color) : `${color(line.color)}24` } : {}),
        ...(line.bars && uPlot.paths.bars ? { paths: uPlot.paths.bars({ size: [0.7, 12], gap: 1 }) } : {}),
        points: { show: true, size: 5, filter: (self, index) => alone(self.data[index] ?? []), stroke: color(line.color), fill: color(line.color) },
        spanGaps: false,
        value: (_, value) => (value === null ? "–" : format(value)),
      })),
    ],
    hooks: {
      setCursor: [(self) => { if (self.cursor.idx === null || self.cursor.idx === undefined) showLast(self); }],
      setSelect: [(self) => {
        if (self.select.width < 4) return;
        select(Math.round(self.posToVal(self.select.left, "x") * 1000), Math.round(self.posToVal(self.select.left + self.select.width, "x") * 1000));
        self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      }],
    },
  };
}

/** Values without a neighbour: a line through them has no length, so they are drawn as points. */
export function alone(values: ArrayLike<number | null | undefined>): number[] {
  const is = (index: number): boolean => values[index] !== null && values[index] !== undefined;
  return Array.from(values, (_, index) => index).filter((index) => is(index) && !is(index - 1) && !is(index + 1));
}

/** Without a cursor the legend has the newest values. */
function showLast(plot: uPlot): void {
  const last = plot.data[0].length - 1;
  if (last >= 0 && (plot.cursor.idx === null || plot.cursor.idx === undefined)) plot.setLegend({ idx: last }, false);
}
