// The traces that were found, by time and duration: ● no errors, ◇ errors inside, ◆ failed, larger with more spans. A click opens one,
// dragging over some narrows the search to their time and duration. The list below says the same in words.

import { useEffect, useRef, useState } from "preact/hooks";
import type { TraceSummary, Window } from "../api";
import { clock, duration, plural } from "../format";
import { timeLabels } from "../plot/steps";
import { color, dark } from "../theme";
import { hideTooltip, showTooltip } from "../ui/tooltip";
import { logTicks, timeTicks } from "../waterfall/ticks";
import { nearest, radiusOf, scaleOf, type Area, type Scale } from "./scale";

const HEIGHT = 190;
const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

interface Box { x0: number; y0: number; x1: number; y1: number }

export function Scatter({ traces, window: shown, marked, open, narrow }: {
  traces: readonly TraceSummary[]; window: Window;
  /** The trace that is ringed: the list's focus. */
  marked: string | null;
  open: (trace: TraceSummary) => void;
  narrow: (start: number, end: number, min: number, max: number) => void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [hovered, setHovered] = useState<TraceSummary | null>(null);
  const [brush, setBrush] = useState<Box | null>(null);
  const isDark = dark.value;
  const area: Area = { left: 58, top: 8, width: Math.max(1, width - 58 - 12), height: HEIGHT - 8 - 22 };
  const scale = scaleOf(traces, shown, area);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const resized = new ResizeObserver(() => setWidth(element.clientWidth));
    resized.observe(element);
    return () => { resized.disconnect(); hideTooltip(); };
  }, []);

  useEffect(() => {
    if (canvas.current && width > 0) paint(canvas.current, width, traces, shown, area, scale, hovered?.trace_id ?? marked);
  }, [traces, shown.start, shown.end, width, isDark, hovered, marked]);

  const pointOf = (event: PointerEvent): { x: number; y: number } => {
    const { left, top } = (event.currentTarget as Element).getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };
  const inside = (point: { x: number; y: number }): { x: number; y: number } => ({
    x: Math.max(area.left, Math.min(area.left + area.width, point.x)), y: Math.max(area.top, Math.min(area.top + area.height, point.y)),
  });
  const large = brush !== null && (Math.abs(brush.x1 - brush.x0) > 5 || Math.abs(brush.y1 - brush.y0) > 5);

  return (
    <div class="scatter" role="img" aria-label={`Duration of ${plural(traces.length, "trace")} over time, from ${duration(scale.low)} to ${duration(scale.high)}; ${traces.filter((one) => one.failed).length} failed, ${traces.filter((one) => !one.failed && one.errors > 0).length} have errors inside. The list below has the same.`}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        const { x, y } = inside(pointOf(event));
        setBrush({ x0: x, y0: y, x1: x, y1: y });
      }}
      onPointerMove={(event) => {
        const point = pointOf(event);
        if (brush) {
          const { x, y } = inside(point);
          setBrush({ ...brush, x1: x, y1: y });
          hideTooltip();
          return;
        }
        const trace = nearest(traces, scale, point.x, point.y);
        setHovered(trace);
        if (trace) showTooltip(event.clientX, event.clientY, <PointText trace={trace} />);
        else hideTooltip();
      }}
      onPointerUp={(event) => {
        const point = pointOf(event);
        setBrush(null);
        if (brush && large) {
          narrow(scale.time(Math.min(brush.x0, brush.x1)), scale.time(Math.max(brush.x0, brush.x1)), scale.ms(Math.max(brush.y0, brush.y1)), scale.ms(Math.min(brush.y0, brush.y1)));
          return;
        }
        const trace = nearest(traces, scale, point.x, point.y);
        if (trace) { hideTooltip(); open(trace); }
      }}
      onPointerCancel={() => setBrush(null)}
      onPointerLeave={() => { setHovered(null); hideTooltip(); }}>
      <canvas ref={canvas} class={hovered ? "pointing" : ""} />
      {brush && large && <span class="brush" style={{ left: `${Math.min(brush.x0, brush.x1)}px`, top: `${Math.min(brush.y0, brush.y1)}px`, width: `${Math.abs(brush.x1 - brush.x0)}px`, height: `${Math.abs(brush.y1 - brush.y0)}px` }} />}
    </div>
  );
}

function PointText({ trace }: { trace: TraceSummary }) {
  return (
    <div class="point-text">
      <strong>{trace.matched.service} · {trace.matched.name}</strong>
      <span>{duration(trace.matched.duration)} at {clock(trace.matched.start, true)}{trace.failed && <span class="bad"> ◆ failed</span>}</span>
      <span class="muted">{plural(trace.spans, "span")}, {plural(trace.services.length, "service")}{trace.errors > 0 && `, ${plural(trace.errors, "error")}`}</span>
    </div>
  );
}

function paint(element: HTMLCanvasElement, width: number, traces: readonly TraceSummary[], shown: Window, area: Area, scale: Scale, ringed: string | null): void {
  const ratio = window.devicePixelRatio || 1;
  element.width = Math.round(width * ratio);
  element.height = Math.round(HEIGHT * ratio);
  const context = element.getContext("2d");
  if (!context) return;
  context.scale(ratio, ratio);
  context.clearRect(0, 0, width, HEIGHT);
  axes(context, shown, area, scale);
  for (const trace of traces) {
    const x = scale.x(trace.matched.start);
    const y = scale.y(trace.matched.duration);
    const radius = radiusOf(trace);
    context.globalAlpha = trace.failed ? 0.9 : trace.errors > 0 ? 1 : 0.55;
    context.beginPath();
    if (trace.failed || trace.errors > 0) {
      const reach = radius * 1.2;
      context.moveTo(x, y - reach); context.lineTo(x + reach, y); context.lineTo(x, y + reach); context.lineTo(x - reach, y); context.closePath();
    } else context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = color(trace.failed ? "bad" : trace.errors > 0 ? "surface" : "accent");
    context.fill();
    if (trace.errors > 0 && !trace.failed) {
      context.strokeStyle = color("bad");
      context.lineWidth = 1.5;
      context.stroke();
    }
    if (trace.trace_id === ringed) {
      context.globalAlpha = 1;
      context.strokeStyle = color("text");
      context.lineWidth = 1.5;
      context.beginPath();
      context.arc(x, y, radius + 4, 0, 2 * Math.PI);
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

function axes(context: CanvasRenderingContext2D, shown: Window, area: Area, scale: Scale): void {
  context.font = FONT;
  context.lineWidth = 1;
  context.strokeStyle = color("grid");
  context.fillStyle = color("muted");
  context.textAlign = "right";
  context.textBaseline = "middle";
  let last = Infinity;
  for (const value of logTicks(scale.low, scale.high)) {
    const y = Math.round(scale.y(value)) + 0.5;
    if (last - y < 16) continue;
    last = y;
    context.beginPath(); context.moveTo(area.left, y); context.lineTo(area.left + area.width, y); context.stroke();
    context.fillText(duration(value), area.left - 8, y);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  const times = timeTicks(shown.start, shown.end, area.width / 95);
  timeLabels(times.map((time) => time / 1000)).forEach((text, index) => {
    const x = scale.x(times[index] as number);
    if (x > area.left + 20 && x < area.left + area.width - 16) context.fillText(text, x, area.top + area.height + 7);
  });
  context.strokeStyle = color("line");
  context.beginPath(); context.moveTo(area.left, area.top + area.height + 0.5); context.lineTo(area.left + area.width, area.top + area.height + 0.5); context.stroke();
}
