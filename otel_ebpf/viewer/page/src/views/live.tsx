// The lines of `otel-ebpf tap`, of all agents that send here, as they come in.

import { useEffect, useState } from "preact/hooks";
import "../waterfall/waterfall.css";
import "../live/live.css";
import { digits, exact, plural } from "../format";
import { useFeed } from "../live/feed";
import { FilterBox } from "../live/filter";
import { LineList } from "../live/list";
import { KEPT, type Lines } from "../live/lines";
import type { State } from "../live/stream";
import { useMedia } from "../media";
import { reducedMotion } from "../theme";
import { Empty } from "../ui/states";
import { param } from "../url";

export function LiveView() {
  const filter = param("q");
  const { lines, state, perSecond, pause, resume, clear } = useFeed(filter);
  const narrow = useMedia("(max-width: 760px)");
  return (
    <div class="page live">
      <h1 class="visually-hidden">Live</h1>
      <FilterBox filter={filter} error={state.kind === "refused" ? state.why : ""} />
      <div class="panel live-panel">
        <div class="live-head">
          <Connection state={state} />
          <p class="grow muted"><Told lines={lines} perSecond={perSecond} open={state.kind === "open"} /></p>
          <button type="button" class="button" aria-pressed={lines.held} onClick={lines.held ? resume : pause}>
            {lines.held ? <>▶ Resume{lines.waited > 0 && ` (${exact(lines.waited)} new)`}</> : "❚❚ Pause"}
          </button>
          <button type="button" class="button" disabled={lines.shown.length === 0} onClick={clear}>Clear</button>
        </div>
        {lines.missed > 0 && <p class="live-missed" role="status"><span class="warn" aria-hidden="true">▲</span> {exact(lines.missed)} not shown: more came than fits. A narrower filter shows all that it lets through.</p>}
        {lines.shown.length > 0 ? <LineList lines={lines.shown} narrow={narrow} /> : <Waiting state={state} filter={filter} held={lines.held} />}
      </div>
    </div>
  );
}

function Told({ lines, perSecond, open }: { lines: Lines; perSecond: number; open: boolean }) {
  if (lines.held) return <>Held. {lines.waited > KEPT ? `${exact(lines.waited)} came since; the newest ${exact(KEPT)} are kept.` : `${plural(lines.waited, "line")} came since.`}</>;
  if (!open) return null;
  return <>{digits(perSecond)} lines/s{lines.shown.length >= KEPT && `, the newest ${exact(KEPT)} are kept`}{reducedMotion.value && ", in steps of 2 s (reduced motion)"}</>;
}

function Connection({ state }: { state: State }) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (state.kind !== "lost") return undefined;
    setNow(Date.now());
    const timer = window.setInterval(() => setNow(Date.now()), 1000);
    return () => window.clearInterval(timer);
  }, [state]);
  const left = state.kind === "lost" ? Math.max(0, Math.ceil((state.at - now) / 1000)) : 0;
  return (
    <p class="connection" role="status">
      {state.kind === "open" && <><span class="ok" aria-hidden="true">●</span> Connected</>}
      {state.kind === "connecting" && <><span class="muted" aria-hidden="true">○</span> Connecting…</>}
      {state.kind === "lost" && <><span class="bad" aria-hidden="true">◆</span> <span>Connection lost</span> <span class="muted why">{state.why}</span> <span class="muted" aria-hidden="true">Again in {left} s.</span></>}
      {state.kind === "refused" && <><span class="bad" aria-hidden="true">◆</span> Not connected</>}
    </p>
  );
}

function Waiting({ state, filter, held }: { state: State; filter: string; held: boolean }) {
  if (state.kind === "lost") return <Empty title="The connection was lost"><p>{state.why} It is tried again by itself.</p></Empty>;
  if (state.kind === "refused") return <Empty title="No lines"><p>The viewer did not take the filter above; it says why below it.</p></Empty>;
  if (held) return <Empty title="Held"><p>Nothing is shown until you resume.</p></Empty>;
  return filter
    ? <Empty title="Nothing has come that fits"><p>Lines appear here as soon as an exchange fits <code>{filter}</code>.</p></Empty>
    : <Empty title="Waiting for the first line"><p>Lines appear here as soon as an agent or an SDK sends spans of calls, served or made.</p></Empty>;
}
