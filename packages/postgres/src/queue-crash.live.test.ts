/**
 * kill -9 of workers and of the server while jobs run: every job's effect once in the store, none lost, each key in order. This file is also the
 * worker that is killed.
 */
import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { seededRandom, systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { ClaimedJob, Store, Write } from "trestle/store";
import { openPostgres } from "./open.ts";
import { commitOf, fixture, newId } from "./testing/fixture.ts";

const leaseMs = 1_500;
const queue = "work";
const effect = (name: string) => `crash//${name}`;
const line = (key: string) => `crash//${key}`;

if (process.argv[2] === "work") await work(process.argv[3] as string, process.argv[4] as string);
else crashes(await fixture());

/** Claims, and ends each job in the commit of its effect. Whatever fails is left to the end of its lease. */
async function work(url: string, schema: string): Promise<void> {
  setInterval(() => undefined, 1_000); // the timers of back-off let a process end
  const ids = uuidv7Ids(systemClock, systemRandom);
  const store = await openPostgres({ url, schema });
  const run = async ({ id, fence, key, payload }: ClaimedJob) => {
    const name = Buffer.from(payload).toString();
    const writes: Write[] = [
      { kind: "merge", key: effect(name), merge: { kind: "add", amount: 1 } },
      { kind: "finish", job: id, fence, end: { kind: "done" } },
    ];
    if (key !== undefined) writes.push({ kind: "append", stream: line(key), events: [{ id: ids.next(), type: "Done", data: payload }] });
    await sleep(5); // some die with jobs in their hands
    await store.commit({ id: ids.next(), expects: [], writes });
  };
  for (;;) {
    try {
      const { jobs } = await store.claim({ holder: String(process.pid), leaseMs, queues: [{ queue, limit: 8 }] });
      await Promise.allSettled(jobs.map(run));
      if (jobs.length === 0) await sleep(20);
    } catch {
      await sleep(50);
    }
  }
}

function crashes(postgres: Awaited<ReturnType<typeof fixture>>): void {
  test(
    "kill -9 of workers and of the server: every job's effect once, none lost, each key in order (postgres, queue.redelivers-after-crash)",
    { skip: postgres.skip, timeout: 180_000 },
    async () => {
      const first = await postgres.open();
      const { schema } = first;
      const random = seededRandom("queue crash");
      const names = Array.from({ length: 900 }, (_, i) => `job${i}`);
      const keyOf = (i: number) => (i % 3 === 0 ? undefined : `key${i % 30}`);
      await Promise.all(
        names.map((name, i) => {
          const key = keyOf(i);
          return first.commit(
            commitOf([{ kind: "enqueue", job: { id: newId(), queue, priority: 1, payload: Buffer.from(name), ...(key !== undefined && { key }) } }]),
          );
        }),
      );
      await first.close();
      const workers: ChildProcess[] = [];
      const start = () =>
        workers.push(fork(fileURLToPath(import.meta.url), ["work", postgres.server.url, schema], { execArgv: ["--disable-warning=ExperimentalWarning"] }));
      const counts = { workers: 0, servers: 0 };
      try {
        for (let i = 0; i < 3; i++) start();
        await sleep(1_000);
        for (let round = 0; round < 9; round++) {
          await sleep(150 + random.next() * 300);
          if (round % 3 === 2) {
            await postgres.server.kill();
            counts.servers++;
            await postgres.server.start();
          } else {
            const at = Math.floor(random.next() * workers.length);
            (workers[at] as ChildProcess).kill("SIGKILL");
            workers.splice(at, 1);
            counts.workers++;
            start();
          }
        }
        const store = await postgres.open(schema);
        while (await left(store)) await sleep(200);

        const records = await Promise.all([0, 300, 600].map((from) => store.read.records(names.slice(from, from + 300).map(effect))));
        assert.deepEqual(
          records.flat().map((record, i) => [names[i], record && Buffer.from(record.value).toString()]),
          names.map((name) => [name, "1"]),
        );
        for (let k = 0; k < 30; k++) {
          const events = await store.read.stream(line(`key${k}`), { after: 0, limit: 1_000 });
          assert.deepEqual(
            events.map(({ data }) => Buffer.from(data).toString()),
            names.filter((_, i) => keyOf(i) === `key${k}`),
            `the order of key${k}`,
          );
        }
        assert.deepEqual(counts, { workers: 6, servers: 3 });
      } finally {
        for (const worker of workers) worker.kill("SIGKILL");
      }
    },
  );
}

async function left(store: Store): Promise<boolean> {
  const { waiting, running, dead, parked } = await store.read.queue(queue);
  assert.deepEqual([dead, parked], [0, 0]);
  return waiting + running > 0;
}
