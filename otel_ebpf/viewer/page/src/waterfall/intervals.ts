// Stretches of time: [start, end) in ms. Lists of them are sorted and do not overlap.

export type Interval = readonly [start: number, end: number];

/** The union of `all`, of each only what lies within `within`. */
export function union(all: readonly Interval[], within: Interval): Interval[] {
  const cut = all
    .map(([start, end]): Interval => [Math.max(start, within[0]), Math.min(end, within[1])])
    .filter(([start, end]) => end > start)
    .sort((one, other) => one[0] - other[0]);
  const result: [number, number][] = [];
  for (const [start, end] of cut) {
    const last = result.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else result.push([start, end]);
  }
  return result;
}

/** What of `within` is not in `taken` (sorted, without overlaps). */
export function rest(within: Interval, taken: readonly Interval[]): Interval[] {
  const result: Interval[] = [];
  let at = within[0];
  for (const [start, end] of taken) {
    if (start > at) result.push([at, start]);
    at = Math.max(at, end);
  }
  if (within[1] > at) result.push([at, within[1]]);
  return result;
}

export function total(all: readonly Interval[]): number {
  return all.reduce((sum, [start, end]) => sum + end - start, 0);
}
