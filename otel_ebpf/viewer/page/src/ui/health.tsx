// Health by error share: a word, a shape and a colour, never the colour alone.

import { errorShare, percent } from "../format";

export type Health = "idle" | "ok" | "warn" | "bad";

/** From 1 % of failed calls a warning, from 5 % bad: the usual alert thresholds of a 99 % objective. */
export function health(red: { calls: number; failed: number }): Health {
  if (red.calls === 0) return "idle";
  const share = errorShare(red);
  if (share >= 0.05) return "bad";
  return share >= 0.01 ? "warn" : "ok";
}

export const HEALTH_WORDS: Record<Health, string> = { idle: "no calls", ok: "healthy", warn: "some errors", bad: "failing" };

/** ● healthy, ▲ some errors, ◆ failing, ○ no calls. */
export function HealthMark({ red }: { red: { calls: number; failed: number } }) {
  const state = health(red);
  const shape = {
    idle: <circle cx="5" cy="5" r="3" fill="none" stroke="currentColor" stroke-width="1.5" />,
    ok: <circle cx="5" cy="5" r="3.2" fill="currentColor" />,
    warn: <path d="M5 1 9.5 9h-9z" fill="currentColor" />,
    bad: <path d="M5 0 10 5 5 10 0 5z" fill="currentColor" />,
  }[state];
  return (
    <svg class={state === "idle" ? "faint" : state} width="10" height="10" viewBox="0 0 10 10" role="img" aria-label={HEALTH_WORDS[state]}>
      {shape}
    </svg>
  );
}

export function ErrorShare({ red }: { red: { calls: number; failed: number } }) {
  const state = health(red);
  return <span class={state === "warn" || state === "bad" ? state : red.failed ? "" : "faint"}>{percent(errorShare(red))}</span>;
}
