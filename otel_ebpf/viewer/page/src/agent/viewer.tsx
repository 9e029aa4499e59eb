// The viewer's own state: its store, what comes in, and where OTLP is taken.

import type { ComponentChildren } from "preact";
import type { Status } from "../api";
import { ago, bytes, dateTime, percent, plural, rate, span } from "../format";
import { Copy } from "../ui/copy";
import { Panel } from "../ui/panel";
import { Meter } from "./meter";

export function Viewer({ status }: { status: Status }) {
  const { store, ingest, listen, now } = status;
  const share = store.limit_bytes > 0 ? store.bytes / store.limit_bytes : 0;
  return (
    <Panel title="This viewer" aside={<span class="muted">{status.version} · up {span(now - status.started)}</span>}>
      <div class="viewer">
        <section aria-label="Store">
          <h3>Store</h3>
          {/* A full store is no trouble: the oldest data gives way. */}
          <Meter label="Size" ratio={share}><span>{bytes(store.bytes)} of {bytes(store.limit_bytes)} <span class="muted">({percent(share)})</span></span></Meter>
          <dl class="facts">
            <dt>Holds</dt><dd>{plural(store.spans, "span")}, {plural(store.logs, "log")}, {plural(store.points, "data point")}</dd>
            <dt>Oldest</dt><dd>{store.oldest === null ? <span class="muted">nothing is stored yet</span> : <>{ago(store.oldest, now)} <span class="muted">{dateTime(store.oldest)}</span></>}</dd>
            <dt>File</dt><dd class="mono">{store.path}</dd>
          </dl>
        </section>
        <section aria-label="Ingest">
          <h3>Comes in</h3>
          <dl class="facts">
            <dt>Now</dt><dd><strong>{rate(ingest.spans_per_second)}</strong> spans</dd>
            <dt>Accepted</dt><dd>{plural(ingest.accepted, "item")} <span class="muted">since the start</span></dd>
            <dt>Refused</dt><dd>{ingest.refused > 0 ? <span class="bad">◆ {plural(ingest.refused, "item")}</span> : <span>none</span>}</dd>
          </dl>
        </section>
        <section aria-label="Addresses">
          <h3>Takes OTLP at</h3>
          <dl class="facts">
            <dt>gRPC</dt><dd><Address address={listen.grpc} prefix="http://" /></dd>
            <dt>HTTP</dt><dd><Address address={listen.http} prefix="http://" /></dd>
          </dl>
        </section>
      </div>
    </Panel>
  );
}

export function Address({ address, prefix }: { address: string; prefix: string }): ComponentChildren {
  if (address === "") return <span class="muted">not taken</span>;
  return <span class="address"><span class="mono">{address}</span> <Copy text={prefix + address} label={`Copy ${prefix}${address}`} /></span>;
}

