/**
 * One process of a measurement: `child.ts <contender> <setting> <role> <servers as JSON> <arguments as JSON>`. Tells its parent over IPC.
 *
 *   fill     sends `jobs` jobs as fast as the library can
 *   burn     works until it has handled `jobs` jobs, or for a minute; tells jobs per second, from the first to the last
 *   send     sends `perSec` jobs a second for `seconds`, on time whether or not the library answers (an open loop); before that the same for `warmSeconds`, and tells
 *            when they are over
 *   work     works, and tells how long jobs waited from their sending to their handler, from the first message of its parent to the second
 *   effect   works, with an effect per job, until it is killed
 *   effects  counts how often each of `jobs` jobs took effect
 */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { monotonicMs, type Contender, type Job, type Servers } from "./contender.ts";

const [name, setting, role, servers, given] = process.argv.slice(2) as [string, "default" | "tuned", string, string, string];
const where = JSON.parse(servers) as Servers;
const options = JSON.parse(given) as { readonly jobs?: number; readonly perSec?: number; readonly warmSeconds?: number; readonly seconds?: number };
const contender = ((await import(new URL(`./${name}.ts`, import.meta.url).href)) as { readonly default: Contender }).default;
const opened = await contender.open(where, setting);
const text = "x".repeat(180);
const job = (n: number): Job => ({ n, sentMs: monotonicMs(), text });
const asked = (): Promise<void> => new Promise((resolve) => process.once("message", () => resolve()));
const tell = (message: object): Promise<void> => new Promise((resolve) => process.send?.(message, () => resolve()));

const roles: Record<string, () => Promise<void>> = {
  async fill() {
    const jobs = options.jobs ?? 0;
    const fromMs = monotonicMs();
    for (let at = 0; at < jobs; at += 1_000) await opened.sendMany(Array.from({ length: Math.min(1_000, jobs - at) }, (_, n) => job(at + n)));
    await tell({ perSec: jobs / ((monotonicMs() - fromMs) / 1_000) });
  },

  async burn() {
    const jobs = options.jobs ?? 0;
    let handled = 0;
    let firstMs = 0;
    const minute = new AbortController();
    await new Promise<void>((resolve, reject) => {
      opened
        .work(() => {
          if (handled === 0) firstMs = monotonicMs();
          if (++handled === jobs) resolve();
        })
        .catch(reject);
      sleep(60_000, undefined, { signal: minute.signal }).then(resolve, () => undefined);
    });
    minute.abort();
    await tell({ perSec: handled / ((monotonicMs() - firstMs) / 1_000), rssMb: process.memoryUsage().rss / 1_048_576 });
  },

  async send() {
    const { perSec = 0, warmSeconds = 0, seconds = 0 } = options;
    const [warm, all] = [perSec * warmSeconds, perSec * (warmSeconds + seconds)];
    const fromMs = monotonicMs();
    let sent = 0;
    let failed = 0;
    const pending = new Set<Promise<void>>();
    while (sent < all) {
      const due = Math.min(all, Math.floor(((monotonicMs() - fromMs) / 1_000) * perSec));
      for (; sent < due; sent++) {
        if (sent === warm) await tell({ warm });
        const one: Promise<void> = opened
          .send(job(sent))
          .catch(() => void failed++)
          .finally(() => pending.delete(one));
        pending.add(one);
      }
      await sleep(1);
    }
    await Promise.all(pending);
    await tell({ sent: sent - warm, failed });
  },

  async work() {
    const waits: number[] = [];
    await opened.work(({ sentMs }) => void waits.push(monotonicMs() - sentMs));
    await tell({ ready: true });
    await asked(); // it is warm
    waits.length = 0;
    await asked();
    const sorted = waits.toSorted((a, b) => a - b);
    const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
    await tell({ handled: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1), rssMb: process.memoryUsage().rss / 1_048_576 });
  },

  async effect() {
    const pool = new pg.Pool({ connectionString: where.postgres, max: 8 });
    pool.on("error", () => undefined);
    await opened.workWithEffect(async (n) => void (await pool.query("insert into effects values ($1)", [n])));
    await tell({ ready: true });
    await new Promise(() => undefined); // until it is killed
  },

  async effects() {
    const ns = Array.from({ length: options.jobs ?? 0 }, (_, n) => n);
    let found: ReadonlyMap<number, number>;
    if (opened.effects) found = await opened.effects(ns);
    else {
      const client = new pg.Client({ connectionString: where.postgres });
      await client.connect();
      const { rows } = await client.query<{ n: number; times: string }>("select n, count(*) as times from effects group by n");
      await client.end();
      found = new Map(rows.map(({ n, times }) => [n, Number(times)]));
    }
    await tell({ done: ns.filter((n) => found.has(n)).length, twice: ns.filter((n) => (found.get(n) ?? 0) > 1).length });
  },
};

process.on("unhandledRejection", () => undefined); // a library that loses its server may shout; its ledger tells what came of it
await roles[role]?.();
const patience = setTimeout(() => process.exit(0), 5_000);
await opened.close().catch(() => undefined);
clearTimeout(patience);
process.exit(0);
