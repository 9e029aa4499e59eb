// The tree of spans beside their times. The list takes the keys: up and down move, left and right fold and unfold or go
// to parent and child, Enter folds, z zooms to the span, Escape back to the whole trace.

import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { duration } from "../format";
import { reveal, useStretch } from "../virtual";
import { indentOf, Row } from "./row";
import { closedOf, fold, select, unzoom, zoom, type View } from "./state";
import { ticks } from "./ticks";
import { unfolded, type Node, type Tree } from "./tree";

export function Waterfall({ tree, palette, view, selected, found, narrow }: {
  tree: Tree; palette: ReadonlyMap<string, string>; view: View; selected: Node | null; found: ReadonlySet<Node> | null; narrow: boolean;
}) {
  const box = useRef<HTMLDivElement>(null);
  const closed = closedOf();
  const shown = useMemo(() => unfolded(tree, closed), [tree, [...closed].join(".")]);
  const height = narrow ? 46 : 26;
  const rows = useStretch(box, shown.length, height);
  const indent = useMemo(() => indentOf(tree.nodes.reduce((most, node) => Math.max(most, node.depth), 0)), [tree]);
  const at = selected ? shown.indexOf(selected) : -1;
  const heading = narrow ? 0 : 28;

  useLayoutEffect(() => {
    if (at >= 0 && box.current) reveal(box.current, at, height, heading);
  }, [at, height]);

  const keys = (event: KeyboardEvent): void => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const page = Math.max(1, Math.floor((box.current?.clientHeight ?? 300) / height) - 2);
    const to = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: shown.length - 1, PageDown: at + page, PageUp: at - page }[event.key];
    if (to !== undefined) select(shown[Math.max(0, Math.min(shown.length - 1, to))] ?? null);
    else if (event.key === "Escape") unzoom();
    else if (!selected) return;
    else if (event.key === "ArrowRight") {
      if (closed.has(selected.span.span_id)) fold(selected, false);
      else if (selected.children[0]) select(selected.children[0]);
    } else if (event.key === "ArrowLeft") {
      if (selected.below > 0 && !closed.has(selected.span.span_id)) fold(selected, true);
      else if (selected.parent) select(selected.parent);
    } else if (event.key === "Enter" || event.key === " ") {
      if (selected.below > 0) fold(selected, !closed.has(selected.span.span_id));
    } else if (event.key === "z") zoom(tree, selected.start, selected.end);
    else return;
    event.preventDefault();
  };

  return (
    <div class={`waterfall${narrow ? " narrow" : ""}`}>
      <div class="wf-scroll" ref={box} role="tree" tabIndex={0} aria-label={`${tree.nodes.length} spans. Arrow keys move and fold, z zooms to a span.`}
        aria-activedescendant={selected && at >= rows.first && at < rows.last ? `span-${selected.key}` : undefined} onKeyDown={keys}>
        <Scale view={view} start={tree.start} narrow={narrow} />
        <div class="wf-rows" role="presentation" style={{ height: `${shown.length * height}px` }}>
          <Grid view={view} start={tree.start} />
          {shown.slice(rows.first, rows.last).map((node, offset) => (
            <Row key={node.key} node={node} index={rows.first + offset} count={shown.length} height={height} indent={indent}
              color={palette.get(node.span.service) ?? "c1"} view={view} selected={node === selected} closed={closed.has(node.span.span_id)}
              dimmed={found !== null && !found.has(node)} onSelect={select} onFold={fold} />
          ))}
        </div>
      </div>
    </div>
  );
}

const marks = (view: View, start: number): { at: number; text: string }[] =>
  ticks(view.from - start, view.to - start, 5).map((offset) => ({ at: 100 * (offset + start - view.from) / (view.to - view.from), text: duration(offset) }));

function Scale({ view, start, narrow }: { view: View; start: number; narrow: boolean }) {
  return (
    <div class="wf-row wf-head" aria-hidden="true">
      {!narrow && <div class="wf-name">Service and operation</div>}
      <div class="wf-time">{marks(view, start).map((mark) => (
        <span key={mark.text} class={mark.at > (narrow ? 82 : 92) ? "wf-tick last" : "wf-tick"} style={mark.at > (narrow ? 82 : 92) ? { right: `${100 - mark.at}%` } : { left: `${mark.at}%` }}>{mark.text}</span>
      ))}</div>
    </div>
  );
}

function Grid({ view, start }: { view: View; start: number }) {
  return (
    <div class="wf-grid" aria-hidden="true">
      <div class="wf-name" /><div class="wf-time">{marks(view, start).map((mark) => <span key={mark.text} class="wf-line" style={{ left: `${mark.at}%` }} />)}</div>
    </div>
  );
}
