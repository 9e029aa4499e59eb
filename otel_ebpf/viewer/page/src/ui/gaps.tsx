// What the picture lacks is never hidden: a view whose data has gaps says once, in plain words, what is missing or shown
// otherwise than it was. Reasons, rates and remedies are on the Agent page.

import { lackWords } from "../agent/words";
import type { Gap } from "../api";
import { clock, exact } from "../format";
import { href } from "../url";

/** "35 responses that went on after a pause (streams) are shown shorter than they were"; the API says "agent: kernel" or
 * "viewer: traces" of where. Agents tell sums: their text has no time. */
export function gapText(gap: Gap): string {
  const [, whose, where = ""] = /^(agent|viewer): (.*)$/.exec(gap.what) ?? [];
  if (whose === "agent") return `${exact(gap.count)} ${lackWords(where, gap.reason, gap.count, gap.says)}`;
  const when = gap.until - gap.since < 1000 ? clock(gap.since) : `${clock(gap.since)} – ${clock(gap.until)}`;
  if (gap.reason === "requests not taken: unauthorized") return `${exact(gap.count)} ${gap.count === 1 ? "request" : "requests"} to store data came without the right token, and nothing of it is here (${when})`;
  const refused = /^requests not taken: (.*)$/.exec(gap.reason)?.[1];
  if (refused) return `${exact(gap.count)} ${gap.count === 1 ? "request" : "requests"} to store data could not be taken: ${refused} (${when})`;
  return whose ? `${exact(gap.count)} of the ${where || "data"} that came here could not be stored: ${gap.reason} (${when})` : `${exact(gap.count)} ${gap.what} lost: ${gap.reason} (${when})`;
}

/** `agent`: with the way to the page that has the reasons; not on that page itself. */
export function Gaps({ gaps, inline = false, agent = true }: { gaps: readonly Gap[] | undefined; inline?: boolean; agent?: boolean }) {
  const [first, ...others] = gaps ?? [];
  if (!first) return null;
  const more = agent && <>{" "}<a class="nowrap" href={href("/agent")}>Why: Agent</a></>;
  return (
    <div class={inline ? "gaps" : "banner"} role="status" aria-label="Losses">
      <span aria-hidden="true" class="warn">▲</span>
      {others.length === 0 ? <span>{gapText(first)}.{more}</span> : (
        <details>
          <summary>{gapText(first)}, <span class="nowrap">and {others.length} more.</span>{more}</summary>
          <ul>{others.map((gap) => <li key={`${gap.what}|${gap.reason}|${gap.since}`}>{gapText(gap)}</li>)}</ul>
        </details>
      )}
    </div>
  );
}
