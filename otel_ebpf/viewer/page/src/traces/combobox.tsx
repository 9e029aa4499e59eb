// A text field with suggestions (WAI-ARIA Authoring Practices, "Editable combobox with list autocomplete"). Any text
// may be entered; Enter, a choice, or leaving the field takes it.

import { useEffect, useId, useRef, useState } from "preact/hooks";

export interface Suggestion { value: string; note?: string }

const MOST = 60;

export function Combobox({ label, value, suggestions, placeholder, take, typing, hideLabel = false, emptied = false }: {
  label: string; value: string; suggestions: readonly Suggestion[]; placeholder?: string;
  take: (value: string) => void;
  /** What is in the field now: for suggestions that follow it. */
  typing?: (text: string) => void;
  hideLabel?: boolean;
  /** The field is empty again when its text was taken. */
  emptied?: boolean;
}) {
  const id = useId();
  const [draft, setDraft] = useState(value);
  const [open, setOpen] = useState(false);
  const [active, setActive] = useState(-1);
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => { setDraft(value); }, [value]);

  const wanted = draft.trim().toLowerCase();
  const fitting = suggestions.filter((one) => wanted === "" || draft === value || one.value.toLowerCase().includes(wanted)).slice(0, MOST);
  const shown = open && fitting.length > 0;

  const edit = (text: string): void => { setDraft(text); setOpen(true); setActive(-1); typing?.(text); };
  const accept = (text: string): void => { setDraft(emptied && text !== value ? "" : text); setOpen(false); setActive(-1); if (text !== value) take(text); };
  const move = (by: number): void => {
    setOpen(true);
    const next = (active + by + fitting.length + 1) % (fitting.length + 1);
    setActive(next === fitting.length ? -1 : next);
    list.current?.children[next]?.scrollIntoView({ block: "nearest" });
  };
  const keys = (event: KeyboardEvent): void => {
    if (event.key === "ArrowDown") move(1);
    else if (event.key === "ArrowUp") move(active < 0 ? fitting.length : -1);
    else if (event.key === "Enter") accept((active >= 0 ? fitting[active]?.value : undefined) ?? draft.trim());
    else if (event.key === "Escape" && open) { setOpen(false); setActive(-1); }
    else return;
    event.preventDefault();
  };
  return (
    <div class="combobox">
      <label class={hideLabel ? "visually-hidden" : ""} for={id}>{label}</label>
      <input id={id} class="field" type="text" role="combobox" autocomplete="off" spellcheck={false} value={draft} placeholder={placeholder}
        aria-expanded={shown} aria-controls={`${id}-list`} aria-autocomplete="list" aria-activedescendant={shown && active >= 0 ? `${id}-${active}` : undefined}
        onInput={(event) => edit(event.currentTarget.value)} onFocus={() => { setOpen(true); typing?.(draft); }} onClick={() => setOpen(true)}
        onBlur={() => accept(draft.trim())} onKeyDown={keys} />
      {draft !== "" && <button type="button" class="combobox-clear" tabIndex={-1} aria-label={`Clear ${label}`} onMouseDown={(event) => { event.preventDefault(); accept(""); }}>×</button>}
      <ul class="options" id={`${id}-list`} role="listbox" aria-label={`Suggestions for ${label}`} hidden={!shown} ref={list}>
        {shown && fitting.map((one, index) => (
          <li key={one.value} id={`${id}-${index}`} role="option" aria-selected={index === active}
            onMouseDown={(event) => { event.preventDefault(); accept(one.value); }}>
            <span class="clip">{one.value}</span>{one.note && <span class="muted">{one.note}</span>}
          </li>
        ))}
      </ul>
    </div>
  );
}
