// Numbers and times as people read them. Everything is short, and of constant width where it stands in a table.

const THIN = "\u202f"; // narrow no-break space between number and unit

/** Three significant digits, no exponent: 0.0123, 1.23, 12.3, 123, 1234. */
export function digits(value: number): string {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 100) return Math.round(value).toString();
  if (size >= 10) return value.toFixed(1).replace(/\.0$/, "");
  if (size >= 1) return value.toFixed(2).replace(/\.?0+$/, "");
  return String(Number(value.toPrecision(2)));
}

/** A duration in ms: "870 ns", "12 µs", "3.4 ms", "1.2 s", "2 m 5 s"; null: "–". */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return "–";
  const size = Math.abs(ms);
  if (size === 0) return `0${THIN}ms`;
  if (size < 0.001) return `${digits(ms * 1e6)}${THIN}ns`;
  if (size < 0.9995) return `${digits(ms * 1000)}${THIN}µs`;
  if (size < 999.5) return `${digits(ms)}${THIN}ms`;
  if (size < 59_950) return `${digits(ms / 1000)}${THIN}s`;
  return span(ms);
}

/** A length of time in its two largest units: "2 m 5 s", "3 h", "1 d 4 h". */
export function span(ms: number): string {
  const units: [string, number][] = [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]];
  let left = Math.round(Math.abs(ms) / 1000);
  const parts: string[] = [];
  for (const [unit, size] of units) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count) parts.push(`${count}${THIN}${unit}`);
    else if (parts.length) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ") || `0${THIN}s`;
}

/** The same in words, in its largest unit: "15 minutes", "1 hour". */
export function spanWords(ms: number): string {
  for (const [unit, size] of [["day", 864e5], ["hour", 36e5], ["minute", 6e4]] as const) {
    const number = Math.round((ms / size) * 10) / 10;
    if (number >= 1 && (unit !== "day" || number >= 2)) return `${number} ${number === 1 ? unit : `${unit}s`}`;
  }
  return `${Math.round(ms / 1000)} seconds`;
}

/** A rate: "12.1/s", "3/min", "1.2k/s". */
export function rate(perSecond: number | null | undefined): string {
  if (perSecond === null || perSecond === undefined || !Number.isFinite(perSecond)) return "–";
  if (perSecond === 0) return "0/s";
  if (perSecond >= 0.1) return `${count(perSecond)}/s`;
  if (perSecond * 60 >= 0.1) return `${digits(perSecond * 60)}/min`;
  return `${digits(perSecond * 3600)}/h`;
}

/** A count: "999", "1.2k", "34k", "5.6M". */
export function count(value: number): string {
  const size = Math.abs(value);
  for (const [unit, scale] of [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (size >= scale * 0.9995) return `${digits(value / scale)}${unit}`;
  }
  return digits(value);
}

/** Every digit, in groups: "1 234 567". */
export function exact(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, THIN);
}

/** Bytes: "812 B", "1.4 MB". */
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  for (const [unit, scale] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]] as const) {
    if (Math.abs(value) >= scale) return `${digits(value / scale)}${THIN}${unit}`;
  }
  return `${digits(value)}${THIN}B`;
}

/** A share from 0 to 1: "0 %", "0.4 %", "12 %"; what is not nothing is never shown as nothing: "< 0.01 %". */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  if (share > 0 && share < 0.0001) return `<${THIN}0.01${THIN}%`;
  if (share < 1 && share > 0.999) return `>${THIN}99.9${THIN}%`;
  return `${digits(share * 100)}${THIN}%`;
}

/** The share of failed calls. */
export function errorShare(red: { calls: number; failed: number }): number {
  return red.calls > 0 ? red.failed / red.calls : 0;
}

const pad = (value: number, width = 2): string => value.toString().padStart(width, "0");

/** Time of day, local: "14:03:07", with milliseconds if wanted. */
export function clock(ms: number, milliseconds = false): string {
  const at = new Date(ms);
  const text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return milliseconds ? `${text}.${pad(at.getMilliseconds(), 3)}` : text;
}

/** Date and time, local, as ISO 8601 without zone: "2026-08-01 14:03:07". */
export function dateTime(ms: number, milliseconds = false): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(ms, milliseconds)}`;
}

/** How long ago: "12 s ago". */
export function ago(ms: number, now: number): string {
  return now - ms < 1000 ? "now" : `${span(now - ms)} ago`;
}

/** "1 trace", "2 traces". */
export function plural(number: number, one: string, many = `${one}s`): string {
  return `${exact(number)} ${number === 1 ? one : many}`;
}
