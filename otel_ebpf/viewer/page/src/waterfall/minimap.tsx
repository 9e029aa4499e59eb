// The whole trace in a strip; dragging over it chooses the part that the waterfall shows.

import { useEffect, useRef, useState } from "preact/hooks";
import { duration } from "../format";
import { color, dark } from "../theme";
import { unzoom, zoom, zoomed, type View } from "./state";
import type { Tree } from "./tree";

const HEIGHT = 52;

export function Minimap({ tree, palette, view }: { tree: Tree; palette: ReadonlyMap<string, string>; view: View }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const isDark = dark.value;

  useEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const draw = (): void => paint(element, tree, palette);
    const resized = new ResizeObserver(draw);
    resized.observe(element);
    draw();
    return () => resized.disconnect();
  }, [tree, palette, isDark]);

  const length = Math.max(tree.end - tree.start, 0.001);
  const timeAt = (event: PointerEvent): number => {
    const { left, width } = (event.currentTarget as Element).getBoundingClientRect();
    return tree.start + Math.max(0, Math.min(1, (event.clientX - left) / width)) * length;
  };
  const shown = drag ? { from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) } : view;
  const left = Math.max(0, 100 * (shown.from - tree.start) / length);
  const right = Math.max(0, 100 * (tree.end - shown.to) / length);
  return (
    <div class="minimap" ref={box} role="group" aria-label={`Overview of the trace; ${duration(view.from - tree.start)} to ${duration(view.to - tree.start)} is shown below`}
      onPointerDown={(event) => {
        if (event.button !== 0 || (event.target instanceof Element && event.target.closest("button"))) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        const at = timeAt(event);
        setDrag({ from: at, to: at });
      }}
      onPointerMove={(event) => { if (drag) setDrag({ ...drag, to: timeAt(event) }); }}
      onPointerUp={() => {
        if (drag && shown.to - shown.from > length / 200) zoom(tree, shown.from, shown.to);
        setDrag(null);
      }}
      onPointerCancel={() => setDrag(null)}>
      <canvas ref={canvas} height={HEIGHT} aria-hidden="true" />
      <span class="minimap-shade left" style={{ width: `${left}%` }} />
      <span class="minimap-shade right" style={{ width: `${right}%` }} />
      {zoomed() && !drag && <button type="button" class="button minimap-reset" onClick={unzoom}>Show all</button>}
    </div>
  );
}

function paint(element: HTMLCanvasElement, tree: Tree, palette: ReadonlyMap<string, string>): void {
  const scale = window.devicePixelRatio || 1;
  const width = element.clientWidth;
  element.width = Math.round(width * scale);
  element.height = Math.round(HEIGHT * scale);
  const context = element.getContext("2d");
  if (!context) return;
  context.scale(scale, scale);
  context.clearRect(0, 0, width, HEIGHT);
  const perMs = width / Math.max(tree.end - tree.start, 0.001);
  const step = Math.min(6, (HEIGHT - 8) / Math.max(1, tree.nodes.length));
  const thick = Math.max(1, step * 0.72);
  tree.nodes.forEach((node, index) => {
    const failed = node.span.status === "error";
    context.fillStyle = failed ? color("bad") : color(palette.get(node.span.service) ?? "muted");
    context.globalAlpha = node.critical || failed ? 1 : 0.45;
    context.fillRect((node.start - tree.start) * perMs, 4 + index * step, Math.max(1, (node.end - node.start) * perMs), thick);
  });
}
