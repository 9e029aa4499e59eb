// /service/NAME?tab=TAB&op=OPERATION: what a service serves and calls, and how that goes over time.

import type { MapEdge, Operation, RedSeries, Service, ServiceDetail } from "../api";
import { useGet } from "../fetch";
import { duration, errorShare, rate } from "../format";
import { Figures, TraceLists } from "../map/panel";
import { Heat } from "../plot/heat";
import { RedPlots } from "../plot/red";
import type { Cell } from "../plot/steps";
import { Chip } from "../ui/chip";
import { Gaps } from "../ui/gaps";
import { ErrorShare, HealthMark, HEALTH_WORDS, health } from "../ui/health";
import { Panel } from "../ui/panel";
import { Empty, ErrorState, Loading } from "../ui/states";
import { Table, type Column } from "../ui/table";
import { chosenTab, Tabs } from "../ui/tabs";
import { at, go, href, param, type Params, setQuery } from "../url";
import "./services.css";

const STEPS = 96;

export function ServiceView({ name }: { name: string }) {
  const { data, error, loading, reload } = useGet<ServiceDetail>(`services/${encodeURIComponent(name)}`, {}, { keep: true });
  if (!data) return error ? <ErrorState error={error} retry={reload} /> : <Loading />;
  const { service } = data;
  const tabs = [
    { id: "overview", title: "Overview" },
    { id: "serves", title: service.kind === "database" ? "Queries" : "Routes", count: data.serves.length },
    { id: "calls", title: "Calls", count: data.calls.length },
    { id: "peers", title: "Callers and callees", count: data.callers.length + data.callees.length },
    { id: "resources", title: "Resources", count: service.resources.length },
  ];
  const tab = chosenTab(tabs);
  return (
    <>
      <Loading shown={loading} />
      <Gaps gaps={data.gaps} />
      {error && error.status > 0 && <div class="banner bad" role="alert">{error.message}</div>}
      <div class="page">
        <div class="title">
          <a class="muted" href={href("/services")}>Services</a><span class="faint" aria-hidden="true">/</span>
          <h1>{service.name}</h1>
          <Chip tone={{ idle: "", ok: "ok", warn: "warn", bad: "bad" }[health(service)] as "" | "ok" | "warn" | "bad"}><span class="row"><HealthMark red={service} />{HEALTH_WORDS[health(service)]}</span></Chip>
          <span class="muted">{[service.kind, service.kind === "service" ? "" : service.system].filter(Boolean).join(", ")}</span>
          <span class="grow" />
          <a class="button" href={href("/map", { node: service.name })}>On the map</a>
          <a class="button" href={href("/traces", spansOf(service))}>Traces</a>
        </div>
        <Tabs tabs={tabs} label="Service" />
        <div id={`panel-${tab}`} role="tabpanel" class="tab-panel">
          {tab === "overview" && <Overview detail={data} />}
          {tab === "serves" && <Operations detail={data} operations={data.serves} what={service.kind === "database" ? "Queries" : "Routes"} />}
          {tab === "calls" && <Operations detail={data} operations={data.calls} what="Calls" />}
          {tab === "peers" && <Peers detail={data} />}
          {tab === "resources" && <Resources resources={service.resources} />}
        </div>
      </div>
    </>
  );
}

/** What names a service's spans in a search. A database sends none itself: it is the server of others' spans. */
const spansOf = (service: Service): Params => (service.kind === "service" ? { service: service.name } : { server: service.name });

function tracesOf(service: Service, operation: string, cell: Cell): string {
  return href("/traces", {
    ...spansOf(service), operation, start: Math.floor(cell.start), end: Math.ceil(cell.end),
    min_ms: cell.from > 0 ? cell.from : null, max_ms: Number.isFinite(cell.to) ? cell.to : null,
  });
}

/** RED and heat map, of the whole service or of one operation (`op` in the address). */
function Overview({ detail }: { detail: ServiceDetail }) {
  const { service } = detail;
  const operation = param("op");
  const kind = param("kind");
  const { data, error, loading, reload } = useGet<RedSeries>("red", { service: service.name, operation, kind, steps: STEPS }, { keep: true });
  const chosen = [...detail.serves, ...detail.calls].find((one) => one.name === operation && (!kind || one.kind === kind));
  return (
    <>
      {operation && <div class="row wrap"><Chip remove={{ label: "All operations", action: () => setQuery({ op: null, kind: null }) }}>{operation}</Chip></div>}
      <Figures red={chosen ?? service} />
      {error && !data && <ErrorState error={error} retry={reload} />}
      {loading && !data && <Loading />}
      {data && (
        <>
          <Panel><div class="grid three"><RedPlots series={data} height={150} /></div></Panel>
          <Panel title="Durations" aside={<HeatKey />}><Heat series={data} open={(cell) => go(tracesOf(service, operation, cell))} /></Panel>
        </>
      )}
      <div class="grid two roomy">
        <Panel title={service.kind === "database" ? "Top queries" : "Top routes"} flush aside={<a href={href(at("service", service.name), { tab: "serves" })}>All</a>}>
          {detail.serves.length
            ? <Table rows={detail.serves} columns={operationColumns(service.name)} caption="Operations" rowKey={keyOf} order="-rate" name="ops" dense limit={8} />
            : <Empty title="It served nothing in this window" />}
        </Panel>
        <Panel><div class="lists"><TraceLists params={{ ...spansOf(service), operation }} /></div></Panel>
      </div>
    </>
  );
}

function HeatKey() {
  return (
    <span class="row muted heat-key"><span>few</span>{[1, 2, 3, 4].map((shade) => <i key={shade} class={`heat-${shade}`} />)}<span>many requests</span></span>
  );
}

const keyOf = (operation: Operation): string => `${operation.kind} ${operation.name}`;

const operationColumns = (service: string): Column<Operation>[] => [
  { id: "name", title: "Operation", wide: true, value: (row) => row.name, cell: (row) => (
    <a class="mono" title={row.name} href={href(at("service", service), { op: row.name, kind: row.kind })}><HealthMark red={row} /> {row.name || "(no name)"}</a>) },
  { id: "rate", title: "Rate", number: true, value: (row) => row.rate, cell: (row) => rate(row.rate) },
  { id: "errors", title: "Errors", number: true, value: (row) => errorShare(row), cell: (row) => <ErrorShare red={row} /> },
  { id: "p50", title: "p50", number: true, value: (row) => row.p50, cell: (row) => duration(row.p50) },
  { id: "p99", title: "p99", number: true, value: (row) => row.p99, cell: (row) => duration(row.p99) },
];

function Operations({ detail, operations, what }: { detail: ServiceDetail; operations: readonly Operation[]; what: string }) {
  const { service } = detail;
  const columns = operationColumns(service.name);
  columns.splice(1, 0, { id: "kind", title: "Kind", value: (row) => `${row.kind} ${row.system}`, cell: (row) => <span class="muted">{[row.system, row.kind].filter(Boolean).join(", ")}</span> });
  columns.push({ id: "traces", title: "", cell: (row) => <a href={href("/traces", { ...spansOf(service), operation: row.name })}>Traces</a> });
  if (!operations.length) return <Panel><Empty title={what === "Calls" ? "It called nothing in this window" : "It served nothing in this window"} /></Panel>;
  return <Panel flush label={what}><Table rows={operations} columns={columns} caption={what} rowKey={keyOf} order="-rate" limit={1000} /></Panel>;
}

function Peers({ detail }: { detail: ServiceDetail }) {
  const columns = (other: "client" | "server"): Column<MapEdge>[] => [
    { id: "name", title: other === "client" ? "Caller" : "Callee", value: (row) => row[other], cell: (row) => (
      <a class="row" href={href("/map", { from: row.client, to: row.server })}><HealthMark red={row} /><span>{row[other]}</span></a>) },
    { id: "system", title: "By", value: (row) => row.system, cell: (row) => <span class="muted">{row.system}</span> },
    { id: "rate", title: "Rate", number: true, value: (row) => row.rate, cell: (row) => rate(row.rate) },
    { id: "errors", title: "Errors", number: true, value: (row) => errorShare(row), cell: (row) => <ErrorShare red={row} /> },
    { id: "p50", title: "p50", number: true, value: (row) => row.p50, cell: (row) => duration(row.p50) },
    { id: "p99", title: "p99", number: true, value: (row) => row.p99, cell: (row) => duration(row.p99) },
    { id: "traces", title: "", cell: (row) => <a href={href("/traces", { client: row.client, server: row.server })}>Traces</a> },
  ];
  return (
    <div class="grid two roomy">
      <Panel title="Who calls it" flush>
        {detail.callers.length ? <Table rows={detail.callers} columns={columns("client")} caption="Callers" rowKey={(row) => row.client} order="-rate" name="callers" dense /> : <Empty title="Nobody, in this window" />}
      </Panel>
      <Panel title="Whom it calls" flush>
        {detail.callees.length ? <Table rows={detail.callees} columns={columns("server")} caption="Callees" rowKey={(row) => row.server} order="-rate" name="callees" dense /> : <Empty title="Nobody, in this window" />}
      </Panel>
    </div>
  );
}

function Resources({ resources }: { resources: readonly Record<string, unknown>[] }) {
  if (!resources.length) return <Panel><Empty title="It has no resource attributes"><p>Databases and brokers are known by what calls them, without a resource of their own.</p></Empty></Panel>;
  return (
    <div class="grid two">
      {resources.map((resource, index) => (
        <Panel key={index} title={String(resource["service.instance.id"] ?? resource["host.name"] ?? `Resource ${index + 1}`)}>
          <dl class="facts">
            {Object.entries(resource).sort(([one], [other]) => one.localeCompare(other)).map(([key, value]) => (
              <><dt class="mono" key={key}>{key}</dt><dd class="mono">{typeof value === "string" ? value : JSON.stringify(value)}</dd></>
            ))}
          </dl>
        </Panel>
      ))}
    </div>
  );
}
