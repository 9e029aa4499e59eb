// Tabs whose choice is a parameter of the address.

import { param, setQuery } from "../url";

export interface Tab { id: string; title: string; count?: number }

export function chosenTab(tabs: readonly Tab[], key = "tab"): string {
  const asked = param(key);
  return tabs.some((tab) => tab.id === asked) ? asked : tabs[0]?.id ?? "";
}

/** Left and right arrows go from tab to tab (WAI-ARIA Authoring Practices, "Tabs"). The panel needs id `panel-ID`. */
export function Tabs({ tabs, name = "tab", label }: { tabs: readonly Tab[]; name?: string; label: string }) {
  const chosen = chosenTab(tabs, name);
  const choose = (id: string): void => setQuery({ [name]: id === tabs[0]?.id ? null : id }, { replace: true });
  const step = (event: KeyboardEvent): void => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const at = tabs.findIndex((tab) => tab.id === chosen);
    const next = tabs[(at + by + tabs.length) % tabs.length];
    if (!next) return;
    event.preventDefault();
    choose(next.id);
    if (event.currentTarget instanceof HTMLElement) {
      event.currentTarget.querySelector<HTMLElement>(`[data-tab="${CSS.escape(next.id)}"]`)?.focus();
    }
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={step}>
      {tabs.map((tab) => (
        <button type="button" role="tab" key={tab.id} data-tab={tab.id} aria-selected={tab.id === chosen}
          aria-controls={`panel-${tab.id}`} tabIndex={tab.id === chosen ? 0 : -1} onClick={() => choose(tab.id)}>
          {tab.title}{tab.count !== undefined && <span class="faint"> {tab.count}</span>}
        </button>
      ))}
    </div>
  );
}
