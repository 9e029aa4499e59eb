// The lines. Newest on top; whoever has scrolled down keeps what he reads under his eyes.

import { useLayoutEffect, useRef } from "preact/hooks";
import { clock, duration } from "../format";
import { meansOf, shortOf } from "../links";
import { at, go, href } from "../url";
import { useStretch } from "../virtual";
import { Failed, KIND_ARROWS, KIND_WORDS } from "../waterfall/marks";
import { pathFirst, type Line } from "./lines";

const SLOW_MS = 100;
const VERY_SLOW_MS = 1000;

export function LineList({ lines, narrow }: { lines: readonly Line[]; narrow: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const height = narrow ? 44 : 24;
  const rows = useStretch(box, lines.length, height);
  const first = lines[0]?.number ?? -1;
  const before = useRef(first);
  useLayoutEffect(() => {
    const come = first - before.current;
    before.current = first;
    if (box.current && box.current.scrollTop > height && come > 0) box.current.scrollTop += come * height;
  }, [first]);
  return (
    <div class={`taps${narrow ? " narrow" : ""}`} ref={box} role="table" tabIndex={0} aria-label="Exchanges as they come in, newest first" aria-rowcount={lines.length + 1}>
      <div class="tap head" role="row">
        {["Time", "Service", "", "Peer", "Protocol", "What", "Status", "Duration", "Link"].map((title, index) => (
          <span role="columnheader" key={index} class={index === 7 ? "number" : ""}>{title || <span class="visually-hidden">Direction</span>}</span>
        ))}
      </div>
      <div class="taps-all" role="rowgroup" style={{ height: `${lines.length * height}px` }}>
        {lines.slice(rows.first, rows.last).map((line, offset) => {
          const index = rows.first + offset;
          return <LineRow key={line.number} line={line} index={index} top={index * height} />;
        })}
      </div>
    </div>
  );
}

function LineRow({ line, index, top }: { line: Line; index: number; top: number }) {
  const slow = line.duration >= VERY_SLOW_MS ? "bad" : line.duration >= SLOW_MS ? "warn" : "";
  const address = href(at("trace", line.trace_id), { span: line.span_id });
  return (
    <div class={`tap${line.failed ? " failed" : ""}`} role="row" aria-rowindex={index + 2} style={{ top: `${top}px` }}
      onClick={(event) => { if (!event.defaultPrevented && !(event.target instanceof Element && event.target.closest("a"))) go(address); }}>
      <span role="cell" class="muted tap-time">{clock(line.time, true)}</span>
      <span role="cell" class="clip tap-service" title={line.service}>{line.service || "no service"}</span>
      <span role="cell" class="tap-arrow"><span aria-hidden="true">{KIND_ARROWS[line.kind] ?? "·"}</span><span class="visually-hidden">{KIND_WORDS[line.kind] ?? line.kind}</span></span>
      <span role="cell" class="clip tap-peer" title={line.peer}>{line.peer}</span>
      <span role="cell" class="clip muted tap-system">{line.system}</span>
      <span role="cell" class="clip tap-what"><a href={address} title={line.what}>{pathFirst(line.what) || "no name"}</a></span>
      <span role="cell" class={`clip tap-status${line.failed ? " bad" : " ok"}`} title={line.status}>{line.failed && <><Failed label="failed" /> </>}{line.status}</span>
      <span role="cell" class={`number tap-duration ${slow}`}>{duration(line.duration)}</span>
      <span role="cell" class="tap-link">{line.link && <span class="wf-tag" title={`Parent found by ${line.link}. ${meansOf(line.link)}`}>{shortOf(line.link)}</span>}</span>
    </div>
  );
}
