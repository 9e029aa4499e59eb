// Attribute values as text.

import type { Attributes } from "../api";

/** Strings as they are, all else as JSON. */
export function valueText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "";
}

/** The attributes whose key or value has all words of `filter`, by key. */
export function filtered(attributes: Attributes, filter: string): [string, string][] {
  const words = filter.toLowerCase().split(/\s+/).filter((word) => word !== "");
  return Object.entries(attributes)
    .map(([key, value]): [string, string] => [key, valueText(value)])
    .filter(([key, value]) => {
      const text = `${key} ${value}`.toLowerCase();
      return words.every((word) => text.includes(word));
    })
    .sort(([one], [other]) => (one < other ? -1 : 1));
}
