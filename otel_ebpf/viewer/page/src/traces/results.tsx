// The traces that were found, one line each. j and k or the arrows go from line to line, Enter opens.

import { useEffect, useRef } from "preact/hooks";
import type { TraceSummary } from "../api";
import { clock, dateTime, duration, plural } from "../format";
import { Failed } from "../waterfall/marks";
import { paletteOf } from "../waterfall/palette";
import { at, href } from "../url";

const CHIPS = 4;

export function addressOf(trace: TraceSummary): string {
  // The span that was found is shown, unless it is the root.
  const root = trace.matched.service === trace.service && trace.matched.name === trace.name;
  return href(at("trace", trace.trace_id), root ? {} : { span: trace.matched.span_id });
}

export function Results({ traces, days, mark }: { traces: readonly TraceSummary[]; days: boolean; mark: (id: string | null) => void }) {
  const list = useRef<HTMLOListElement>(null);
  const most = traces.reduce((length, trace) => Math.max(length, trace.duration), 1e-9);
  const palette = paletteOf(traces.flatMap((trace) => trace.services.map((service) => service.name)).slice(0, 4000));

  useEffect(() => {
    const keys = (event: KeyboardEvent): void => {
      const by = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!by || event.metaKey || event.ctrlKey || event.altKey || event.defaultPrevented) return;
      const { activeElement: focus } = document;
      const within = focus instanceof HTMLElement && list.current?.contains(focus);
      if (!within && (event.key.startsWith("Arrow") || (focus instanceof HTMLElement && focus.matches("input, select, textarea, [role=option]")))) return;
      const lines = [...(list.current?.querySelectorAll<HTMLElement>("a.result") ?? [])];
      const next = lines[within ? Math.max(0, Math.min(lines.length - 1, lines.indexOf(focus) + by)) : 0];
      if (!next) return;
      event.preventDefault();
      next.focus();
    };
    document.addEventListener("keydown", keys);
    return () => document.removeEventListener("keydown", keys);
  }, []);

  return (
    <ol class="results" ref={list} aria-label={plural(traces.length, "trace")}>
      {traces.map((trace) => <Result key={trace.trace_id} trace={trace} most={most} days={days} palette={palette} mark={mark} />)}
    </ol>
  );
}

function Result({ trace, most, days, palette, mark }: {
  trace: TraceSummary; most: number; days: boolean; palette: ReadonlyMap<string, string>; mark: (id: string | null) => void;
}) {
  const services = [...trace.services].sort((one, other) => Number(other.name === trace.service) - Number(one.name === trace.service));
  return (
    <li>
      <a class="result" href={addressOf(trace)} onFocus={() => mark(trace.trace_id)} onBlur={() => mark(null)} onMouseEnter={() => mark(trace.trace_id)} onMouseLeave={() => mark(null)}>
        <span class="result-time muted" title={dateTime(trace.start, true)}>{days ? dateTime(trace.start).slice(5) : clock(trace.start, true)}</span>
        <span class="result-what">
          <span class="result-root clip">{trace.failed && <><Failed label="failed" /> </>}<Title trace={trace} /></span>
          <Matched trace={trace} />
        </span>
        <span class="result-services">
          {services.slice(0, CHIPS).map((service) => (
            <span key={service.name} class={`service-chip tone-${palette.get(service.name) ?? "c1"}`} title={`${service.name}: ${plural(service.spans, "span")}`}><span class="wf-tone" aria-hidden="true" /><span class="clip">{service.name || "no service"}</span></span>
          ))}
          {services.length > CHIPS && <span class="muted" title={services.slice(CHIPS).map((service) => service.name).join(", ")}>+{services.length - CHIPS}</span>}
        </span>
        <span class="result-count">{trace.spans}<span class="muted"> {trace.spans === 1 ? "span" : "spans"}</span></span>
        <span class={`result-errors${trace.errors ? " bad" : " none"}`}>{trace.errors > 0 && <>{trace.errors} {trace.errors === 1 ? "error" : "errors"}</>}</span>
        <span class="result-duration"><span class="result-ms">{duration(trace.duration)}</span><span class="result-bar" aria-hidden="true"><span class={trace.failed ? "failed" : ""} style={{ width: `max(${100 * trace.duration / most}%, 2px)` }} /></span></span>
      </a>
    </li>
  );
}

/** "customers → nginx GET /products/{id}": a client that nobody called knows no route; the first server that it called does. */
function Title({ trace: { service, name, entry } }: { trace: TraceSummary }) {
  return entry
    ? <><span class="wf-service">{service || "no service"} <span class="faint" aria-label="calls">→</span> {entry.service || "no service"}</span> {entry.name || "no name"}</>
    : <><span class="wf-service">{service || "no service"}</span> {name || "no name"}</>;
}

/** The span that was found, where it is not what the trace is named after. */
function Matched({ trace: { matched, service, name, entry } }: { trace: TraceSummary }) {
  if ([{ service, name }, entry].some((one) => one?.service === matched.service && one.name === matched.name)) return null;
  return <span class="result-matched muted clip">{matched.service} {matched.name} <span class="nowrap">{duration(matched.duration)}</span></span>;
}
