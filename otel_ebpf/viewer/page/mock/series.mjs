// Numbers over time, which follow from names and time alone: the same question twice has the same answer.

export function hash(text) {
  let value = 2166136261;
  for (let index = 0; index < text.length; index += 1) value = Math.imul(value ^ text.charCodeAt(index), 16777619);
  return value >>> 0;
}

/** A smooth wave around 1, with a little noise; t in ms. */
export function wave(name, t) {
  const phase = (hash(name) % 628) / 100;
  const noise = (hash(`${name}${Math.floor(t / 5000)}`) % 1000) / 1000 - 0.5;
  return Math.max(0.05, 1 + 0.25 * Math.sin(t / 180_000 + phase) + 0.1 * Math.sin(t / 31_000 + 2 * phase) + 0.16 * noise);
}

export function red(name, { rate, errors, p50 }, start, end) {
  const seconds = (end - start) / 1000;
  const now = rate * wave(name, end);
  const calls = Math.round(now * seconds);
  const failed = Math.round(calls * errors);
  return { calls, failed, rate: now, p50: p50 * wave(`${name}p`, end), p99: p50 * (4 + (hash(name) % 50) / 10) * wave(`${name}q`, end) };
}

export function redSeries(name, what, start, end, steps) {
  const step = (end - start) / steps;
  const times = Array.from({ length: steps }, (_, index) => start + index * step);
  const bounds = Array.from({ length: 28 }, (_, index) => what.p50 / 8 * 2 ** (index / 3));
  const result = { start, end, step, times, calls: [], failed: [], p50: [], p99: [], heat: { bounds, counts: [] }, gaps: [] };
  for (const t of times) {
    const one = red(name, what, t, t + step);
    const calls = Math.max(0, Math.round(what.rate * wave(name, t) * step / 1000));
    const p50 = what.p50 * wave(`${name}p`, t);
    result.calls.push(calls);
    result.failed.push(Math.round(calls * what.errors * wave(`${name}e`, t)));
    result.p50.push(calls ? p50 : null);
    result.p99.push(calls ? one.p99 : null);
    const weights = bounds.map((bound) => Math.exp(-(Math.log2(bound / p50) ** 2) / 1.6) + 0.12 * Math.exp(-(Math.log2(bound / p50 / 5) ** 2) / 0.8));
    const sum = weights.reduce((a, b) => a + b, 0);
    result.heat.counts.push(weights.map((weight) => Math.round(calls * weight / sum)));
  }
  return result;
}
