// The filter, in the language of `otel-ebpf tap`.

import { useEffect, useState } from "preact/hooks";
import { setQuery } from "../url";

const EXAMPLES = [
  { filter: "error=true", title: "Failed" }, { filter: "duration>100ms", title: "Slow" },
  { filter: "kind=server", title: "Served" }, { filter: "protocol=postgresql,redis", title: "Databases" },
];

const KEYS: readonly [string, string, string][] = [
  ["service", "the process that saw it", "= != ~ !~"], ["protocol", "http, redis, postgresql, …", "= != ~ !~"],
  ["peer", "the other end: name, address, network", "= != ~ !~"], ["name", "the span's name", "= != ~ !~"],
  ["text", "path, query, SQL text, key", "= != ~ !~"], ["status", "404, 42P01, NXDOMAIN", "= != ~ !~ < > <= >="],
  ["kind", "server, client", "= !="], ["error", "true, false", "= !="], ["duration", "100ms, 1.5s", "< > <= >="],
];

export function FilterBox({ filter, error }: { filter: string; error: string }) {
  const [draft, setDraft] = useState(filter);
  useEffect(() => { setDraft(filter); }, [filter]);
  const take = (text: string): void => setQuery({ q: text.trim() || null });
  return (
    <form class="live-filter" role="search" aria-label="Filter live lines" onSubmit={(event) => { event.preventDefault(); take(draft); }}>
      <div class="row">
        <input class="field mono grow" type="search" aria-label="Filter" placeholder="service=shop duration>100ms" spellcheck={false} autocomplete="off" value={draft}
          aria-invalid={error !== ""} aria-describedby={error ? "live-error" : undefined}
          onInput={(event) => { setDraft(event.currentTarget.value); if (event.currentTarget.value === "") take(""); }} />
        <button type="submit" class="button" disabled={draft.trim() === filter}>Filter</button>
      </div>
      {error && <p class="live-error" id="live-error" role="alert"><span class="bad" aria-hidden="true">◆</span> {error}</p>}
      <div class="live-examples">
        {EXAMPLES.map((example) => (
          <button type="button" key={example.filter} class="chip-button" aria-pressed={filter.split(/\s+/).includes(example.filter)} title={example.filter} onClick={() => take(toggled(filter, example.filter))}>{example.title}</button>
        ))}
        <details>
          <summary>How to write filters</summary>
          <div class="help">
            <p>Terms that must all hold, like <code>service=shop duration&gt;100ms status&gt;=500</code>. <code>=</code> compares all of a value, <code>~</code> looks anywhere in it; <code>*</code> and <code>?</code> stand for any text and any character, commas give alternatives, quotes hold blanks.</p>
            <table class="data dense"><caption class="visually-hidden">Keys of the filter</caption><tbody>{KEYS.map(([key, means, operators]) => <tr key={key}><th scope="row"><code>{key}</code></th><td>{means}</td><td class="mono nowrap">{operators}</td></tr>)}</tbody></table>
          </div>
        </details>
      </div>
    </form>
  );
}

/** The filter with a term put in, or taken out if it is there. */
export function toggled(filter: string, term: string): string {
  const terms = filter.split(/\s+/).filter((one) => one !== "");
  return (terms.includes(term) ? terms.filter((one) => one !== term) : [...terms, term]).join(" ");
}
