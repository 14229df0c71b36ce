/**
 * A failing seed as a page that a person can read: a lane for each host, time from top to bottom, messages as arrows, faults and the broken promise across all lanes.
 * One file without scripts or anything to load. Rows are events, not milliseconds: what happens at once is not drawn on top of itself, and
 * a quiet minute takes no room.
 */
import { describeFault } from "./fault-plan.ts";
import type { SeedResult, TraceLine } from "./seed-run.ts";

/** The last events before the failure that are drawn; everything is in the trace. */
const rowsMax = 600;
const rowHeight = 22;
const laneWidth = 150;
/** Who is who is said again, for whoever has scrolled. */
const namesEveryRows = 40;
const timeWidth = 90;

const message = /^(\S+) > (\S+): (.*)$/;
/** What says nothing to a person. */
const silent = new Set(["soon", "timer", "write", "durable"]);

interface Row {
  readonly line: TraceLine;
  readonly from?: string;
  readonly to?: string;
  readonly text: string;
  readonly kind: "message" | "fault" | "log" | "event";
}

export function timeline(app: string, result: SeedResult, lines: readonly TraceLine[]): string {
  const rows = rowsOf(lines).slice(-rowsMax);
  const lanes = lanesOf(rows);
  const xOf = (lane: string): number => timeWidth + lanes.indexOf(lane) * laneWidth + laneWidth / 2;
  const yOf = (row: number): number => 40 + row * rowHeight;
  const width = timeWidth + lanes.length * laneWidth + 320;
  const height = yOf(rows.length) + 70;
  const parts: string[] = [];
  for (const lane of lanes) {
    parts.push(`<line class="lane" x1="${xOf(lane)}" x2="${xOf(lane)}" y1="28" y2="${height - 24}"/>`);
    parts.push(`<text class="name" x="${xOf(lane)}" y="18">${escaped(lane)}</text>`);
    parts.push(`<text class="name" x="${xOf(lane)}" y="${height - 8}">${escaped(lane)}</text>`);
    for (let row = namesEveryRows; row < rows.length; row += namesEveryRows)
      parts.push(`<text class="again" x="${xOf(lane)}" y="${yOf(row) - rowHeight / 2 + 3}">${escaped(lane)}</text>`);
  }
  let shownAt = "";
  rows.forEach(({ line, from, to, text, kind }, at) => {
    const y = yOf(at);
    const title = `<title>${escaped(`${line.atMs} ms ${line.life} ${line.what}`)}</title>`;
    if (seconds(line.atMs) !== shownAt) {
      shownAt = seconds(line.atMs);
      parts.push(`<text class="time" x="${timeWidth - 12}" y="${y + 4}">${shownAt}</text>`);
    }
    if (kind === "fault") {
      parts.push(
        `<g class="fault"><rect x="${timeWidth}" y="${y - 9}" width="${width - timeWidth}" height="18"/><text x="${timeWidth + 8}" y="${y + 4}">${escaped(text)}</text></g>`,
      );
    } else if (kind === "message" && from !== undefined && to !== undefined) {
      const sentAt = rows.findIndex((other) => other.line.atMs >= line.sinceMs);
      const [x1, x2] = [xOf(from), xOf(to)];
      const y1 = yOf(Math.max(0, sentAt));
      const tip = x2 > x1 ? -6 : 6;
      parts.push(
        `<g class="message">${title}<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y}"/><path d="M${x2} ${y}l${tip} -3.5l0 7z"/><text x="${(x1 + x2) / 2}" y="${(y1 + y) / 2 - 3}">${escaped(text)}</text></g>`,
      );
    } else {
      const x = xOf(line.life.split("#")[0] ?? "");
      parts.push(`<g class="${kind}">${title}<circle cx="${x}" cy="${y}" r="3"/><text x="${x + 8}" y="${y + 4}">${escaped(text)}</text></g>`);
    }
  });
  const { failure } = result;
  if (failure) {
    const y = yOf(rows.length);
    parts.push(
      `<g class="broken" id="end"><rect x="0" y="${y - 12}" width="${width}" height="26"/><text x="12" y="${y + 5}">${seconds(failure.atMs)} ${escaped(failure.what)}</text></g>`,
    );
  }
  return page(
    app,
    result,
    rows.length,
    lines.length,
    `<svg width="${width}" height="${height}" role="img" aria-label="Events by host and time">${parts.join("\n")}</svg>`,
  );
}

function rowsOf(lines: readonly TraceLine[]): Row[] {
  const rows: Row[] = [];
  for (const line of lines) {
    const { what } = line;
    if (line.life.startsWith("judge#")) continue; // it has no lane
    const found = message.exec(what);
    if (found) rows.push({ line, from: found[1] as string, to: found[2] as string, text: found[3] as string, kind: "message" });
    else if (what.startsWith("fault ") || what.startsWith("end of ")) rows.push({ line, text: what, kind: "fault" });
    else if (what.startsWith("log ")) rows.push({ line, text: messageOfLog(what.slice(4)), kind: "log" });
    else if (line.life !== "" && !silent.has(what) && isOwn(line)) rows.push({ line, text: what, kind: "event" });
  }
  return rows;
}

/** A boot, a flush: not the second half of a message, which its arrow shows. */
function isOwn({ what }: TraceLine): boolean {
  return what === "boot" || what === "flush" || what.endsWith(" broke");
}

function messageOfLog(line: string): string {
  try {
    const { message: said, msg, level } = JSON.parse(line) as { message?: string; msg?: string; level?: string };
    return `${level ?? "log"}: ${said ?? msg ?? line}`.slice(0, 80);
  } catch {
    return line.slice(0, 80);
  }
}

/** Clients, nodes, the store, then what is outside. */
function lanesOf(rows: readonly Row[]): string[] {
  const names = new Set<string>();
  for (const { line, from, to } of rows) for (const name of [from, to, line.life.split("#")[0]]) if (name) names.add(name);
  names.delete("judge");
  const rank = (name: string): number => (name.startsWith("client-") ? 0 : name.startsWith("node-") ? 1 : name === "store" ? 2 : 3);
  const number = (name: string): number => Number(/-(\d+)$/.exec(name)?.[1] ?? 0);
  return [...names].sort((a, b) => rank(a) - rank(b) || number(a) - number(b) || (a < b ? -1 : 1));
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(3)} s`;
const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

function page(app: string, { seed, failure, plan, events, hash }: SeedResult, shown: number, all: number, drawing: string): string {
  const faults = plan.length === 0 ? "<li>none</li>" : plan.map((fault) => `<li>${escaped(describeFault(fault))}</li>`).join("");
  const blocked = failure?.blocked ?? [];
  const waits = blocked.length === 0 ? "" : `<h2>What did not end</h2><ul>${blocked.map((line) => `<li>${escaped(line)}</li>`).join("")}</ul>`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escaped(app)}, seed ${escaped(seed)}</title>
<style>
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667085; --line: #d5dae1; --ground: #fbfcfd; --message: #2f6fb3; --fault: #b54708; --faultground: #fff3e6; --broken: #b42318; --brokenground: #fee4e2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #98a2b3; --line: #344054; --ground: #12161c; --message: #7ab3ef; --fault: #f5a35c; --faultground: #33230f; --broken: #ff8a80; --brokenground: #451a17; } }
body { margin: 0; font: 14px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); }
header { padding: 20px 24px 4px; max-width: 60rem; }
h1 { font-size: 20px; margin: 0 0 4px; } h2 { font-size: 14px; margin: 12px 0 2px; } p, ul { margin: 0 0 4px; } ul { padding-left: 20px; }
.drawing { overflow-x: auto; padding: 12px 24px 32px; }
.what a { color: inherit; }
.what { color: var(--broken); font-weight: 600; }
code { font: 13px ui-monospace, monospace; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .name { font-weight: 600; text-anchor: middle; } svg .again { text-anchor: middle; font-size: 11px; fill: var(--soft); paint-order: stroke; stroke: var(--ground); stroke-width: 4px; } svg .time { text-anchor: end; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .lane { stroke: var(--line); } svg .message line { stroke: var(--message); } svg .message path { fill: var(--message); }
svg .message text { text-anchor: middle; fill: var(--message); font-size: 11px; } svg circle { fill: var(--soft); } svg .log text, svg .event text { fill: var(--soft); font-size: 11px; }
svg .fault rect { fill: var(--faultground); } svg .fault text { fill: var(--fault); } svg .broken rect { fill: var(--brokenground); } svg .broken text { fill: var(--broken); font-weight: 600; }
</style></head><body>
<header><h1>${escaped(app)}, seed ${escaped(seed)}</h1>
<p class="what">${failure ? `<a href="#end">${escaped(failure.what)}</a> does not hold` : "every promise held"}</p>
<p>${events} events, hash <code>${escaped(hash)}</code>${shown < all ? `; the last ${shown} that say something are drawn` : ""}.</p>
<h2>What went wrong in the world</h2><ul>${faults}</ul>${waits}</header>
<div class="drawing">${drawing}</div></body></html>
`;
}
