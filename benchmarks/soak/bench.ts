/**
 * Does it stay as it was? `npm run bench -- soak --store sqlite|postgres [--minutes 30] [--window 30] [--json]`
 *
 * Half a minute of everything that 64 connections can ask gives the capacity: the answers per second, less the part whose jobs were not done in the same time.
 * What was left of them is done first; then mixed load at 70 % of the capacity, open loop, for `--minutes`. Every `--window` seconds: answers per second, p50, p99, resident memory, jobs waiting; on PostgreSQL dead rows and the tables' size; on SQLite the WAL's size.
 *
 * Verdict, over the windows after the first fifth: the last third against the third before it. Resident memory at most 1.1 times, p99 at most 1.5
 * times, nothing failed, nothing piled up; on PostgreSQL dead rows in the last third at most twice those of the third before.
 * A named command, not part of `npm test`: its results are kept in benchmarks/results.
 */
import { fork, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { postgres } from "@trestle/testing";
import pg from "pg";
import { median } from "../harness/benchmark.ts";
import { machine } from "../harness/machine.ts";
import { ordersShare } from "./mix.ts";

const { values } = parseArgs({
  options: {
    store: { type: "string", default: "sqlite" },
    minutes: { type: "string", default: "30" },
    window: { type: "string", default: "30" },
    json: { type: "boolean" },
    check: { type: "boolean" },
  },
});
const minutes = Number(values.minutes);
const windowMs = Number(values.window) * 1_000;
if (!["sqlite", "postgres"].includes(values.store) || !(minutes > 0) || !(windowMs > 0)) {
  process.stderr.write(`soak: --store is sqlite or postgres, --minutes and --window are above 0; got ${JSON.stringify(values)}\n`);
  process.exit(64);
}

interface Window {
  readonly minute: number;
  readonly perSec: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly failed: number;
  readonly inFlight: number;
  readonly rssMb: number;
  readonly heapMb: number;
  readonly waiting: number;
  readonly deadRows?: number;
  readonly storeMb: number;
  readonly walMb?: number;
}

const directory = mkdtempSync(join(tmpdir(), "trestle-soak-"));
const server = values.store === "postgres" ? await postgres({ settings: { shared_buffers: "256MB", autovacuum_naptime: "10s" } }) : undefined;
const url = server?.url ?? `sqlite:${join(directory, "soak.db")}`;
const admin = server && new pg.Client({ connectionString: server.url });
await admin?.connect();

function child(file: string, argument: string): ChildProcess {
  return fork(fileURLToPath(new URL(file, import.meta.url)), [argument], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
}
const answer = <T>(from: ChildProcess, message?: object): Promise<T> =>
  new Promise((resolve, reject) => {
    const gone = () => reject(new Error("a process of the soak has ended"));
    from.once("exit", gone);
    from.once("message", (told) => {
      from.off("exit", gone);
      resolve(told as T);
    });
    if (message) from.send(message);
  });

async function store(): Promise<Pick<Window, "waiting" | "deadRows" | "storeMb" | "walMb">> {
  const metrics = await (await fetch(`${app.url}/_trestle/metrics`)).text();
  const waiting = [...metrics.matchAll(/^trestle_queue_jobs\{[^}]*state="waiting"[^}]*\} (\S+)/gm)].reduce((sum, match) => sum + Number(match[1]), 0);
  if (!admin) {
    const size = (suffix: string) => (statSync(join(directory, `soak.db${suffix}`), { throwIfNoEntry: false })?.size ?? 0) / 1_048_576;
    return { waiting, storeMb: size(""), walMb: size("-wal") };
  }
  const { rows } = await admin.query<{ dead: string; size: string }>(
    "select coalesce(sum(n_dead_tup), 0) as dead, coalesce(sum(pg_total_relation_size(relid)), 0) as size from pg_stat_user_tables",
  );
  return { waiting, deadRows: Number(rows[0]?.dead), storeMb: Number(rows[0]?.size) / 1_048_576 };
}

const process_ = child("./server.ts", url);
const app = await answer<{ readonly url: string }>(process_);
const client = child("./client.ts", app.url);
const windows: Window[] = [];
const say = (text: string) => void process.stderr.write(`${text}\n`);
try {
  client.send({ rate: 0 });
  await sleep(10_000);
  await answer(client, { tell: true }); // warm
  const left = (await store()).waiting;
  await sleep(20_000);
  const { perSec } = await answer<{ readonly perSec: number }>(client, { tell: true });
  client.send({ rate: 1 });
  const sent = perSec * 20 * ordersShare;
  const done = Math.min(1, Math.max(0, 1 - ((await store()).waiting - left) / sent));
  const capacity = perSec * done;
  const rate = Math.floor(capacity * 0.7);
  say(`${Math.round(perSec)}/s answered, ${Math.round(done * 100)} % of their jobs done: capacity ${Math.round(capacity)}/s; ${rate}/s for ${minutes} minutes`);
  for (let waited = 0; (await store()).waiting > 100; waited++) {
    if (waited === 120) throw new Error("the jobs of the capacity's measurement are not done after two minutes");
    await sleep(1_000);
  }
  client.send({ rate });
  await sleep(5_000);
  await answer(client, { tell: true });
  const fromMs = performance.now();
  while (performance.now() - fromMs < minutes * 60_000) {
    await sleep(windowMs);
    const seen = await answer<Pick<Window, "perSec" | "p50Ms" | "p99Ms" | "failed" | "inFlight">>(client, { tell: true });
    const held = await answer<Pick<Window, "rssMb" | "heapMb">>(process_, { tell: true });
    const window: Window = { minute: Math.round((performance.now() - fromMs) / 6_000) / 10, ...seen, ...held, ...(await store()) };
    windows.push(window);
    say(
      Object.entries(window)
        .map(([name, value]) => `${name} ${Math.round(value * 10) / 10}`)
        .join("  "),
    );
  }
  const result = {
    subject: `soak-${values.store}`,
    machine: machine(directory),
    minutes,
    capacityPerSec: Math.round(capacity),
    ratePerSec: rate,
    ...verdict(windows),
    windows,
  };
  process.stdout.write(
    values.json
      ? `${JSON.stringify(result, undefined, 1)}\n`
      : `${JSON.stringify(result.ratios)}\n${result.kept ? "kept" : `NOT KEPT: ${result.broken.join("; ")}`}\n`,
  );
  if (values.check && !result.kept) process.exitCode = 1;
} finally {
  client.disconnect();
  process_.disconnect();
  await sleep(1_000);
  await admin?.end();
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
}

function verdict(all: readonly Window[]): { readonly kept: boolean; readonly broken: readonly string[]; readonly ratios: Readonly<Record<string, number>> } {
  const settled = all.slice(Math.floor(all.length / 5));
  const third = Math.floor(settled.length / 3);
  const last = settled.slice(settled.length - third);
  const before = settled.slice(settled.length - 2 * third, settled.length - third);
  const ratio = (of: (window: Window) => number) => Math.round((median(last.map(of)) / Math.max(0.001, median(before.map(of)))) * 100) / 100;
  const ratios: Record<string, number> = { rss: ratio(({ rssMb }) => rssMb), p99: ratio(({ p99Ms }) => p99Ms) };
  if (server) ratios["deadRows"] = ratio(({ deadRows = 0 }) => deadRows + 1_000);
  const broken = [
    ...((ratios["rss"] ?? 2) > 1.1 ? [`resident memory grew ${ratios["rss"]} times`] : []),
    ...((ratios["p99"] ?? 2) > 1.5 ? [`p99 grew ${ratios["p99"]} times`] : []),
    ...((ratios["deadRows"] ?? 1) > 2 ? [`dead rows grew ${ratios["deadRows"]} times`] : []),
    ...(all.some(({ failed }) => failed > 0) ? [`${all.reduce((sum, { failed }) => sum + failed, 0)} requests failed`] : []),
    ...((last.at(-1)?.waiting ?? 0) > 10_000 ? [`${last.at(-1)?.waiting} jobs wait`] : []),
  ];
  return { kept: third > 0 && broken.length === 0, broken: third > 0 ? broken : ["too short to tell"], ratios };
}
