import type { ComponentChildren } from "preact";

export type Tone = "ok" | "warn" | "bad" | "";

/** A small label; with `remove` it can be taken away (filters). */
export function Chip({ tone = "", title, children, remove }: {
  tone?: Tone; title?: string; children: ComponentChildren; remove?: { label: string; action: () => void };
}) {
  return (
    <span class={`chip ${tone}`} title={title}>
      <span class="clip">{children}</span>
      {remove && <button type="button" aria-label={remove.label} onClick={remove.action}>×</button>}
    </span>
  );
}
