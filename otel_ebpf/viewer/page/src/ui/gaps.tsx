// A loss is never hidden: every view whose data has gaps says so, in one line; all reasons are a click away.

import { placeWords, reasonWords } from "../agent/words";
import type { Gap } from "../api";
import { clock, exact } from "../format";

/** "1 203 exchanges lost: ring full (14:02:10 – 14:02:20)"; the API says "agent: kernel" or "viewer: traces" of where. */
export function gapText(gap: Gap): string {
  const when = gap.until - gap.since < 1000 ? clock(gap.since) : `${clock(gap.since)} – ${clock(gap.until)}`;
  const [, whose, where] = /^(agent|viewer): (.*)$/.exec(gap.what) ?? [];
  const what = whose ? `lost by ${whose === "agent" ? "an agent" : "the viewer"}, ${placeWords(`otel_ebpf.losses ${where}`)}` : `${gap.what} lost`;
  return `${exact(gap.count)} ${what}: ${reasonWords("", gap.reason)} (${when})`;
}

export function Gaps({ gaps, inline = false }: { gaps: readonly Gap[] | undefined; inline?: boolean }) {
  const [first, ...others] = gaps ?? [];
  if (!first) return null;
  return (
    <div class={inline ? "gaps" : "banner"} role="status" aria-label="Losses">
      <span aria-hidden="true" class="warn">▲</span>
      {others.length === 0 ? <span>{gapText(first)}</span> : (
        <details>
          <summary>{gapText(first)}, <span class="nowrap">and {others.length} more {others.length === 1 ? "reason" : "reasons"}</span></summary>
          <ul>{others.map((gap) => <li key={`${gap.what}|${gap.reason}|${gap.since}`}>{gapText(gap)}</li>)}</ul>
        </details>
      )}
    </div>
  );
}
