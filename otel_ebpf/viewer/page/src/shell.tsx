// What stands around every view: the list of views, the time window, theme, and what is wrong with the viewer itself.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Status } from "./api";
import { useGet } from "./fetch";
import { dateTime } from "./format";
import { setTheme, theme, type Theme } from "./theme";
import { Gaps } from "./ui/gaps";
import { Tooltip } from "./ui/tooltip";
import { href, parts } from "./url";
import { bounds, live, pause, range, RANGES, refresh, resume, setRange } from "./window";

const VIEWS = [
  { title: "Map", path: "/map", heads: ["map"] },
  { title: "Services", path: "/services", heads: ["services", "service"] },
  { title: "Traces", path: "/traces", heads: ["traces", "trace"] },
  { title: "Live", path: "/live", heads: ["live"] },
  { title: "Agent", path: "/agent", heads: ["agent"] },
];

export function Shell({ children }: { children: ComponentChildren }) {
  const head = parts.value[0] ?? "map";
  return (
    <>
      <a class="skip" href="#content">Skip to content</a>
      <header class="top">
        <a class="brand" href={href("/map")} aria-label="otel-ebpf: map">
          <img src="/icon.svg" width="22" height="22" alt="" />
          <span>otel-ebpf</span>
        </a>
        <nav class="views" aria-label="Views">
          {VIEWS.map((view) => (
            <a key={view.path} href={href(view.path)} aria-current={view.heads.includes(head) ? "page" : undefined}>{view.title}</a>
          ))}
        </nav>
        <div class="tools"><Window /><ThemeChoice /></div>
      </header>
      <Problems gaps={!SHOW_THEIR_GAPS.has(head)} agent={head !== "agent"} />
      <main id="content" tabIndex={-1}>{children}</main>
      <Tooltip />
    </>
  );
}

function Window() {
  const [custom, setCustom] = useState(false);
  const chosen = live.value ? RANGES.find((one) => one.start === range.value.start) : undefined;
  const { start, end } = bounds();
  return (
    <>
      <div class="segments" role="group" aria-label="Time window">
        {RANGES.map((one) => (
          <button type="button" key={one.start} aria-pressed={one === chosen} onClick={() => { setCustom(false); setRange(one.start); }}>{one.label}</button>
        ))}
        <button type="button" aria-pressed={!chosen} aria-expanded={custom} onClick={() => setCustom(!custom)}>
          {chosen || (live.value && !custom) ? "custom" : <span class="window-text">{dateTime(start).slice(5, 16)} – {dateTime(end).slice(end - start < 864e5 ? 11 : 5, 16)}</span>}
        </button>
      </div>
      {custom && <Custom close={() => setCustom(false)} />}
      <button type="button" class="button" aria-pressed={live.value} onClick={live.value ? pause : resume}
        title={live.value ? "Stop here: the window is pinned, and a copied link shows the same" : "Follow the present"}>
        <span class="pulse" aria-hidden="true" />{live.value ? "Updating" : "Paused"}
      </button>
      <button type="button" class="button icon" aria-label="Refresh" title="Refresh" onClick={refresh}>
        <svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true"><path d="M12 7a5 5 0 1 1-1.6-3.7M12 1v3H9" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" /></svg>
      </button>
    </>
  );
}

/** Local time as <input type="datetime-local"> has it. */
const field = (ms: number): string => dateTime(ms).replace(" ", "T");

function Custom({ close }: { close: () => void }) {
  const { start, end } = bounds();
  const [from, setFrom] = useState(field(start));
  const [until, setUntil] = useState(field(end));
  const first = new Date(from).getTime();
  const last = new Date(until).getTime();
  const valid = Number.isFinite(first) && Number.isFinite(last) && first < last;
  return (
    <form class="custom-window" aria-label="Custom window" onKeyDown={(event) => { if (event.key === "Escape") close(); }} onSubmit={(event) => { event.preventDefault(); if (valid) { setRange(first, last); close(); } }}>
      <input class="field" type="datetime-local" step="1" aria-label="From" value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
      <span aria-hidden="true">–</span>
      <input class="field" type="datetime-local" step="1" aria-label="Until" value={until} onInput={(event) => setUntil(event.currentTarget.value)} />
      <button type="submit" class="button" disabled={!valid}>Show</button>
    </form>
  );
}

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };

function ThemeChoice() {
  return (
    <button type="button" class="button icon" aria-label={`Theme: ${theme.value}. Change to ${NEXT[theme.value]}`} title={`Theme: ${theme.value}`}
      onClick={() => setTheme(NEXT[theme.value])}>
      <svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true">
        <circle cx="7" cy="7" r="5.2" fill="none" stroke="currentColor" stroke-width="1.5" />
        {theme.value === "auto" && <path d="M7 1.8v10.4A5.2 5.2 0 0 0 7 1.8" fill="currentColor" />}
        {theme.value === "dark" && <circle cx="7" cy="7" r="5" fill="currentColor" />}
      </svg>
    </button>
  );
}

/** Views that show the gaps of the window that they show; on the others the newest ones are shown here. */
const SHOW_THEIR_GAPS = new Set(["map", "services", "service", "traces", "trace"]);

/** The viewer's own trouble: it does not answer, its disk is full, it lost data. */
function Problems({ gaps, agent }: { gaps: boolean; agent: boolean }) {
  const { data, error } = useGet<Status>("status", {}, { poll: 5000, windowed: false });
  return (
    <>
      {error && <div class="banner bad" role="alert"><span aria-hidden="true" class="bad">◆</span><ul><li>{error.message} What is shown below may be old.</li></ul></div>}
      {data && data.problems.length > 0 && (
        <div class="banner bad" role="alert"><span aria-hidden="true" class="bad">◆</span>
          <ul>{data.problems.map((text) => <li key={text}>{text}</li>)}</ul>
        </div>
      )}
      {gaps && <Gaps gaps={data?.gaps} agent={agent} />}
    </>
  );
}
