// A loss is never hidden: every view whose data has gaps says so.

import type { Gap } from "../api";
import { clock, exact } from "../format";

/** "1 203 exchanges were lost here from 14:02:10 to 14:02:20: ring full". */
export function gapText(gap: Gap): string {
  const when = gap.until - gap.since < 1000 ? `at ${clock(gap.since)}` : `from ${clock(gap.since)} to ${clock(gap.until)}`;
  return `${exact(gap.count)} ${gap.what} ${gap.count === 1 ? "was" : "were"} lost here ${when}: ${gap.reason}`;
}

export function Gaps({ gaps, inline = false }: { gaps: readonly Gap[] | undefined; inline?: boolean }) {
  if (!gaps?.length) return null;
  const most = gaps.slice(0, 4);
  return (
    <div class={inline ? "gaps" : "banner"} role="status" aria-label="Losses">
      <span aria-hidden="true" class="warn">▲</span>
      <ul>
        {most.map((gap) => <li key={`${gap.what}|${gap.reason}|${gap.since}`}>{gapText(gap)}</li>)}
        {gaps.length > most.length && <li class="muted">and {gaps.length - most.length} more reasons (see Agent)</li>}
      </ul>
    </div>
  );
}
