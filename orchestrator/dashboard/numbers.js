// Numbers and times as people read them.

const RATES = new Set([
  "error_rate",
  "healthy_percentage",
  "matching_percentage",
  "deployed_percentage",
  "failed devices",
  "cpu",
]);
const GROWTHS = new Set(["memory_growth", "disk_growth"]);
const LATENCIES = new Set(["latency_p50", "latency_p95", "latency_p99"]);
const RULE = /^(.+?) (<=|>=|<|>) (.+)$/;

/** Write a share as a percentage with so many digits. */
export const percent = (share, digits = 2) => (share === null ? "–" : `${(share * 100).toFixed(digits)}%`);

export function milliseconds(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${trim(seconds * 1000)} ms` : `${trim(seconds)} s`;
}

export function bytes(value) {
  if (value === null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  return `${trim(value / 1000 ** power)} ${units[power]}`;
}

export const grouped = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, " ");

const trim = (value) => String(Number(value.toPrecision(3)));

/** Write a duration as 12:05 or 1:12:05: it stands still while it counts. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, left] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const padded = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${padded(minutes)}:${padded(left)}` : `${padded(minutes)}:${padded(left)}`;
}

/** Write how long ago something was, now in milliseconds. */
export function ago(at, now) {
  if (at === null) return "–";
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  for (const [unit, size] of [
    ["d", 86_400],
    ["h", 3600],
    ["min", 60],
  ])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${seconds} s`;
}

const padded = (value) => String(value).padStart(2, "0");

/** Write a moment as the time of day where the reader is; of another day with that day. */
export function timeOf(at, now, { seconds = true } = {}) {
  if (at === null) return "–";
  const moment = new Date(at);
  const time = `${padded(moment.getHours())}:${padded(moment.getMinutes())}${seconds ? `:${padded(moment.getSeconds())}` : ""}`;
  const isToday = moment.toDateString() === new Date(now).toDateString();
  return isToday
    ? time
    : `${moment.getFullYear()}-${padded(moment.getMonth() + 1)}-${padded(moment.getDate())} ${time}`;
}

/** Write a value of a check in its metric's unit. */
export function checkValue(check, value) {
  if (value === null) return "–";
  const metric = RULE.exec(check.rule)?.[1] ?? "";
  if (RATES.has(metric)) return percent(value);
  if (GROWTHS.has(metric)) return `${trim(value * 100)}%`;
  if (LATENCIES.has(metric)) return milliseconds(value);
  if (metric === "temperature") return `${value.toFixed(1)} °C`;
  return String(Number(value.toPrecision(4)));
}

/** Write a check's limit with the rule it comes from. */
export function checkLimit(check) {
  const rule = RULE.exec(check.rule)?.[3] ?? check.rule;
  if (check.limit === null) return rule;
  const value = checkValue(check, check.limit);
  return rule.startsWith("baseline") ? `${value} (${rule})` : value;
}

/**
 * Say where a check's value lies between its best (the baseline, else zero or all) and its limit: 0 is as good as it
 * gets, 1 is the limit, above is beyond it. Null where that cannot be said.
 */
export function checkFill(check) {
  const match = RULE.exec(check.rule);
  if (!match || check.observed === null || check.limit === null) return null;
  let moreIsBetter = match[2].startsWith(">");
  // A trigger says what must not be, a check what must.
  if (check.verdict === "fail" && check.observed !== check.limit && moreIsBetter === check.observed > check.limit)
    moreIsBetter = !moreIsBetter;
  const best = check.baseline ?? (moreIsBetter ? 1 : 0);
  const room = Math.abs(check.limit - best);
  const used = moreIsBetter ? best - check.observed : check.observed - best;
  if (room === 0) return used <= 0 ? 0 : 2;
  return Math.max(0, used / room);
}
