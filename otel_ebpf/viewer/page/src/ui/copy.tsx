// A button that copies a text; says that it did.

import { useEffect, useState } from "preact/hooks";

export function Copy({ text, label, children }: {
  text: string | (() => string);
  /** For screen readers: "Copy http.route". */
  label: string;
  /** What stands in the button; without it, an icon. */
  children?: string;
}) {
  const [state, setState] = useState<"" | "done" | "failed">("");
  useEffect(() => {
    if (!state) return undefined;
    const timer = window.setTimeout(() => setState(""), 1500);
    return () => window.clearTimeout(timer);
  }, [state]);
  const run = (): void => { void copy(typeof text === "string" ? text : text()).then((done) => setState(done ? "done" : "failed")); };
  const word = { "": "", done: "Copied", failed: "Not allowed" }[state];
  return (
    <button type="button" class={children ? "button" : "copy"} aria-label={label} title={label} onClick={run}>
      {children ? word || children : state === "done" ? "✓" : <Icon />}
      <span class="visually-hidden" aria-live="polite">{word}</span>
    </button>
  );
}

function Icon() {
  return (
    <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.2">
      <rect x="4" y="4" width="7" height="7" rx="1.2" /><path d="M8 4V2.2A1.2 1.2 0 0 0 6.8 1H2.2A1.2 1.2 0 0 0 1 2.2v4.6A1.2 1.2 0 0 0 2.2 8H4" />
    </svg>
  );
}

/** Pages that are not served over TLS or loopback have no clipboard: there the old command has to do. */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const box = document.createElement("textarea");
    box.value = text;
    box.className = "visually-hidden";
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    return done;
  }
}
