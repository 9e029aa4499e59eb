// Round numbers for axes.

/** 0, step, 2·step, … within [from, to], about `wanted` of them; steps are 1, 2 or 5 times a power of ten. */
export function ticks(from: number, to: number, wanted: number): number[] {
  const length = to - from;
  if (!(length > 0) || !Number.isFinite(length)) return [];
  const rough = length / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const result: number[] = [];
  for (let index = Math.ceil(from / step - 1e-9) + 0; index * step <= to + step * 1e-9; index += 1) result.push(index * step);
  return result;
}

/** Powers of ten in [from, to], with 2 and 5 times them where these are few. */
export function logTicks(from: number, to: number): number[] {
  const factors = Math.log10(to / from) > 2.5 ? [1] : Math.log10(to / from) > 1.2 ? [1, 3] : [1, 2, 5];
  const result: number[] = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power += 1) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= from && value <= to) result.push(value);
    }
  }
  return result;
}
