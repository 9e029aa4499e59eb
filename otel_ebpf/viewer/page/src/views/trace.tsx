// A trace: its tree over time, where the time went, and all that is known of a span.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import "../waterfall/waterfall.css";
import "../waterfall/details.css";
import type { Trace } from "../api";
import { useGet, type Failure } from "../fetch";
import { dateTime, duration, plural } from "../format";
import { useMedia } from "../media";
import { lastSearch } from "../traces/last";
import { Copy } from "../ui/copy";
import { Gaps } from "../ui/gaps";
import { Panel } from "../ui/panel";
import { Empty, ErrorState, Loading } from "../ui/states";
import { chosenTab, Tabs } from "../ui/tabs";
import { param, setQuery } from "../url";
import { Details, Logs } from "../waterfall/details";
import { findSpans } from "../waterfall/find";
import { Failed } from "../waterfall/marks";
import { Minimap } from "../waterfall/minimap";
import { paletteOf } from "../waterfall/palette";
import { select, selectedOf, viewOf } from "../waterfall/state";
import { Legend, ServiceTimes } from "../waterfall/summary";
import { SpanTable } from "../waterfall/table";
import { treeOf, type Node, type Tree } from "../waterfall/tree";
import { Waterfall } from "../waterfall/waterfall";

const TABS = [{ id: "waterfall", title: "Waterfall" }, { id: "table", title: "Table" }];

const YOUNG_MS = 15_000;
const AGAIN_MS = 3000;

export function TraceView({ id }: { id: string }) {
  const [opened] = useState(Date.now);
  const [young, setYoung] = useState(true);
  const { data, error, loading, reload } = useGet<Trace>(`traces/${encodeURIComponent(id)}`, {}, { poll: young ? AGAIN_MS : false, windowed: false });
  // Spans of a trace that ended just now may still be on their way; one that is over is asked for once.
  useEffect(() => {
    const now = Date.now();
    const ended = data ? data.spans.reduce((most, span) => Math.max(most, span.start + span.duration), 0) : error?.status === 404 ? now : 0;
    if (data || error) setYoung(now - opened < YOUNG_MS && now - ended < YOUNG_MS);
  }, [data, error]);
  if (data && data.spans.length > 0) return <Shown trace={data} />;
  return (
    <>
      <Loading shown={loading} />
      {error ? <Missing id={id} error={error} retry={reload} /> : !loading && <Empty title="This trace has no spans"><p><a href={lastSearch()}>Back to the search</a></p></Empty>}
    </>
  );
}

function Missing({ id, error, retry }: { id: string; error: Failure; retry: () => void }) {
  if (error.status !== 404) return <ErrorState error={error} retry={retry} />;
  return (
    <Empty title="This trace is not here">
      <p class="mono">{id}</p>
      <p>It may be older than what the store keeps, sampled out, or not yet here: a trace that was live a moment ago is whole within seconds.</p>
      <p class="row"><button type="button" class="button" onClick={retry}>Look again</button><a class="button" href={lastSearch()}>Back to the search</a></p>
    </Empty>
  );
}

function Shown({ trace }: { trace: Trace }) {
  const tree = useMemo(() => treeOf(trace), [trace]);
  const palette = useMemo(() => paletteOf(tree.services.map((service) => service.name)), [tree]);
  const selected = selectedOf(tree);
  const text = param("find");
  const found = useMemo(() => findSpans(tree, text), [tree, text]);
  const narrow = useMedia("(max-width: 640px)");
  const view = viewOf(tree);
  const tab = chosenTab(TABS, "view");
  return (
    <div class="trace">
      <Head trace={trace} tree={tree} />
      <Notes trace={trace} tree={tree} />
      <div class="trace-body">
        <div class="trace-left panel">
          <div class="trace-tools">
            <Tabs tabs={TABS} name="view" label="How spans are shown" />
            <Find tree={tree} found={found} selected={selected} text={text} />
          </div>
          {tab === "waterfall" ? (
            <div id="panel-waterfall" role="tabpanel" aria-label="Waterfall" class="trace-panel">
              <Minimap tree={tree} palette={palette} view={view} />
              <Waterfall tree={tree} palette={palette} view={view} selected={selected} found={found} narrow={narrow} />
              <Legend />
            </div>
          ) : <div id="panel-table" role="tabpanel" aria-label="Table" class="trace-panel table"><SpanTable tree={tree} palette={palette} selected={selected} found={found} /></div>}
        </div>
        <aside class="trace-right panel" aria-label={selected ? "Span" : "Summary"}>
          {selected ? <Details key={selected.key} node={selected} tree={tree} trace={trace} color={palette.get(selected.span.service) ?? "c1"} /> : <Summary trace={trace} tree={tree} palette={palette} />}
        </aside>
      </div>
    </div>
  );
}

function Head({ trace, tree }: { trace: Trace; tree: Tree }) {
  const root = tree.main?.span;
  const entry = tree.entry?.span;
  const shown = entry ?? root;
  return (
    <div class="trace-head">
      <div class="trace-title">
        <a class="back" href={lastSearch()}>← Traces</a>
        <h1 class="clip" title={shown ? `${entry ? `${root?.service} → ` : ""}${shown.service} · ${shown.name}` : ""}>{root?.status === "error" && <Failed label="failed: " />}<span class="trace-root">{entry && <>{root?.service} <span aria-label="calls">→</span> </>}{shown?.service}</span> <span>{shown?.name}</span></h1>
        <div class="row trace-actions">
          <Copy text={() => window.location.href} label="Copy link to this view">Copy link</Copy>
          <a class="button" href={`/api/v1/traces/${encodeURIComponent(trace.trace_id)}`} target="_blank" rel="noopener">Open JSON</a>
        </div>
      </div>
      <dl class="trace-facts">
        <div><dt>Start</dt><dd>{dateTime(tree.start, true)}</dd></div>
        <div><dt>Duration</dt><dd><strong>{duration(tree.end - tree.start)}</strong></dd></div>
        <div><dt>Spans</dt><dd>{tree.nodes.length}</dd></div>
        <div><dt>Services</dt><dd>{tree.services.length}</dd></div>
        <div><dt>Errors</dt><dd class={tree.errors ? "bad" : ""}>{tree.errors > 0 && <Failed label="" />} {tree.errors}</dd></div>
        <div class="trace-id"><dt>Trace ID</dt><dd class="mono"><span class="clip">{trace.trace_id}</span> <Copy text={trace.trace_id} label="Copy the trace ID" /></dd></div>
      </dl>
    </div>
  );
}

/** What the tree cannot show of itself. */
function Notes({ trace, tree }: { trace: Trace; tree: Tree }) {
  const missing = tree.orphans.filter((node) => node.orphan === "missing");
  const [first] = missing;
  return (
    <>
      <Gaps gaps={trace.gaps} inline />
      {first && (
        <p class="note"><span class="warn" aria-hidden="true">▲</span><span>
          {missing.length === 1 ? <>Parent <code>{first.span.parent_id}</code> of <Jump node={first} /> is not here (sampled out, not yet arrived, or lost); the span is shown as a further root.</>
            : <>The parents of {plural(missing.length, "span")} are not here (sampled out, not yet arrived, or lost), the first: <code>{first.span.parent_id}</code> of <Jump node={first} />. They are shown as further roots.</>}
        </span></p>
      )}
      {tree.orphans.length > missing.length && <p class="note"><span class="warn" aria-hidden="true">▲</span><span>{plural(tree.orphans.length - missing.length, "span names a parent that is", "spans name parents that are")} below itself: shown as further roots.</span></p>}
      {tree.repeated > 0 && <p class="note"><span class="warn" aria-hidden="true">▲</span><span>{plural(tree.repeated, "span")} came more than once, exactly alike, and {tree.repeated === 1 ? "is" : "are"} shown once.</span></p>}
      <Outside nodes={tree.skewed} title="Clocks differ:">Times are shown as they came; what is between the ends does not depend on them.</Outside>
      <Outside nodes={tree.outlasting} title="">Both ends are on one host, so it is not for their clocks: the server went on after the client had its answer, or an end was not seen right.</Outside>
    </>
  );
}

function Outside({ nodes, title, children }: { nodes: readonly Node[]; title: string; children: ComponentChildren }) {
  const [first] = nodes;
  if (!first) return null;
  return (
    <p class="note"><span class="warn" aria-hidden="true">▲</span><span>
      {title} {plural(nodes.length, "server span")} {nodes.length === 1 ? "is" : "are"} up to {duration(Math.max(...nodes.map((node) => node.outside)))} outside the client's{nodes.length > 1 && ", the first"}: <Jump node={first} />. {children}
    </span></p>
  );
}

function Jump({ node }: { node: Node }) {
  return <button type="button" class="link" onClick={() => select(node)}>{node.span.service} · {node.span.name.slice(0, 80)}</button>;
}

function Find({ tree, found, selected, text }: { tree: Tree; found: ReadonlySet<Node> | null; selected: Node | null; text: string }) {
  const all = found ? tree.nodes.filter((node) => found.has(node)) : [];
  const next = (by: number): void => {
    if (all.length === 0) return;
    const now = selected ? all.indexOf(selected) : -1;
    select(all[(now + by + all.length) % all.length] ?? null);
  };
  return (
    <div class="row find">
      {found && <span class="muted" role="status">{found.size === 0 ? "none" : `${found.size} of ${tree.nodes.length}`}</span>}
      <input class="field" type="search" placeholder="Find in the trace" aria-label="Find spans by service, name or attribute; Enter goes to the next" value={text}
        onInput={(event) => setQuery({ find: event.currentTarget.value }, { replace: true })}
        onKeyDown={(event) => { if (event.key === "Enter") { event.preventDefault(); next(event.shiftKey ? -1 : 1); } }} />
    </div>
  );
}

function Summary({ trace, tree, palette }: { trace: Trace; tree: Tree; palette: ReadonlyMap<string, string> }) {
  const logs = trace.logs.filter((log) => !tree.nodes.some((node) => node.span.span_id === log.span_id));
  return (
    <>
      <Panel title="Time by service" label="Time by service"><ServiceTimes tree={tree} palette={palette} /></Panel>
      <p class="muted hint">Choose a span to see all that is known of it.</p>
      {logs.length > 0 && <Panel title={`Logs of no span here (${logs.length})`}><Logs logs={logs} start={tree.start} /></Panel>}
    </>
  );
}

