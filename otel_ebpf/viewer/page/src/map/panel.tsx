// What is known of the node or edge that was chosen: its numbers over time, its operations, its slowest and failing traces.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Red, RedSeries, ServiceDetail, TraceSummary, Traces } from "../api";
import { useGet } from "../fetch";
import { ago, count, duration, errorShare, percent, plural, rate } from "../format";
import { RedPlots } from "../plot/red";
import { ErrorShare, HEALTH_WORDS, health, HealthMark } from "../ui/health";
import { ErrorState, Loading } from "../ui/states";
import { at, href, type Params } from "../url";
import type { Graph, GraphEdge, GraphNode } from "./graph";
import { kindOf, redWords } from "./words";

const HTTP = /^(https?|)$/;
const STEPS = 60;
const SHOWN = 6;

export function Side({ title, kind, red, close, children }: {
  title: ComponentChildren; kind: ComponentChildren; red: Red; close: () => void; children: ComponentChildren;
}) {
  const box = useRef<HTMLElement>(null);
  useEffect(() => {
    const escape = (event: KeyboardEvent): void => { if (event.key === "Escape") close(); };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  });
  useEffect(() => box.current?.focus({ preventScroll: true }), []);
  const state = health(red);
  return (
    <aside class="side" aria-label="Details" ref={box} tabIndex={-1}>
      <header>
        <div class="grow">
          <h2 class="side-title">{title}</h2>
          <div class="row muted"><HealthMark red={red} /><span>{HEALTH_WORDS[state]}</span><span class="faint">·</span><span class="clip">{kind}</span></div>
        </div>
        <button type="button" class="button icon plain" aria-label="Close" title="Close (Esc)" onClick={close}>✕</button>
      </header>
      <div class="side-body">{children}</div>
    </aside>
  );
}

export function Figures({ red, atMost = false }: { red: Red; atMost?: boolean }) {
  const upTo = atMost ? "≤ " : "";
  return (
    <dl class="figures">
      <div><dt>Rate</dt><dd>{rate(red.rate)}</dd></div>
      <div><dt>Errors</dt><dd><ErrorShare red={red} /></dd></div>
      <div><dt>p50</dt><dd>{red.p50 === null ? "–" : upTo + duration(red.p50)}</dd></div>
      <div><dt>p99</dt><dd>{red.p99 === null ? "–" : upTo + duration(red.p99)}</dd></div>
    </dl>
  );
}

export function Over({ params }: { params: Params }) {
  const { data, error, loading, reload } = useGet<RedSeries>("red", { ...params, steps: STEPS });
  if (error && !data) return <ErrorState error={error} retry={reload} />;
  return (
    <section aria-label="Over time">
      <Loading shown={loading && !data} />
      {data && <RedPlots series={data} height={96} />}
    </section>
  );
}

export function TraceLists({ params }: { params: Params }) {
  const slowest = useGet<Traces>("traces", { ...params, order: "slowest", limit: SHOWN });
  const failing = useGet<Traces>("traces", { ...params, status: "error", order: "recent", limit: SHOWN });
  return (
    <>
      <TraceList title="Slowest traces" traces={slowest.data?.traces} more={href("/traces", { ...params, order: "slowest" })} none="No trace in this window." />
      <TraceList title="Failing traces" traces={failing.data?.traces} more={href("/traces", { ...params, status: "error" })} none="None failed in this window." />
    </>
  );
}

function TraceList({ title, traces, more, none }: { title: string; traces: TraceSummary[] | undefined; more: string; none: string }) {
  const now = Date.now();
  return (
    <section class="list">
      <div class="row"><h3 class="grow">{title}</h3><a href={more}>All</a></div>
      {!traces && <Loading />}
      {traces?.length === 0 && <p class="muted">{none}</p>}
      <ul>
        {traces?.map((trace) => (
          <li key={trace.trace_id}>
            <a class="line" href={href(at("trace", trace.trace_id), { span: trace.matched.span_id })}>
              <HealthMark red={{ calls: trace.spans, failed: trace.errors }} />
              <span class="grow clip">{trace.matched.name || trace.name}</span>
              <span class="faint">{ago(trace.start, now)}</span>
              <span class="line-value">{duration(trace.matched.duration)}</span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function OperationList({ title, operations, link, more }: {
  title: string; operations: (Red & { name: string })[]; link: (name: string) => string; more?: string;
}) {
  const most = [...operations].sort((one, other) => other.rate - one.rate).slice(0, SHOWN);
  if (!most.length) return null;
  return (
    <section class="list">
      <div class="row"><h3 class="grow">{title}</h3>{more && <a href={more}>All {operations.length}</a>}</div>
      <ul>
        {most.map((one) => (
          <li key={one.name}>
            <a class="line" href={link(one.name)} aria-label={`${one.name}: ${redWords(one)}`}>
              <HealthMark red={one} />
              <span class="grow clip mono" title={one.name}>{one.name}</span>
              <span class="faint">{rate(one.rate)}</span>
              <span class="line-value">{duration(one.p99)}</span>
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function EdgeList({ title, edges, other, graph, open }: {
  title: string; edges: readonly GraphEdge[]; other: "client" | "server"; graph: Graph; open: (edge: GraphEdge) => void;
}) {
  if (!edges.length) return null;
  const most = [...edges].sort((one, two) => two.rate - one.rate);
  return (
    <section class="list">
      <h3>{title} <span class="faint">{edges.length}</span></h3>
      <ul>
        {most.slice(0, 12).map((edge) => (
          <li key={edge.id}>
            <button type="button" class="line" onClick={() => open(edge)} aria-label={`${graph.byId.get(edge[other])?.name ?? edge[other]}: ${redWords(edge)}`}>
              <HealthMark red={edge} />
              <span class="grow clip">{graph.byId.get(edge[other])?.name ?? edge[other]}</span>
              <span class="faint">{rate(edge.rate)}</span>
              <span class="line-value">{duration(edge.p99)}</span>
            </button>
          </li>
        ))}
      </ul>
      {most.length > 12 && <p class="muted">and {most.length - 12} more</p>}
    </section>
  );
}

export function NodePanel({ node, graph, close, openEdge, unfold }: {
  node: GraphNode; graph: Graph; close: () => void; openEdge: (edge: GraphEdge) => void; unfold: (group: string) => void;
}) {
  const own = node.kind === "service" || node.kind === "database" || node.kind === "messaging";
  const { data } = useGet<ServiceDetail>(own ? `services/${encodeURIComponent(node.id)}` : null);
  const into = graph.into.get(node.id) ?? [];
  const out = graph.out.get(node.id) ?? [];
  // Databases and outside peers send no spans of their own: what is known of them was seen at the other end.
  const here: Params = node.kind === "service" ? { service: node.id } : into.length ? { server: node.id } : { client: node.id };
  return (
    <Side title={node.name} kind={node.kind === "group" ? plural(node.members, "node") : kindOf(node)} red={node} close={close}>
      <Figures red={node} atMost={node.members > 1} />
      {node.guessed && <p class="muted">What it is ({node.system}) is a guess by its well-known port.</p>}
      <div class="row wrap">
        {own && <a class="button" href={href(at("service", node.id))}>Service page</a>}
        {node.kind !== "group" && <a class="button" href={href("/traces", here)}>Traces</a>}
        {node.kind === "group" && <button type="button" class="button" onClick={() => unfold(node.name)}>Unfold</button>}
      </div>
      {node.kind !== "group" && <Over params={here} />}
      {own && data && <OperationList title={node.kind === "database" ? "Queries" : "Operations"} operations={data.serves}
        more={href(at("service", node.id))} link={(name) => href("/traces", { ...here, operation: name })} />}
      <EdgeList title="Called by" edges={into} other="client" graph={graph} open={openEdge} />
      <EdgeList title="Calls" edges={out} other="server" graph={graph} open={openEdge} />
      {node.kind !== "group" && <TraceLists params={here} />}
    </Side>
  );
}

/** Operations of an edge, as the traces that took it have them: the API counts operations by service, not by edge. */
function operationsOf(traces: readonly TraceSummary[]): { name: string; traces: number; failed: number; slowest: number }[] {
  const all = new Map<string, { name: string; traces: number; failed: number; slowest: number }>();
  for (const { matched, failed } of traces) {
    const one = all.get(matched.name) ?? { name: matched.name, traces: 0, failed: 0, slowest: 0 };
    one.traces += 1;
    one.failed += failed ? 1 : 0;
    one.slowest = Math.max(one.slowest, matched.duration);
    all.set(matched.name, one);
  }
  return [...all.values()].sort((one, other) => other.traces - one.traces);
}

export function EdgePanel({ edge, graph, close, openNode }: { edge: GraphEdge; graph: Graph; close: () => void; openNode: (id: string) => void }) {
  const single = edge.members === 1 && graph.byId.get(edge.client)?.kind !== "group" && graph.byId.get(edge.server)?.kind !== "group";
  const params = { client: edge.client, server: edge.server };
  const recent = useGet<Traces>(single ? "traces" : null, { ...params, limit: 100 }, { poll: false });
  const name = (id: string) => <button type="button" class="name" onClick={() => openNode(id)}>{graph.byId.get(id)?.name ?? id}</button>;
  return (
    <Side title={<>{name(edge.client)} <span class="faint" aria-label="calls">→</span> {name(edge.server)}</>} red={edge} close={close}
      kind={[edge.system, edge.connection_type.replace("_", " "), edge.members > 1 ? plural(edge.members, "edge") : ""].filter(Boolean).join(", ") || "calls"}>
      <Figures red={edge} atMost={edge.members > 1} />
      <p class="muted">{count(edge.calls)} calls, {count(edge.failed)} failed ({percent(errorShare(edge))}) in this window.{HTTP.test(edge.system) && edge.failed > 0 && " A 4xx counts as failed for the caller, not for the server (OpenTelemetry)."}</p>
      {single
        ? (
          <>
            <div class="row"><a class="button" href={href("/traces", params)}>Traces</a></div>
            <Over params={params} />
            {recent.data && recent.data.traces.length > 0 && (
              <section class="list">
                <h3>Operations <span class="faint">in the last {plural(recent.data.traces.length, "trace")}</span></h3>
                <ul>
                  {operationsOf(recent.data.traces).slice(0, SHOWN).map((one) => (
                    <li key={one.name}>
                      <a class="line" href={href("/traces", { ...params, operation: one.name })}>
                        <HealthMark red={{ calls: one.traces, failed: one.failed }} />
                        <span class="grow clip mono" title={one.name}>{one.name}</span>
                        <span class="faint">{one.traces}×</span>
                        <span class="line-value">≤ {duration(one.slowest)}</span>
                      </a>
                    </li>
                  ))}
                </ul>
              </section>
            )}
            <TraceLists params={params} />
          </>
        )
        : <p class="muted">A folded group is at one end of this edge. Unfold it to see what is behind it.</p>}
    </Side>
  );
}
