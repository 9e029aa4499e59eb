// What is searched for.

import { useEffect, useState } from "preact/hooks";
import type { AttributeKeys, AttributeValues, ServiceDetail, Services } from "../api";
import { useGet } from "../fetch";
import { count } from "../format";
import { Chip } from "../ui/chip";
import { setQuery } from "../url";
import { valueText } from "../waterfall/values";
import { Combobox, type Suggestion } from "./combobox";
import { fieldText, filtersOf, NOTHING, parseDuration, plainMs, type Search } from "./search";

const ASKED_ONCE = { poll: false, keep: true } as const;

export function SearchForm({ search }: { search: Search }) {
  const services = useGet<Services>("services", {}, ASKED_ONCE);
  const detail = useGet<ServiceDetail>(search.service ? `services/${encodeURIComponent(search.service)}` : null, {}, ASKED_ONCE);
  const operations = new Map<string, Suggestion>();
  if (search.service) for (const one of [...(detail.data?.serves ?? []), ...(detail.data?.calls ?? [])]) operations.set(one.name, { value: one.name, note: count(one.calls) });
  const beyond = filtersOf({ ...search, service: "", operation: "", status: "", min_ms: "", max_ms: "" });
  return (
    <form class="search panel" role="search" aria-label="Search for traces" onSubmit={(event) => event.preventDefault()}>
      <div class="search-fields">
        <Combobox label="Service" placeholder="any" value={search.service} take={(service) => setQuery({ service, operation: null })}
          suggestions={(services.data?.services ?? []).map((one) => ({ value: one.name, note: count(one.calls) }))} />
        <Combobox label="Operation" placeholder="any route or query" value={search.operation} take={(operation) => setQuery({ operation })} suggestions={[...operations.values()]} />
        <div class="labelled">
          <span class="label" id="status-label">Status</span>
          <div class="segments" role="group" aria-labelledby="status-label">
            {([["", "any"], ["ok", "not failed"], ["error", "failed"]] as const).map(([status, title]) => (
              <button type="button" key={status} aria-pressed={search.status === status} onClick={() => setQuery({ status })}>{title}</button>
            ))}
          </div>
        </div>
        <div class="labelled">
          <span class="label">Duration</span>
          <div class="row durations"><DurationField label="At least" placeholder="min" name="min_ms" value={search.min_ms} /><span aria-hidden="true">–</span><DurationField label="At most" placeholder="max" name="max_ms" value={search.max_ms} /></div>
        </div>
        <AttributeFields search={search} />
        {filtersOf(search).length > 0 && <button type="button" class="button plain" onClick={() => setQuery(NOTHING)}>Clear all</button>}
      </div>
      {beyond.length > 0 && (
        <div class="search-chips">
          {beyond.map((filter) => <Chip key={filter.label} title={filter.label} remove={{ label: `Remove ${filter.label}`, action: () => setQuery(filter.without) }}>{filter.label}</Chip>)}
        </div>
      )}
    </form>
  );
}

function DurationField({ label, placeholder, name, value }: { label: string; placeholder: string; name: string; value: string }) {
  const [draft, setDraft] = useState(fieldText(value));
  const [wrong, setWrong] = useState(false);
  useEffect(() => { setDraft(fieldText(value)); setWrong(false); }, [value]);
  const take = (): void => {
    if (draft === fieldText(value)) return setWrong(false);
    const ms = draft.trim() === "" ? null : parseDuration(draft);
    setWrong(draft.trim() !== "" && ms === null);
    if (draft.trim() === "") setQuery({ [name]: null });
    else if (ms !== null) setQuery({ [name]: plainMs(ms) });
  };
  return (
    <>
      <input class="field" type="text" aria-label={`${label} (ms, or with a unit)`} aria-invalid={wrong} placeholder={placeholder} value={draft} title={wrong ? "A duration like 250 ms or 1.5 s" : "Like 250 ms or 1.5 s"}
        onInput={(event) => setDraft(event.currentTarget.value)} onBlur={take}
        onKeyDown={(event) => { if (event.key === "Enter") { event.preventDefault(); take(); } }} />
      {wrong && <span class="wrong" role="alert">A duration is like 250 ms or 1.5 s</span>}
    </>
  );
}

function AttributeFields({ search }: { search: Search }) {
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const [prefix, setPrefix] = useState("");
  const [used, setUsed] = useState(false);
  const service = search.service || null;
  const keys = useGet<AttributeKeys>(used ? "attributes" : null, { service }, ASKED_ONCE);
  const values = useGet<AttributeValues>(key ? `attributes/${encodeURIComponent(key)}` : null, { service, prefix }, ASKED_ONCE);
  const add = (text: string, of = key): void => {
    setKey(of);
    setValue(text);
    if (!of || text === "") return;
    const pair = `${of}=${text}`;
    if (!search.attr.includes(pair)) setQuery({ attr: [...search.attr, pair] });
    setKey("");
    setValue("");
    setPrefix("");
  };
  return (
    <div class="attribute-fields" onFocusCapture={() => setUsed(true)}>
      <Combobox label="Attribute" placeholder="key, e.g. http.route" value={key} take={(text) => add(value, text)} suggestions={(keys.data?.keys ?? []).map((one) => ({ value: one.key, note: count(one.spans) }))} />
      <span class="equals" aria-hidden="true">=</span>
      <Combobox label="Value of the attribute" hideLabel placeholder="value" value={value} take={(text) => add(text)} emptied={key !== ""} typing={(text) => setPrefix(text.trim())}
        suggestions={key && values.data?.key === key ? values.data.values.map((one) => ({ value: valueText(one.value), note: count(one.spans) })) : []} />
    </div>
  );
}
