/** Numbers and times as people read them. */

/** `0`, `0.2/s`, `12/s`, `1.2k/s`. */
export function rate(perSecond) {
  if (!(perSecond > 0)) return "0";
  if (perSecond < 0.1) return `${Math.max(1, Math.round(perSecond * 60))}/min`;
  if (perSecond < 10) return `${trim(perSecond.toFixed(1))}/s`;
  return `${compact(perSecond)}/s`;
}

/** `0.4 ms`, `12 ms`, `1.2 s`. */
export function duration(ms) {
  if (ms === undefined) return "–";
  if (ms < 10) return `${trim(ms.toFixed(1))} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${trim((ms / 1_000).toFixed(1))} s`;
  return age(ms);
}

/** `3 s`, `2 min`, `5 h 12 min`, `3 d 4 h`. */
export function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return hours % 24 === 0 ? `${days} d` : `${days} d ${hours % 24} h`;
}

/** `950`, `1.2k`, `34k`, `1.2M`. */
export function compact(count) {
  if (count < 1_000) return String(Math.round(count));
  if (count < 10_000) return `${trim((count / 1_000).toFixed(1))}k`;
  if (count < 1_000_000) return `${Math.round(count / 1_000)}k`;
  return `${trim((count / 1_000_000).toFixed(1))}M`;
}

export function percent(share) {
  if (!(share > 0)) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return `${trim((share * 100).toFixed(share < 0.1 ? 1 : 0))} %`;
}

/** `1 job`, `2 jobs`. */
export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Milliseconds of an option such as "300ms" or 300; `undefined` when it is neither. */
export function milliseconds(option) {
  if (typeof option === "number") return option;
  const match = typeof option === "string" ? /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(option) : null;
  return match ? Number(match[1]) * { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match[2]] : undefined;
}

const trim = (text) => text.replace(/\.0$/, "");
