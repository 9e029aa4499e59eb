// /services?q=TEXT&kind=KIND&sort=COLUMN

import { StartHere } from "../agent/start";
import "../agent/agent.css";
import type { Service, Services } from "../api";
import { useGet } from "../fetch";
import { duration, errorShare, plural, rate, spanWords } from "../format";
import { Gaps } from "../ui/gaps";
import { ErrorShare, HealthMark } from "../ui/health";
import { Panel } from "../ui/panel";
import { Spark } from "../ui/spark";
import { Empty, ErrorState, Loading } from "../ui/states";
import { Table, type Column } from "../ui/table";
import { at, href, param, setQuery } from "../url";
import { bounds } from "../window";
import "./services.css";

const KINDS = ["service", "database", "messaging"] as const;

const COLUMNS: Column<Service>[] = [
  { id: "name", title: "Name", value: (row) => row.name, cell: (row) => <a class="row" href={href(at("service", row.name))}><HealthMark red={row} /><span>{row.name}</span></a> },
  { id: "kind", title: "Kind", value: (row) => `${row.kind} ${row.system}`, cell: (row) => <span class="muted">{row.kind === "service" ? row.kind : row.system || row.kind}</span> },
  { id: "rate", title: "Rate", number: true, value: (row) => row.rate, cell: (row) => rate(row.rate), hint: "Requests that it served, a second" },
  { id: "errors", title: "Errors", number: true, value: (row) => errorShare(row), cell: (row) => <ErrorShare red={row} />, hint: "Share of these that failed. Of HTTP, 4xx count as failed for the caller, not for the server (OpenTelemetry)" },
  { id: "p50", title: "p50", number: true, value: (row) => row.p50, cell: (row) => duration(row.p50), hint: "Half of the requests took no longer" },
  { id: "p99", title: "p99", number: true, value: (row) => row.p99, cell: (row) => duration(row.p99), hint: "99 of 100 requests took no longer" },
  { id: "spark", title: "Over time", cell: (row) => <Spark values={row.spark} failed={row.spark_failed} width={240} height={26} /> },
];

export function ServicesView() {
  const { data, error, loading, reload } = useGet<Services>("services", {}, { keep: true });
  const text = param("q").trim().toLowerCase();
  const kind = param("kind");
  if (!data) return error ? <ErrorState error={error} retry={reload} /> : <Loading />;
  if (!data.services.length) {
    const { start, end } = bounds();
    return (
      <>
        <Gaps gaps={data.gaps} />
        <Empty title={`No request seen in the last ${spanWords(end - start)}`}><p>Choose a longer window above, see <a href={href("/agent")}>Agent</a> for what was lost, or send data here:</p><StartHere /></Empty>
      </>
    );
  }
  const present = KINDS.filter((one) => data.services.some((service) => service.kind === one));
  const shown = data.services.filter((service) => (!kind || service.kind === kind)
    && (!text || service.name.toLowerCase().includes(text) || service.system.toLowerCase().includes(text)));
  return (
    <>
      <Loading shown={loading} />
      <Gaps gaps={data.gaps} />
      {error && error.status > 0 && <div class="banner bad" role="alert">{error.message}</div>}
      <div class="page">
        <div class="title">
          <h1>Services</h1>
          <span class="muted">{plural(shown.length, "service")}</span>
          <span class="grow" />
          {present.length > 1 && (
            <div class="segments" role="group" aria-label="Kind">
              <button type="button" aria-pressed={!kind} onClick={() => setQuery({ kind: null }, { replace: true })}>all</button>
              {present.map((one) => <button type="button" key={one} aria-pressed={kind === one} onClick={() => setQuery({ kind: one }, { replace: true })}>{one === "messaging" ? one : `${one}s`}</button>)}
            </div>
          )}
          <input class="field" type="search" placeholder="Find a service" aria-label="Find a service" value={param("q")}
            onInput={(event) => setQuery({ q: event.currentTarget.value }, { replace: true })} />
        </div>
        <Panel flush label="Services">
          {shown.length
            ? <Table rows={shown} columns={COLUMNS} caption="Services, with rate, errors and duration of the requests that they served" rowKey={(row) => row.name} order="-rate" limit={1000} />
            : <Empty title="No service has this name" />}
        </Panel>
      </div>
    </>
  );
}
