// A colour for each service of a trace. A name has the same one everywhere, unless two of a trace would share it:
// then the later by name gets the next that is free. The name itself always stands beside the colour.

const COLOURS = 8; // --c1 … --c8 of the theme: told apart with all common kinds of colour blindness

export function paletteOf(names: Iterable<string>): Map<string, string> {
  const palette = new Map<string, string>();
  const used = new Set<number>();
  for (const name of [...new Set(names)].sort()) {
    let slot = hash(name) % COLOURS;
    for (let tries = 1; used.has(slot) && tries < COLOURS; tries += 1) slot = (slot + 1) % COLOURS;
    used.add(slot);
    if (used.size === COLOURS) used.clear();
    palette.set(name, `c${slot + 1}`);
  }
  return palette;
}

function hash(name: string): number {
  let value = 2166136261;
  for (let index = 0; index < name.length; index += 1) value = Math.imul(value ^ name.charCodeAt(index), 16777619);
  return value >>> 0;
}
