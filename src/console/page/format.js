/** Numbers and times in words. */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export function formatCount(count) {
  return count === null ? "–" : whole.format(count);
}

const short = new Intl.NumberFormat("en", { notation: "compact" });

/** A round number, like 20K. */
export function formatShort(count) {
  return short.format(count);
}

/** A rate or another number with at most two decimal places. */
export function formatRate(rate) {
  return (rate < 10 ? fine : whole).format(rate);
}

/** Milliseconds as one or two units. */
export function formatSpan(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return hours % 24 === 0 || days > 9 ? `${days} d` : `${days} d ${hours % 24} h`;
}

const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Time of day. */
export function formatTime(date) {
  return time.format(date);
}

/** The day in ISO 8601. */
export function formatDay(instant) {
  return instant.slice(0, 10);
}

/** Seconds as milliseconds or seconds; null: there is no value. */
export function formatSeconds(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? `${formatRate(seconds * 1000)} ms` : `${formatRate(seconds)} s`;
}
