// Light, dark, or as the system has it; and the theme's colours for what is painted on a canvas.

import { computed, signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
const KEY = "otel-ebpf.theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", (event) => { systemDark.value = event.matches; });

function stored(): Theme {
  try {
    const value = window.localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "auto";
  } catch {
    return "auto"; // storage is forbidden here
  }
}

export const theme = signal<Theme>(stored());
export const dark = computed(() => (theme.value === "auto" ? systemDark.value : theme.value === "dark"));
theme.subscribe((value) => {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
});

export function setTheme(value: Theme): void {
  theme.value = value;
  try {
    window.localStorage.setItem(KEY, value);
  } catch {
    // for this page only, then
  }
}

const motion = window.matchMedia("(prefers-reduced-motion: reduce)");
export const reducedMotion = signal(motion.matches);
motion.addEventListener("change", (event) => { reducedMotion.value = event.matches; });

const cache = new Map<string, string>();
let cachedDark: boolean | undefined;

/** A colour of the theme by its CSS variable: color("accent"). Read it where `dark` is read, or it goes stale. */
export function color(name: string): string {
  if (cachedDark !== dark.value) {
    cache.clear();
    cachedDark = dark.value;
  }
  let value = cache.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    cache.set(name, value);
  }
  return value;
}

/** One of the eight colours for things that are told apart (services in a waterfall), always the same for a name. */
export function category(name: string): string {
  let hash = 2166136261;
  for (let index = 0; index < name.length; index += 1) hash = Math.imul(hash ^ name.charCodeAt(index), 16777619);
  return `var(--c${((hash >>> 0) % 8) + 1})`;
}
