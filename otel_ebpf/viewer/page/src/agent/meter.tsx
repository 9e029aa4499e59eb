// How much of something is used: a bar, and the words beside it.

import type { ComponentChildren } from "preact";
import { percent } from "../format";

/** From these parts on it is said that there is little left. */
export const MUCH = 0.75;
export const NEARLY_FULL = 0.9;

export function Meter({ label, ratio, children }: { label: string; ratio: number; children?: ComponentChildren }) {
  const tone = ratio >= NEARLY_FULL ? "bad" : ratio >= MUCH ? "warn" : "";
  const width = Math.max(0, Math.min(1, ratio));
  return (
    <div class="meter">
      <span class="meter-label clip" title={label}>{label}</span>
      <span class="meter-bar" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * width)}>
        <span class={tone} style={{ width: `max(${100 * width}%, ${width > 0 ? "1px" : "0px"})` }} />
      </span>
      <span class="meter-value">{children ?? <>{tone === "bad" ? <span class="bad">◆ {percent(ratio)} nearly full</span> : tone === "warn" ? <span class="warn">▲ {percent(ratio)}</span> : percent(ratio)}</>}</span>
    </div>
  );
}
