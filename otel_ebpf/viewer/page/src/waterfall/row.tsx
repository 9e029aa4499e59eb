// One span of the waterfall: what it is at the left, when it was at the right.

import { duration } from "../format";
import { linkInfo } from "../links";
import { barOf, barsOf, labelPlace, networkOf } from "./bars";
import { betweenWords, KIND_ARROWS, KIND_WORDS, Failed, orphanText, outsideText } from "./marks";
import type { View } from "./state";
import { firstByte } from "./timing";
import type { Node } from "./tree";

/** Deep traces are indented less, so that names keep their room. */
export function indentOf(depth: number): number {
  return Math.max(3, Math.min(14, 168 / Math.max(1, depth)));
}

export function Row({ node, index, count, height, indent, color, view, selected, closed, dimmed, onSelect, onFold }: {
  node: Node; index: number; count: number; height: number; indent: number; color: string; view: View;
  selected: boolean; closed: boolean; dimmed: boolean; onSelect: (node: Node) => void; onFold: (node: Node, closed: boolean) => void;
}) {
  const { span } = node;
  const failed = span.status === "error";
  const link = linkInfo(span);
  const inset = Math.round(node.depth * indent);
  return (
    <div class={`wf-row tone-${color}${selected ? " selected" : ""}${dimmed ? " dimmed" : ""}`} id={`span-${node.key}`} role="treeitem"
      aria-level={node.depth + 1} aria-setsize={count} aria-posinset={index + 1} aria-selected={selected}
      aria-expanded={node.below > 0 ? !closed : undefined}
      style={{ top: `${index * height}px`, height: `${height}px` }} onClick={() => onSelect(node)}>
      <div class="wf-name">
        <span class="wf-guides" aria-hidden="true" style={{ width: `${inset}px`, backgroundSize: `${indent}px 100%` }} />
        {node.below > 0
          ? <button type="button" class="wf-fold" tabIndex={-1} aria-label={closed ? `Show the ${node.below} spans below` : `Hide the ${node.below} spans below`}
              onClick={(event) => { event.stopPropagation(); onFold(node, !closed); }}><Triangle closed={closed} /></button>
          : <span class="wf-leaf" aria-hidden="true" />}
        <span class="wf-tone" aria-hidden="true" />
        <span class="wf-kind" aria-hidden="true" title={KIND_WORDS[span.kind]}>{KIND_ARROWS[span.kind]}</span>
        <span class="wf-text clip" title={`${span.service}: ${span.name}`}>
          <span class="wf-service">{span.service || "no service"}</span> <span class="visually-hidden">{KIND_WORDS[span.kind]}</span><span class="wf-op">{span.name || "no name"}</span>
        </span>
        {failed && <Failed label="failed" />}
        {closed && <span class="wf-tag" title={`${node.below} spans are folded here`}>+{node.below}{node.failedBelow > 0 && <span class="bad"> ◆{node.failedBelow}</span>}</span>}
        {node.orphan && <span class="wf-tag warn" title={orphanText(node)}>no parent</span>}
        {node.outside > 0 && <span class="wf-tag warn" title={outsideText(node)}>{node.sameClock ? "outside" : "clock"}</span>}
        {link && <span class="wf-tag" title={`Parent found by ${link.method}. ${link.means}`}>{link.short}</span>}
      </div>
      <Time node={node} view={view} narrow={height > 40} />
    </div>
  );
}

function Triangle({ closed }: { closed: boolean }) {
  return <svg width="8" height="8" viewBox="0 0 8 8" aria-hidden="true"><path d={closed ? "M2 0.5 7 4 2 7.5z" : "M0.5 2h7L4 7z"} fill="currentColor" /></svg>;
}

function Time({ node, view, narrow }: { node: Node; view: View; narrow: boolean }) {
  const bar = barOf([node.start, node.end], view);
  if (!bar) {
    const before = node.end < view.from;
    return <div class="wf-time"><span class={`wf-out ${before ? "left" : "right"}`}>{before ? "◂" : "▸"} {duration(node.span.duration)}</span></div>;
  }
  const first = firstByte(node.span);
  const byte = first === null ? null : barOf([node.start + first, node.start + first], view);
  const place = labelPlace(bar, (narrow ? 20 : 14) + (node.network === null ? 0 : (narrow ? 32 : 18) + (node.oneHost ? 4 : 0)));
  const text = { after: { left: `${bar.left + bar.width}%` }, before: { right: `${100 - bar.left}%` }, inside: { right: `${100 - bar.left - bar.width}%` } }[place];
  const network = networkOf(node);
  return (
    <div class="wf-time">
      <span class={`wf-bar${node.span.status === "error" ? " failed" : ""}`} style={box(bar)} />
      {network.length > 0
        ? barsOf(network, view).map((one, index) => <span key={`n${index}`} class="wf-net" style={box(one)} />)
        : barsOf(node.own, view).map((one, index) => <span key={`o${index}`} class="wf-own" style={box(one)} />)}
      {node.critical && barsOf(node.critical, view).map((one, index) => <span key={`c${index}`} class="wf-critical" style={box(one)} />)}
      {byte && <span class="wf-byte" style={{ left: `${byte.left}%` }} />}
      <span class={`wf-label ${place}`} style={text}>
        {duration(node.span.duration)}
        {node.network !== null && <span class="wf-netlabel" title={betweenWords(node).long}> · {betweenWords(node).short} {duration(node.network)}</span>}
      </span>
    </div>
  );
}

const box = ({ left, width }: { left: number; width: number }): { left: string; width: string } => ({ left: `${left}%`, width: `max(${width}%, 2px)` });
