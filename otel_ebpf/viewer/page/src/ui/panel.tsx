import type { ComponentChildren } from "preact";

/** A titled box. `aside`: what stands at the right of its title; `flush`: the content reaches the border (tables). */
export function Panel({ title, aside, flush = false, children, label }: {
  title?: ComponentChildren; aside?: ComponentChildren; flush?: boolean; children: ComponentChildren; label?: string;
}) {
  return (
    <section class="panel" aria-label={label}>
      {(title || aside) && <header><h2 class="grow clip">{title}</h2>{aside}</header>}
      <div class={flush ? "body flush" : "body"}>{children}</div>
    </section>
  );
}
