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

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5];

/** Round local times within [from, to] (Unix ms), at most about `wanted` of them. */
export function timeTicks(from: number, to: number, wanted: number): number[] {
  const least = (to - from) / Math.max(1, wanted);
  const step = STEPS.find((one) => one >= least) ?? 6048e5;
  const zone = new Date(from).getTimezoneOffset() * 60_000;
  const result: number[] = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to && result.length < 100; at += step) result.push(at);
  return result;
}
