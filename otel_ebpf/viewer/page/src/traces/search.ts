// A search for traces, as the address and the API have it (the same parameters).

import type { Params } from "../url";

export interface Search {
  service: string; operation: string; kind: string; status: "" | "ok" | "error";
  min_ms: string; max_ms: string; client: string; server: string; attr: string[];
  order: "recent" | "slowest"; limit: number;
}

export const FEW = 200;
export const MANY = 1000;

export function searchOf(query: URLSearchParams): Search {
  const text = (key: string): string => query.get(key) ?? "";
  const status = text("status");
  const limit = Number(text("limit"));
  return {
    service: text("service"), operation: text("operation"), kind: text("kind"),
    status: status === "ok" || status === "error" ? status : "",
    min_ms: text("min_ms"), max_ms: text("max_ms"), client: text("client"), server: text("server"),
    attr: query.getAll("attr").filter((pair) => pair !== ""),
    order: text("order") === "slowest" ? "slowest" : "recent",
    limit: Number.isInteger(limit) && limit > 0 ? Math.min(limit, MANY) : FEW,
  };
}

/** As GET /api/v1/traces takes it; what is empty is left out. */
export function questionOf(search: Search): Params {
  return { ...search, order: search.order === "slowest" ? "slowest" : null };
}

/** Everything that narrows the search, gone. */
export const NOTHING: Params = {
  service: null, operation: null, kind: null, status: null, min_ms: null, max_ms: null, client: null, server: null, attr: [], limit: null,
};

export interface Filter { label: string; without: Params }

/** Each thing that narrows the search, in words, and how to take it away. */
export function filtersOf(search: Search): Filter[] {
  const filters: Filter[] = [];
  const add = (key: string, words: string): void => { if (words) filters.push({ label: words, without: { [key]: null } }); };
  add("service", search.service && `service ${search.service}`);
  add("operation", search.operation && `operation ${search.operation}`);
  add("kind", search.kind && `${search.kind} spans`);
  add("client", search.client && `called by ${search.client}`);
  add("server", search.server && `calls to ${search.server}`);
  add("status", search.status && (search.status === "error" ? "failed" : "not failed"));
  add("min_ms", search.min_ms && `at least ${search.min_ms} ms`);
  add("max_ms", search.max_ms && `at most ${search.max_ms} ms`);
  for (const pair of search.attr) filters.push({ label: pair.replace("=", " = "), without: { attr: search.attr.filter((other) => other !== pair) } });
  return filters;
}

const UNITS: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, "": 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 };

/** "250", "250 ms", "1.5s", "40 µs" in ms; null: that is no duration. */
export function parseDuration(text: string): number | null {
  const match = /^([0-9]{1,12}(?:[.,][0-9]{1,9})?)\s*([a-zµμ]*)$/i.exec(text.trim());
  const unit = match ? UNITS[(match[2] ?? "").toLowerCase()] : undefined;
  return match && unit !== undefined ? Number((match[1] ?? "").replace(",", ".")) * unit : null;
}

/** A duration as the API takes it: plain digits, to the nanosecond. */
export function plainMs(ms: number): string {
  return String(Number(Math.max(0, ms).toFixed(6)));
}

/** As it is shown in a field: the ms of the address with the unit that suits. */
export function fieldText(ms: string): string {
  const value = Number(ms);
  if (ms === "" || !Number.isFinite(value)) return ms;
  if (value >= 1000) return `${Number((value / 1000).toPrecision(4))} s`;
  if (value > 0 && value < 1) return `${Number((value * 1000).toPrecision(4))} µs`;
  return `${Number(value.toPrecision(4))} ms`;
}
