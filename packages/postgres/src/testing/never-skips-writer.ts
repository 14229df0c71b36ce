/**
 * One process of writers for `never-skips.ts`. Each writer starts its commits on time, one after the other, and keeps what it was told; an
 * outcome that nobody knows is asked for by submitting the same commit again. Says `writing`, and at the end `done` with its report.
 */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { Fault, seededRandom, systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { Commit, CommitOutcome, Store } from "trestle/store";
import { openPostgres } from "../open.ts";
import { nextHash } from "./running-hash.ts";

export interface WriterReport {
  readonly refused: number;
  readonly slowestMs: number;
  readonly timersLateMs: number;
  /** Of each writer, the running hash of the numbers of its events that stand. */
  readonly told: Readonly<Record<string, number>>;
}
interface WriterOptions {
  readonly url: string;
  readonly process: number;
  readonly writers: number;
  readonly events: number;
  readonly perSecond: number;
  readonly calmUntilMs: number;
  readonly seed: number;
  readonly way: "trestle" | "sequence";
}

const options = JSON.parse(process.env["WRITER"] ?? "{}") as WriterOptions;
const ids = uuidv7Ids(systemClock, systemRandom);
const report = { refused: 0, slowestMs: 0, timersLateMs: 0, told: {} as Record<string, number> };
let left = options.events;

async function outcomeOf(store: Store, commit: Commit): Promise<CommitOutcome> {
  for (;;) {
    try {
      return await store.commit(commit);
    } catch (error) {
      if (!Fault.is(error)) throw error;
      await sleep(20);
    }
  }
}

async function trestleWriter(name: string, store: Store): Promise<void> {
  const random = seededRandom(`${options.seed} ${name}`);
  let number = 0;
  let dueMs = Date.now() + random.next() * 100;
  while (left > 0) {
    dueMs += 1_000 / options.perSecond;
    const earlyMs = dueMs - Date.now();
    if (earlyMs > 0) await sleep(earlyMs);
    const count = 1 + Math.floor(random.next() * 3);
    const numbers = Array.from({ length: count }, () => ++number);
    const events = numbers.map((each) => ({ id: ids.next(), type: "Written", data: Buffer.from(`${name}:${each}`) }));
    // One in six is refused at its last moment: everything of it has been staged by then.
    const doomed = random.next() < 1 / 6;
    const outcome = await outcomeOf(store, {
      id: ids.next(),
      expects: doomed ? [{ kind: "record", key: "writers//never-there", version: 7 }] : [],
      writes: [{ kind: "append", stream: `writers//${name}`, events }],
    });
    if (outcome.ok) {
      if (Date.now() >= options.calmUntilMs) left -= count; // so that there is load left to be hit
      for (const each of numbers) report.told[name] = nextHash(report.told[name] ?? 0, String(each));
    } else report.refused++;
    if (dueMs < options.calmUntilMs) report.slowestMs = Math.max(report.slowestMs, Date.now() - dueMs);
    // One that was held up starts again from now: what it would have sent meanwhile has been counted by the one that waited.
    dueMs = Math.max(dueMs, Date.now() - 1_000);
  }
}

/** The wrong way: a position from a sequence, inside the writer's own transaction, which now and then takes its time. */
async function sequenceWriter(name: string): Promise<void> {
  const random = seededRandom(`${options.seed} ${name}`);
  const client = new pg.Client({ connectionString: options.url });
  client.on("error", () => undefined);
  await client.connect();
  for (let number = 1; left > 0; number++) {
    await client.query("begin");
    await client.query("insert into sequenced (id) values ($1)", [`${name}:${number}`]);
    await sleep(random.next() * 20);
    if (random.next() < 1 / 6) {
      await client.query("rollback");
      report.refused++;
    } else {
      await client.query("commit");
      left--;
      report.told[name] = nextHash(report.told[name] ?? 0, String(number));
    }
  }
  await client.end();
}

const store = options.way === "trestle" ? await openPostgres({ url: options.url }) : undefined;
let expectedMs = Date.now() + 20;
const timers = setInterval(() => {
  if (Date.now() < options.calmUntilMs) report.timersLateMs = Math.max(report.timersLateMs, Date.now() - expectedMs);
  expectedMs = Date.now() + 20;
}, 20);
process.stdout.write("writing\n");
await Promise.all(
  Array.from({ length: options.writers }, (_, at) => {
    const name = `${options.process}-${at}`;
    return store ? trestleWriter(name, store) : sequenceWriter(name);
  }),
);
clearInterval(timers);
await store?.close();
process.stdout.write(`done ${JSON.stringify(report)}\n`);
