/** Trestle's store on PostgreSQL, through its port: a commit for each job that is sent and for each that ends, two claim loops. */
import { openPostgres } from "@trestle/postgres";
import { systemClock, systemRandom, uuidv7Ids } from "trestle/kernel";
import type { CommitOutcome, Write } from "trestle/store";
import { monotonicMs, type Job, type Servers } from "../queue/contender.ts";
import type { Running } from "./bench.ts";

const ids = uuidv7Ids(systemClock, systemRandom);
const queue = "work";
const loops = 2;

export async function trestleStore({ postgres }: Servers, handler: (job: Job) => void): Promise<Running> {
  // Who sends and who works are two processes elsewhere; here they are two stores, with connections of their own.
  const sender = await openPostgres({ url: postgres });
  const worker = await openPostgres({ url: postgres });
  let closed = false;
  const wake = new Set<() => void>();
  const forget = worker.onChange(({ queues }) => {
    if (queues.includes(queue)) for (const each of wake) each();
  });

  const work = async () => {
    while (!closed) {
      const { jobs } = await worker.claim({ holder: "bench", leaseMs: 30_000, queues: [{ queue, limit: 100 }] });
      if (jobs.length === 0) {
        await new Promise<void>((resolve) => {
          const go = () => {
            timer.cancel();
            wake.delete(go);
            resolve();
          };
          const timer = systemClock.after(1_000, go);
          wake.add(go);
        });
        continue;
      }
      await Promise.all(
        jobs.map(({ id, fence, payload }) => {
          handler(JSON.parse(Buffer.from(payload).toString()) as Job);
          return worker.commit({ id: ids.next(), expects: [], writes: [{ kind: "finish", job: id, fence, end: { kind: "done" } }] });
        }),
      );
    }
  };
  const working = Promise.all(Array.from({ length: loops }, work));

  const commit = (...writes: Write[]): Promise<CommitOutcome> => sender.commit({ id: ids.next(), expects: [], writes });
  let leaseVersion = 0;
  let events = 0;
  const kinds: Readonly<Record<string, () => Promise<unknown>>> = {
    record: () => commit({ kind: "merge", key: "bench//counter", merge: { kind: "add", amount: 1 } }),
    lease: async () => {
      const key = "bench//lease";
      const value = Buffer.from(`holder ${leaseVersion}`);
      const outcome = await sender.commit({
        id: ids.next(),
        expects: [{ kind: "record", key, version: leaseVersion }],
        writes: [{ kind: "put", key, value, expiresAtMs: systemClock.wallMs() + 30_000 }],
      });
      if (outcome.ok) leaseVersion = outcome.n;
    },
    stream: async () => {
      const outcome = await sender.commit({
        id: ids.next(),
        expects: [{ kind: "stream", stream: "bench//stream", version: events }],
        writes: [{ kind: "append", stream: "bench//stream", events: [{ id: ids.next(), type: "Happened", data: Buffer.from("{}") }] }],
      });
      if (outcome.ok) events++;
    },
  };

  return {
    async sendMany(jobs) {
      await Promise.all(jobs.map((job) => commit({ kind: "enqueue", job: { id: ids.next(), queue, priority: 1, payload: Buffer.from(JSON.stringify(job)) } })));
    },
    async hot() {
      return Object.fromEntries(
        await Promise.all(
          Object.entries(kinds).map(async ([kind, once]) => {
            const fromMs = monotonicMs();
            await once();
            return [kind, monotonicMs() - fromMs] as const;
          }),
        ),
      );
    },
    async close() {
      closed = true;
      forget();
      for (const each of wake) each();
      await working;
      await Promise.all([sender.close(), worker.close()]);
    },
  };
}
