// All that is known of one span.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Log, Span, Trace } from "../api";
import { clock, dateTime, duration, percent, plural } from "../format";
import { linkInfo } from "../links";
import { Chip } from "../ui/chip";
import { Copy } from "../ui/copy";
import { at, href } from "../url";
import { AttributeList } from "./attributes";
import { total } from "./intervals";
import { betweenWords, Failed, KIND_WORDS, orphanText, outsideText } from "./marks";
import { select, zoom } from "./state";
import { firstByte } from "./timing";
import type { Node, Tree } from "./tree";
import { sqlLines } from "./sql";

/** Shown by themselves, in lines. */
const QUERIES = ["db.query.text", "db.statement"];

export function Details({ node, tree, trace, color }: { node: Node; tree: Tree; trace: Trace; color: string }) {
  const [filter, setFilter] = useState("");
  const { span } = node;
  const logs = trace.logs.filter((log) => log.span_id === span.span_id);
  const { [QUERIES.find((key) => typeof span.attributes[key] === "string") ?? ""]: query, ...rest } = span.attributes;
  return (
    <section class={`details tone-${color}`} aria-label={`Span ${span.service} ${span.name}`}>
      <header>
        <div class="grow">
          <p class="details-kind muted"><span class="wf-tone" aria-hidden="true" /><span>{span.service || "no service"}</span> <span class="muted">{KIND_WORDS[span.kind]}</span></p>
          <h2>{span.name || "no name"}</h2>
        </div>
        <button type="button" class="button plain icon" aria-label="Close the span's details" title="Close" onClick={() => select(null)}>×</button>
      </header>
      {span.status === "error" && <p class="details-error"><Failed label="" /><span><strong>Failed</strong>{span.message && `: ${span.message}`}</span></p>}
      {node.orphan && <p class="details-note">▲ {orphanText(node)}</p>}
      {node.outside > 0 && <p class="details-note">▲ {outsideText(node)}</p>}
      <Timings node={node} tree={tree} />
      <Parent node={node} />
      {typeof query === "string" && query !== "" && (
        <Part title="Query" aside={<Copy text={query} label="Copy the query" />}><pre class="query">{sqlLines(query.slice(0, 4000))}{query.length > 4000 && "…"}</pre></Part>
      )}
      <Part title={`Attributes (${Object.keys(rest).length})`} aside={
        <input class="field small" type="search" placeholder="Filter" aria-label="Filter attributes and resource" value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
      }>
        <AttributeList key={node.key} attributes={rest} filter={filter} searchable />
      </Part>
      {span.events.length > 0 && <Part title={`Events (${span.events.length})`}><Events span={span} /></Part>}
      {logs.length > 0 && <Part title={`Logs of the exchange (${logs.length})`}><Logs logs={logs} start={tree.start} /></Part>}
      {span.links.length > 0 && <Part title={`Links (${span.links.length})`}><Links span={span} /></Part>}
      <Part title={`Resource (${Object.keys(span.resource).length})`}><AttributeList attributes={span.resource} filter={filter} /></Part>
      <details class="raw">
        <summary>Raw</summary>
        <Raw span={span} />
      </details>
    </section>
  );
}

/** Made only when it is opened, and not endless. */
function Raw({ span }: { span: Span }) {
  const text = JSON.stringify(span, null, 2);
  return (
    <>
      <div class="row raw-tools"><span class="muted grow">As /api/v1/traces/… gave it</span><Copy text={text} label="Copy the span as JSON" /></div>
      <pre class="query">{text.slice(0, 20_000)}{text.length > 20_000 && "…"}</pre>
    </>
  );
}

function Part({ title, aside, children }: { title: string; aside?: ComponentChildren; children: ComponentChildren }) {
  return <section class="details-part"><div class="details-title"><h3 class="grow">{title}</h3>{aside}</div>{children}</section>;
}

function Timings({ node, tree }: { node: Node; tree: Tree }) {
  const { span } = node;
  const first = firstByte(span);
  const whole = tree.end - tree.start;
  return (
    <dl class="facts details-times">
      <dt>Starts</dt><dd>+{duration(node.start - tree.start)} <span class="muted">{clock(span.start, true)}</span></dd>
      <dt>Duration</dt><dd><strong>{duration(span.duration)}</strong> <span class="muted">{whole > 0 && `${percent(span.duration / whole)} of the trace`}</span> <button type="button" class="link" onClick={() => zoom(tree, node.start, node.end)}>Zoom to it</button></dd>
      {span.duration < 0 && <><dt>Note</dt><dd class="warn">Ends before it starts, as its sender says</dd></>}
      {node.network === null ? <><dt>Self time</dt><dd>{duration(node.self)} <span class="muted">not covered by spans below</span></dd></>
        : <><dt>Between ends</dt><dd>{duration(node.network)} <span class="muted">{betweenWords(node).long}; {duration(span.duration)} here less {duration(span.duration - node.network)} at the server</span></dd></>}
      {first !== null && <><dt>First byte</dt><dd>{duration(first)} <span class="muted">of the response, after the request's first</span></dd></>}
      <dt>Critical path</dt><dd>{node.critical ? `${duration(total(node.critical))} of it` : <span class="muted">not on it</span>}</dd>
      <dt>Span ID</dt><dd class="mono">{span.span_id} <Copy text={span.span_id} label="Copy the span ID" /></dd>
    </dl>
  );
}

function Parent({ node }: { node: Node }) {
  const link = linkInfo(node.span);
  if (!node.parent && !link) return null;
  return (
    <Part title="Parent">
      {node.parent && <p class="parent"><button type="button" class="link clip" onClick={() => select(node.parent)}>{node.parent.span.service} · {node.parent.span.name}</button></p>}
      {link
        ? <p class="muted"><Chip>{link.method}</Chip> {link.confidence && <span>confidence {link.confidence}{link.candidates && ", "}</span>}{link.candidates && <span>candidates {link.candidates}</span>} <span>{link.means}</span></p>
        : <p class="muted">Named by the span's own sender.</p>}
    </Part>
  );
}

function Events({ span }: { span: Span }) {
  return (
    <ol class="events">
      {span.events.slice(0, 200).map((event, index) => (
        <li key={index}>
          <p><span class="muted">+{duration(event.time - span.start)}</span> <strong>{event.name}</strong></p>
          {Object.keys(event.attributes).length > 0 && <AttributeList attributes={event.attributes} />}
        </li>
      ))}
    </ol>
  );
}

const severity = (number: number): "bad" | "warn" | "" => (number >= 17 ? "bad" : number >= 13 ? "warn" : "");
const severityWord = (number: number): string => ["–", "trace", "debug", "info", "warn", "error", "fatal"][Math.min(6, Math.ceil(number / 4))] ?? "–";

export function Logs({ logs, start }: { logs: readonly Log[]; start: number }) {
  return (
    <ol class="events">
      {logs.slice(0, 200).map((log, index) => (
        <li key={index}>
          <p class="log"><span class="muted" title={dateTime(log.time, true)}>+{duration(log.time - start)}</span> <Chip tone={severity(log.severity)}>{severityWord(log.severity)}</Chip> <span class="log-body">{log.body.slice(0, 2000)}{log.body.length > 2000 && "…"}</span></p>
          {Object.keys(log.attributes).length > 0 && <details><summary class="muted">{plural(Object.keys(log.attributes).length, "attribute")}</summary><AttributeList attributes={log.attributes} /></details>}
        </li>
      ))}
      {logs.length > 200 && <li class="muted">200 of {logs.length} are shown.</li>}
    </ol>
  );
}

function Links({ span }: { span: Span }) {
  return (
    <ul class="events">
      {span.links.slice(0, 100).map((link, index) => (
        <li key={index}>
          <p><a class="mono" href={href(at("trace", link.trace_id), { span: link.span_id })}>{link.trace_id}</a></p>
          {Object.keys(link.attributes).length > 0 && <AttributeList attributes={link.attributes} />}
        </li>
      ))}
      {span.links.length > 100 && <li class="muted">100 of {span.links.length} are shown.</li>}
    </ul>
  );
}
