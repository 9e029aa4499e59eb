// Search for traces: what is asked for, a scatter of what was found, and a list of it.

import { useEffect, useMemo, useState } from "preact/hooks";
import "../traces/traces.css";
import "../waterfall/waterfall.css";
import type { Traces, TraceSummary, Window } from "../api";
import { useGet } from "../fetch";
import { clock, duration, exact, plural } from "../format";
import { SearchForm } from "../traces/form";
import { rememberSearch } from "../traces/last";
import { addressOf, Results } from "../traces/results";
import { Scatter } from "../traces/scatter";
import { filtersOf, MANY, NOTHING, plainMs, questionOf, searchOf, type Search } from "../traces/search";
import { Gaps } from "../ui/gaps";
import { Empty, ErrorState, Loading } from "../ui/states";
import { go, place, setQuery } from "../url";
import { setRange } from "../window";

export function TracesView() {
  const search = searchOf(place.value.query);
  const { data, error, loading, reload } = useGet<Traces>("traces", questionOf(search), { keep: true });
  useEffect(rememberSearch, [place.value]);
  return (
    <div class="page traces">
      <h1 class="visually-hidden">Traces</h1>
      <SearchForm search={search} />
      <Gaps gaps={data?.gaps} inline />
      <div class="panel found">
        <Loading shown={loading} />
        {error && !data ? <ErrorState error={error} retry={reload} />
          : !data ? <div class="waiting" />
            : data.traces.length === 0 ? <Nothing search={search} />
              : <Found data={data} search={search} />}
        {error && data && <p class="stale bad" role="alert">{error.message} <button type="button" class="link" onClick={reload}>Try again</button></p>}
      </div>
    </div>
  );
}

function Found({ data, search }: { data: Traces; search: Search }) {
  const [marked, setMarked] = useState<string | null>(null);
  // Made once an answer: hundreds of lines are not made again because the pointer moves over them.
  const results = useMemo(() => <Results traces={ordered(data.traces, search.order)} days={data.end - data.start > 864e5} mark={setMarked} />, [data, search.order]);
  const plotted = useMemo(() => (data.complete ? data : stretchOf(data.traces)), [data]);
  const failed = data.traces.filter((trace) => trace.failed).length;
  const inside = data.traces.filter((trace) => !trace.failed && trace.errors > 0).length;
  return (
    <>
      <div class="found-head">
        <p class="grow" role="status">
          {data.complete
            ? <><strong>{plural(data.traces.length, "trace")}</strong><span class="muted">{failed > 0 && <>, {exact(failed)} failed</>}{inside > 0 && <>, {exact(inside)} with errors inside</>}</span></>
            : <><strong>Not complete: more than {exact(data.traces.length)} match.</strong> <span class="muted">The {search.order === "slowest" ? "slowest" : "newest"} {exact(data.traces.length)} are shown; the plot's time is theirs, {clock(plotted.start)} – {clock(plotted.end)}.</span>
              {search.limit < MANY && <> <button type="button" class="link" onClick={() => setQuery({ limit: MANY }, { replace: true })}>Show up to {exact(MANY)}</button></>}</>}
        </p>
        <div class="segments" role="group" aria-label="Order">
          {([["recent", "Newest"], ["slowest", "Slowest"]] as const).map(([order, title]) => (
            <button type="button" key={order} aria-pressed={search.order === order} onClick={() => setQuery({ order: order === "recent" ? null : order })}>{title}</button>
          ))}
        </div>
      </div>
      <Scatter traces={data.traces} window={plotted} marked={marked} open={(trace) => go(addressOf(trace))}
        narrow={(start, end, min, max) => setQuery({ start: Math.floor(start), end: Math.ceil(end), min_ms: plainMs(rounded(min, Math.floor)), max_ms: plainMs(rounded(max, Math.ceil)) })} />
      <p class="hint muted"><span><span class="dot" aria-hidden="true" /> no errors</span><span><span class="bad" aria-hidden="true">◇</span> errors inside</span><span><span class="bad" aria-hidden="true">◆</span> failed</span><span>larger: more spans</span><span>height: duration of the slowest span that fits</span><span class="hint-keys">Click a point to open its trace; drag over points to narrow time and duration. Keys: <kbd>j</kbd> <kbd>k</kbd> <kbd>Enter</kbd></span></p>
      {results}
    </>
  );
}

/** The API orders by the spans that fit; the list, which tells of traces, newest first by their own start. */
function ordered(traces: readonly TraceSummary[], order: Search["order"]): TraceSummary[] {
  return order === "slowest" ? [...traces] : [...traces].sort((one, other) => other.start - one.start);
}

/** From the first to the last: of a window of which only the newest were fetched, the rest would be empty paper. */
function stretchOf(traces: readonly TraceSummary[]): Window {
  const starts = traces.map((trace) => trace.matched.start);
  const start = starts.reduce((least, one) => Math.min(least, one), Infinity);
  const end = starts.reduce((most, one) => Math.max(most, one), -Infinity);
  const margin = Math.max(1, (end - start) / 60);
  return { start: start - margin, end: end + margin };
}

/** Three digits are enough for a brush, rounded so that what was brushed stays in. */
function rounded(ms: number, way: (value: number) => number): number {
  const unit = 10 ** (Math.floor(Math.log10(Math.max(ms, 1e-6))) - 2);
  return way(ms / unit) * unit;
}

function Nothing({ search }: { search: Search }) {
  const filters = filtersOf(search);
  const shorter = search.min_ms !== "" && search.max_ms !== "" && Number(search.min_ms) > Number(search.max_ms);
  return (
    <Empty title={filters.length ? "No trace fits this search" : "No traces in this window"}>
      <p>{shorter ? `Nothing can last at least ${duration(Number(search.min_ms))} and at most ${duration(Number(search.max_ms))}.`
        : filters.length ? "Take something away, or look at a longer time:" : "Nothing was stored for this time. Look at a longer one, or check on the Agent page that data comes in."}</p>
      <p class="row wrap widen">
        {filters.map((filter) => <button type="button" class="button" key={filter.label} onClick={() => setQuery(filter.without)}>Without “{filter.label.slice(0, 60)}”</button>)}
        {filters.length > 1 && <button type="button" class="button" onClick={() => setQuery(NOTHING)}>Clear all</button>}
        <button type="button" class="button" onClick={() => setRange("-24h")}>The last 24 h</button>
      </p>
    </Empty>
  );
}
