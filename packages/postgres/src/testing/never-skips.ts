/**
 * The claim of the log, attacked: many writers in several processes append while transactions of others stand open beside them, some of
 * their own are refused or rolled back, and PostgreSQL is killed. Every subscriber must see every event once, in order.
 *
 * A subscriber keeps a running hash of what it saw, so a million events cost it nothing; so does each writer of what it was told, and the
 * auditor of what stands in the log at the end. Equal hashes mean the same events in the same order.
 *
 * Two ways to do it wrong are here too, to show that the attack finds them: `sequence` (a position drawn from a sequence by each writer's own
 * transaction) and `uncapped` (a subscriber that reads what is visible and not yet durable).
 *
 * The full size; the defaults are those of the test:
 *
 *     npm run never-skips -- --events 1000000 --per-second 150 --pause-ms 30000 --calm-ms 70000 --kills 20 --kill-every-ms 20000
 *
 * Its writers do what they can, so they fall behind their plan; the longest commit is taken at a rate that they keep:
 *
 *     npm run never-skips -- --events 30000 --per-second 20 --pause-ms 30000 --calm-ms 70000 --kills 1 --kill-every-ms 5000
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { nodeProcesses, postgres } from "@trestle/testing";
import pg from "pg";
import { seededRandom } from "trestle/kernel";
import { openPostgres } from "../open.ts";
import { nextHash } from "./running-hash.ts";
import type { WriterReport } from "./never-skips-writer.ts";

export interface Attack {
  readonly seed: number;
  /** Of all writers together, after the calm; at least so many are written. Default 3,000. */
  readonly events?: number;
  /** How long each foreign transaction stands open; default 400. */
  readonly pauseMs?: number;
  /** Default 2, after the calm. */
  readonly kills?: number;
  /** From one to the next, on average; default 500. */
  readonly killEveryMs?: number;
  /** Nothing is killed for so long from the start on, and latencies are taken; default 2,500. */
  readonly calmMs?: number;
  /** Commits a second that each of the 16 writers starts, on time whatever happens; default 20. */
  readonly perSecond?: number;
  /** How positions are given, and how subscribers read. Default `trestle`. */
  readonly way?: "trestle" | "sequence" | "uncapped";
  /** How much longer each flush takes: it is the time between visible and durable. Default 20. */
  readonly flushMs?: number;
}

export interface AttackReport {
  readonly events: number;
  readonly refused: number;
  /** Foreign transactions that stood open, and what share of the time one did. */
  readonly pauses: number;
  readonly kills: number;
  /** The longest commit during the calm, from when it was due; and how late the writers' own timers were at the most. */
  readonly slowestMs: number;
  readonly timersLateMs: number;
  /** Empty when the claim held. */
  readonly violations: readonly string[];
}

const processes = 4;
const writersEach = 4;
const subscribers = 3;

interface Seen {
  position: number;
  hash: number;
}
type Event = { readonly position: number; readonly id: string };

export async function attack(options: Attack): Promise<AttackReport> {
  const { seed, events = 3_000, pauseMs = 400, kills = 2, killEveryMs = 500, calmMs = 2_500, perSecond = 20, way = "trestle", flushMs = 20 } = options;
  const random = seededRandom(`attack ${seed}`);
  await using server = await postgres({ connections: 200, flushDelayMs: flushMs, settings: { wal_writer_delay: "10s" } });
  const first = await openPostgres({ url: server.url });
  const administrator = async () => {
    const client = new pg.Client({ connectionString: server.url });
    client.on("error", () => undefined);
    await client.connect();
    return client;
  };
  const setUp = await administrator();
  await setUp.query("create table others (n serial primary key); create table sequenced (position bigserial primary key, id text not null)");
  await setUp.end();
  const calmUntilMs = Date.now() + calmMs + 3_000; // with the start of the processes
  await using writers = await nodeProcesses({
    script: new URL("./never-skips-writer.ts", import.meta.url),
    ready: /^writing$/m,
    roles: { writer: processes },
    env: ({ index }) => ({
      WRITER: JSON.stringify({
        url: server.url,
        process: index,
        writers: writersEach,
        events: Math.ceil(events / processes),
        perSecond,
        calmUntilMs,
        seed,
        way: way === "sequence" ? "sequence" : "trestle",
      }),
    }),
  });

  let running = true;
  let pauses = 0;
  const violations: string[] = [];
  // Somebody else's transactions, one or more always open. Some commit, some roll back; all hold a snapshot and write.
  const foreign = Array.from({ length: 2 }, async (_, at) => {
    await sleep((at * pauseMs) / 2);
    while (running) {
      try {
        const client = await administrator();
        await client.query("begin isolation level repeatable read");
        await client.query("insert into others default values");
        pauses++;
        for (const untilMs = performance.now() + pauseMs; running && performance.now() < untilMs;) await sleep(20);
        await client.query(random.next() < 0.5 ? "rollback" : "commit");
        await client.end();
      } catch {
        await sleep(50); // the server is away
      }
    }
  });
  const seen = Array.from({ length: subscribers }, (): Seen => ({ position: 0, hash: 0 }));
  const subscriptions = seen.map(async (own, at) => {
    const store = way === "trestle" ? await openPostgres({ url: server.url }) : undefined;
    let client = way === "trestle" ? undefined : await administrator();
    while (running) {
      try {
        const page = store
          ? (await store.read.log({ after: { epoch: 1, position: own.position }, limit: 500 })).events
          : await rowsAfter(client as pg.Client, way, own.position);
        for (const event of page) take(own, event, way === "sequence" ? undefined : (text) => violations.push(`subscriber ${at}: ${text}`));
        if (page.length === 0) await sleep(5);
      } catch (error) {
        if ((error as { code?: unknown }).code === "log.diverged") violations.push(`subscriber ${at}: ${String(error)}`);
        await sleep(50);
        if (client) client = await administrator().catch(() => client);
      }
    }
    await store?.close();
    await client?.end().catch(() => undefined);
  });

  await writers.start();
  while (Date.now() < calmUntilMs) await sleep(50);
  let killed = 0;
  for (; killed < kills; killed++) {
    await sleep(killEveryMs * (0.6 + random.next() * 0.8));
    await server.kill();
    await server.start();
  }
  const reports = await Promise.all(
    writers.all.map(async (one) => JSON.parse((await one.logged(/^done .*$/m, { withinMs: 3_600_000 })).slice(5)) as WriterReport),
  );

  // What stands at the end is the truth; subscribers get as long as they need, up to a bound, to have seen that much.
  const truth: Seen = { position: 0, hash: 0 };
  const toldHashes = new Map<string, number>();
  const reader = await administrator();
  for (let page = await rowsAfter(reader, way, 0); page.length > 0; page = await rowsAfter(reader, way, truth.position)) {
    for (const event of page) {
      take(truth, event, way === "sequence" ? undefined : (text) => violations.push(`the log: ${text}`));
      const [writer, number] = event.id.split(":") as [string, string];
      toldHashes.set(writer, nextHash(toldHashes.get(writer) ?? 0, number));
    }
  }
  for (const fromMs = performance.now(); seen.some(({ position }) => position < truth.position) && performance.now() - fromMs < 10_000;) await sleep(20);
  running = false;
  await Promise.all([...foreign, ...subscriptions, reader.end()]);
  await first.close();
  seen.forEach(({ position, hash }, at) => {
    if (position !== truth.position || hash !== truth.hash)
      violations.push(`subscriber ${at} saw something else than the ${truth.position} events there are (it is at ${position})`);
  });
  for (const { told } of reports)
    for (const [writer, hash] of Object.entries(told))
      if ((toldHashes.get(writer) ?? 0) !== hash) violations.push(`writer ${writer} was told something else than what stands`);
  return {
    events: truth.position,
    refused: reports.reduce((sum, { refused }) => sum + refused, 0),
    pauses,
    kills: killed,
    slowestMs: Math.round(Math.max(...reports.map(({ slowestMs }) => slowestMs))),
    timersLateMs: Math.round(Math.max(...reports.map(({ timersLateMs }) => timersLateMs))),
    violations,
  };
}

async function rowsAfter(client: pg.Client, way: Attack["way"], position: number): Promise<readonly Event[]> {
  const text =
    way === "sequence"
      ? "select position, id from sequenced where position > $1 order by position limit 500"
      : "select position, convert_from(data, 'UTF8') as id from trestle.event where position > $1 order by position limit 500";
  return (await client.query<{ position: string; id: string }>(text, [position])).rows.map((row) => ({ position: Number(row.position), id: row.id }));
}

/** `gap` is told when positions do not follow each other; a sequence has gaps by nature. */
function take(
  seen: Seen,
  event: { readonly position: number; readonly id: string; readonly data?: Uint8Array },
  gap: ((text: string) => void) | undefined,
): void {
  if (gap && event.position !== seen.position + 1) gap(`position ${event.position} follows ${seen.position}`);
  seen.position = event.position;
  seen.hash = nextHash(seen.hash, `${event.position} ${event.data === undefined ? event.id : Buffer.from(event.data).toString("utf8")}`);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      events: { type: "string", default: "3000" },
      "pause-ms": { type: "string", default: "400" },
      kills: { type: "string", default: "2" },
      "kill-every-ms": { type: "string", default: "500" },
      "calm-ms": { type: "string", default: "2500" },
      "per-second": { type: "string", default: "20" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      way: { type: "string", default: "trestle" },
    },
  });
  const report = await attack({
    seed: Number(values.seed),
    events: Number(values.events),
    pauseMs: Number(values["pause-ms"]),
    kills: Number(values.kills),
    killEveryMs: Number(values["kill-every-ms"]),
    calmMs: Number(values["calm-ms"]),
    perSecond: Number(values["per-second"]),
    way: values.way as NonNullable<Attack["way"]>,
  });
  process.stdout.write(`${JSON.stringify({ seed: values.seed, ...report, violations: report.violations.slice(0, 20) }, null, 2)}\n`);
  process.exitCode = report.violations.length > 0 ? 1 : 0;
}
