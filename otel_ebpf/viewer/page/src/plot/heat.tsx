// Latency heat map: time to the right, duration upwards (logarithmic), colour by the number of requests. A click asks for
// the traces of that time and those durations; with the keyboard, arrows move a cell and Enter opens it.

import { useEffect, useRef, useState } from "preact/hooks";
import type { RedSeries } from "../api";
import { clock, duration, plural } from "../format";
import { color, dark } from "../theme";
import { hideTooltip, showTooltip } from "../ui/tooltip";
import { type Cell, cellOf, mixed, rowsOf, SHADES, shadeOf, timeLabels } from "./steps";

const LEFT = 64;
const BOTTOM = 22;
const TOP = 6;
const RIGHT = 16;

export function Heat({ series, height = 220, open }: { series: RedSeries; height?: number; open: (cell: Cell) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState<[number, number] | null>(null);
  const isDark = dark.value;
  const rows = rowsOf(series.heat.counts);
  const columns = series.times.length;

  useEffect(() => {
    const element = canvas.current?.parentElement;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    setWidth(element.clientWidth);
    return () => { observer.disconnect(); hideTooltip(); };
  }, []);

  useEffect(() => {
    if (canvas.current && rows && width > 0) paint(canvas.current, series, rows, width, height, at);
  }, [series, width, height, isDark, at?.[0], at?.[1]]);

  if (!rows) return <p class="muted heat-empty">No request in this window.</p>;
  const [first, last] = rows;
  const find = (event: MouseEvent): [number, number] | null => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box) return null;
    const column = Math.floor(((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * columns);
    const row = last - Math.floor(((event.clientY - box.top - TOP) / (height - TOP - BOTTOM)) * (last - first + 1));
    return column >= 0 && column < columns && row >= first && row <= last ? [column, row] : null;
  };
  const say = (cell: Cell): string =>
    `${plural(cell.count, "request")} of ${duration(cell.from)} to ${cell.to === Infinity ? "more" : duration(cell.to)}, ${clock(cell.start)} to ${clock(cell.end)}`;
  const chosen = at && cellOf(series, at[0], at[1]);
  const keys = (event: KeyboardEvent): void => {
    const dx = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
    const dy = { ArrowDown: -1, ArrowUp: 1 }[event.key] ?? 0;
    if (dx || dy) {
      event.preventDefault();
      const [column, row] = at ?? [columns - 1, first];
      setAt([Math.max(0, Math.min(columns - 1, column + dx)), Math.max(first, Math.min(last, row + dy))]);
    } else if (event.key === "Enter" && chosen && chosen.count > 0) open(chosen);
  };
  return (
    <div class="heat">
      <canvas ref={canvas} tabIndex={0} role="application" aria-label={`Durations over time. Arrow keys choose a cell, Enter shows its traces. ${chosen ? say(chosen) : ""}`}
        onPointerMove={(event) => {
          const found = find(event);
          setAt(found);
          if (found) showTooltip(event.clientX, event.clientY, say(cellOf(series, ...found)));
          else hideTooltip();
        }}
        onPointerLeave={() => { setAt(null); hideTooltip(); }}
        onClick={(event) => {
          const found = find(event);
          const cell = found && cellOf(series, ...found);
          if (cell && cell.count > 0) open(cell);
        }}
        onKeyDown={keys} />
      <span class="visually-hidden" aria-live="polite">{chosen ? say(chosen) : ""}</span>
    </div>
  );
}

/** The theme's five colours with two between each pair of the upper four. */
function shades(): string[] {
  const stops = [1, 2, 3, 4].map((index) => color(`heat-${index}`));
  return Array.from({ length: SHADES }, (_, shade) => {
    if (shade === 0) return color("heat-0");
    const at = ((shade - 1) / (SHADES - 2)) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(at));
    return mixed(stops[low] ?? "", stops[low + 1] ?? "", at - low);
  });
}

function paint(canvas: HTMLCanvasElement, series: RedSeries, [first, last]: [number, number], width: number, height: number, at: [number, number] | null): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const { counts, bounds } = series.heat;
  const most = Math.max(1, ...counts.map((column) => Math.max(0, ...column)));
  const palette = shades();
  const w = (width - LEFT - RIGHT) / series.times.length;
  const h = (height - TOP - BOTTOM) / (last - first + 1);
  const y = (row: number): number => TOP + (last - row) * h;
  context.fillStyle = color("heat-0");
  context.fillRect(LEFT, TOP, width - LEFT - RIGHT, height - TOP - BOTTOM);
  counts.forEach((column, index) => column.forEach((count, row) => {
    if (count <= 0 || row < first || row > last) return;
    context.fillStyle = palette[shadeOf(count, most)] ?? "";
    context.fillRect(LEFT + index * w, y(row), Math.max(1, w - 0.6), Math.max(1, h - 0.6));
  }));
  if (at) {
    context.strokeStyle = color("focus");
    context.lineWidth = 2;
    context.strokeRect(LEFT + at[0] * w, y(at[1]), w, h);
  }
  context.font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
  context.fillStyle = color("faint");
  context.textBaseline = "middle";
  context.textAlign = "right";
  const every = Math.max(1, Math.ceil(22 / h));
  for (let row = first; row <= last; row += every) {
    const bound = bounds[row];
    if (bound !== undefined) context.fillText(duration(bound), LEFT - 8, y(row));
  }
  context.textAlign = "center";
  const step = Math.max(1, Math.ceil(90 / w));
  const shown = series.times.filter((_, index) => index % step === 0).map((time) => time / 1000);
  timeLabels(shown).forEach((text, index) => context.fillText(text, LEFT + (index * step + 0.5) * w, height - BOTTOM / 2));
}
