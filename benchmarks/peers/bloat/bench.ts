/**
 * What an old snapshot does to a queue: `npm run bench -- bloat-peers`. A transaction that stays open keeps every dead row of the database
 * from being cleaned away; a queue makes little else.
 *
 * For each library, on a fresh server that starts empty, was never analysed and has its autovacuum on: `--per-sec` (2,000) jobs a second
 * from this process, in bursts of four seconds and a pause of one, so that the queue runs dry; first without the transaction, then
 * with a REPEATABLE READ one held open for `--minutes` (2; the bar asks for 10). From sending to the handler, p50 and p99 per window of `--window`
 * (20) seconds. In Trestle's run beside it, each 100 times a second: a record that is counted up, a record taken and given back as a lease is, and a
 * stream that is appended to; each commit's time.
 *
 * `--only trestle,graphile-worker,pg-boss` chooses. `--check` fails where a window's p99 is more than three times that without the
 * transaction, or one of the three more than twice. `--json` prints data.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { postgres } from "@trestle/testing";
import pg from "pg";
import { machine } from "../../harness/machine.ts";
import graphileWorker from "../queue/graphile-worker.ts";
import pgBoss from "../queue/pg-boss.ts";
import { monotonicMs, type Job, type Servers } from "../queue/contender.ts";
import { trestleStore } from "./trestle-store.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    window: { type: "string", default: "20" },
    "per-sec": { type: "string", default: "2000" },
    only: { type: "string", default: "trestle,graphile-worker,pg-boss" },
    check: { type: "boolean" },
    json: { type: "boolean" },
  },
});
const perSec = Number(values["per-sec"]);
const windowMs = Number(values.window) * 1_000;
const burstMs = 4_000;
const pauseMs = 1_000;
const hotEveryMs = 10;

/** What one library is asked to do. */
export interface Running {
  sendMany(jobs: readonly Job[]): Promise<void>;
  /** One of each kind; answers how long each took, in milliseconds. */
  hot?(): Promise<Readonly<Record<string, number>>>;
  close(): Promise<void>;
}

const open: Readonly<Record<string, (servers: Servers, handler: (job: Job) => void) => Promise<Running>>> = {
  trestle: trestleStore,
  "graphile-worker": async (servers, handler) => {
    const opened = await graphileWorker.open(servers, "tuned");
    await opened.work(handler);
    return opened;
  },
  "pg-boss": async (servers, handler) => {
    const opened = await pgBoss.open(servers, "tuned");
    await opened.work(handler);
    return opened;
  },
};

interface Window {
  readonly jobsPerSec: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Sent and not handled when the window ended. */
  readonly backlog: number;
  readonly hotP99Ms: Readonly<Record<string, number>>;
}
interface Result {
  readonly name: string;
  readonly without: readonly Window[];
  readonly withTransaction: readonly Window[];
  readonly deadRows: number;
}

const quantile = (sorted: readonly number[], share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
const round = (ms: number) => Math.round(ms * 100) / 100;
const say = (text: string) => void process.stderr.write(`${text}\n`);

async function measured(name: string): Promise<Result> {
  const begin = open[name];
  if (!begin) throw new Error(`--only takes ${Object.keys(open).join(", ")}, got ${name}`);
  await using server = await postgres({ settings: { shared_buffers: "256MB", autovacuum_naptime: "5s", max_wal_size: "4GB" } });
  let startedMs: number[] = [];
  let sent = 0;
  let handled = 0;
  const running = await begin({ postgres: server.url, directory: "" }, (job) => {
    handled++;
    startedMs.push(monotonicMs() - job.sentMs);
  });
  const hotMs: Record<string, number[]> = {};
  const stopped = new AbortController();
  const text = "x".repeat(180);

  const sending = (async () => {
    const fromMs = monotonicMs();
    const cycleMs = burstMs + pauseMs;
    const rate = (perSec * cycleMs) / burstMs; // so that the average is what was asked for
    while (!stopped.signal.aborted) {
      const atMs = monotonicMs() - fromMs;
      const due = Math.floor((rate / 1_000) * (Math.floor(atMs / cycleMs) * burstMs + Math.min(burstMs, atMs % cycleMs)));
      const jobs = Array.from({ length: Math.min(500, due - sent) }, (_, i): Job => ({ n: sent + i, sentMs: monotonicMs(), text }));
      if (jobs.length > 0) {
        sent += jobs.length;
        await running.sendMany(jobs);
      } else await sleep(4);
    }
  })();
  const hot = (async () => {
    for (let nextMs = monotonicMs(); running.hot && !stopped.signal.aborted; nextMs += hotEveryMs) {
      for (const [kind, tookMs] of Object.entries(await running.hot())) (hotMs[kind] ??= []).push(tookMs);
      await sleep(Math.max(0, nextMs - monotonicMs()));
    }
  })();

  const windows = async (count: number, label: string): Promise<readonly Window[]> => {
    const seen: Window[] = [];
    for (let i = 0; i < count; i++) {
      const before = handled;
      startedMs = [];
      for (const kind of Object.keys(hotMs)) hotMs[kind] = [];
      await sleep(windowMs);
      const sorted = startedMs.toSorted((a, b) => a - b);
      const window: Window = {
        jobsPerSec: Math.round(((handled - before) * 1_000) / windowMs),
        p50Ms: round(quantile(sorted, 0.5)),
        p99Ms: round(quantile(sorted, 0.99)),
        backlog: sent - handled,
        hotP99Ms: Object.fromEntries(
          Object.entries(hotMs).map(([kind, times]) => [
            kind,
            round(
              quantile(
                times.toSorted((a, b) => a - b),
                0.99,
              ),
            ),
          ]),
        ),
      };
      seen.push(window);
      say(`${name}, ${label}, window ${i + 1}: ${JSON.stringify(window)}`);
    }
    return seen;
  };

  await sleep(3_000); // warm
  const without = await windows(2, "no transaction");
  const holder = new pg.Client(server.url);
  await holder.connect();
  await holder.query("begin isolation level repeatable read");
  await holder.query("select count(*) from pg_class");
  const withTransaction = await windows(Math.max(1, Math.round((Number(values.minutes) * 60_000) / windowMs)), "transaction open");
  const { rows } = await holder.query<{ dead: string }>("select coalesce(sum(n_dead_tup), 0) as dead from pg_stat_user_tables");
  await holder.query("rollback");
  await holder.end();
  stopped.abort();
  await Promise.all([sending, hot]);
  await running.close();
  return { name, without, withTransaction, deadRows: Number(rows[0]?.dead) };
}

const directory = mkdtempSync(join(tmpdir(), "trestle-bloat-"));
const results: Result[] = [];
const skipped: string[] = [];
for (const name of values.only.split(",")) {
  try {
    results.push(await measured(name));
  } catch (error) {
    skipped.push(`${name}: ${(error as Error).message}`);
    say(`${name} failed: ${(error as Error).stack}`);
  }
}

/** The quieter of the windows without the transaction is what the others are compared with. */
const base = (windows: readonly Window[], of: (window: Window) => number) => Math.min(...windows.map(of));
const worst = (windows: readonly Window[], of: (window: Window) => number) => Math.max(...windows.map(of));
const compared = results.map(({ name, without, withTransaction, deadRows }) => ({
  name,
  deadRows,
  jobsPerSec: base(withTransaction, (window) => window.jobsPerSec),
  p50Ms: [base(without, (window) => window.p50Ms), worst(withTransaction, (window) => window.p50Ms)],
  p99Ms: [base(without, (window) => window.p99Ms), worst(withTransaction, (window) => window.p99Ms)],
  p99Ratio: round(worst(withTransaction, (window) => window.p99Ms) / base(without, (window) => window.p99Ms)),
  hotRatio: Object.fromEntries(
    Object.keys(without[0]?.hotP99Ms ?? {}).map((kind) => [
      kind,
      round(worst(withTransaction, (window) => window.hotP99Ms[kind] ?? Number.NaN) / base(without, (window) => window.hotP99Ms[kind] ?? Number.NaN)),
    ]),
  ),
}));

if (values.json)
  console.log(JSON.stringify({ machine: machine(directory), minutes: Number(values.minutes), perSec, compared, results, skipped }, undefined, 2));
else {
  console.log(`${perSec} jobs/s, transaction open for ${values.minutes} min, windows of ${values.window} s`);
  console.table(
    compared.map(({ name, jobsPerSec, p50Ms, p99Ms, p99Ratio, hotRatio, deadRows }) => ({
      name,
      "lowest jobs/s": jobsPerSec,
      "p50 ms, without → worst": p50Ms.join(" → "),
      "p99 ms, without → worst": p99Ms.join(" → "),
      "p99 ratio": p99Ratio,
      ...Object.fromEntries(Object.entries(hotRatio).map(([kind, ratio]) => [`${kind} p99 ratio`, ratio])),
      "dead rows": deadRows,
    })),
  );
  for (const reason of skipped) console.log(`not measured: ${reason}`);
}
rmSync(directory, { recursive: true, force: true });
if (values.check) {
  const trestle = compared.find(({ name }) => name === "trestle");
  if (!trestle || !(trestle.p99Ratio < 3) || Object.values(trestle.hotRatio).some((ratio) => !(ratio < 2))) {
    say("a bar is missed: p99 ratio < 3, record, lease and stream < 2");
    process.exitCode = 1;
  }
}
