/** Turns between tenants: whoever sends little does not wait for the backlog of whoever sends much. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const Job = z.object({ tenant: z.string(), id: z.string() });
/** Each job has a record of its own: over one that all write, a job might lose again and again, and be done late whosever turn it was. */
const jobs = records("jobs", { key: z.string(), value: z.object({ tenant: z.string(), isDone: z.boolean() }) });
const serving = queue(
  "serving",
  { input: Job, fairBy: ({ tenant }) => tenant, uses: { jobs }, concurrency: 1, retry: { attempts: 50, from: "20ms", upTo: "100ms" } },
  async ({ tenant, id }, { jobs }) => {
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 20));
    jobs.put(id, { tenant, isDone: true });
  },
);
const counter = service(
  "counter",
  { uses: { serving, jobs } },
  {
    ask: post("/jobs", { body: z.object({ all: z.array(Job) }), idempotent: true }, ({ body: { all } }, { serving, jobs }) => {
      for (const { tenant, id } of all) jobs.put(id, { tenant, isDone: false });
      serving.sendMany(all);
      return {};
    }),
  },
);

const backlog = 24;
/**
 * Of a backlog, done while a job waits that is its tenant's only one: what three nodes had begun when it came, one turn, and what the others do while it
 * runs. 1,500 seeds showed up to 5; who waits for a whole backlog sees 24.
 */
const bigMost = 10;

export const takingTurns = scenario(app("counter", [counter, serving]), {
  uses: { counter, jobs },
  for: "5s",
  // Where a node dies, stands still or is told late, what it was given waits, and others are served meanwhile: turns are about what is handed out.
  faults: { duplicate: true, "clock-skew": true, "slow-disk": true },
  clients: {
    count: 4,
    times: 2,
    each: async ({ counter }, chance) => {
      const one = { tenant: `small ${chance.id()}`, id: chance.id() };
      const many = Array.from({ length: backlog }, () => ({ tenant: "big", id: chance.id() }));
      await counter.ask({ body: { all: chance.next() < 0.3 ? many : [one] } });
    },
  },
  always: {
    "nobody waits for the backlog of another": async ({ jobs }, history) => {
      const { items } = await jobs.list({ limit: 1_000 });
      const bigDone = items.filter(({ tenant, isDone }) => tenant === "big" && isDone).length;
      sometimes("somebody has a backlog", items.length - bigDone > backlog / 2);
      // How many of the backlog had been done when each of the small ones was first seen.
      const since = new Map(history.history<string, number>().map(({ call, result }) => [call, result as number]));
      for (const { tenant, isDone } of items) {
        if (tenant === "big" || isDone) continue;
        const before = since.get(tenant);
        if (before === undefined) history.invoke<number>(tenant).ok(bigDone);
        else if (bigDone - before > bigMost) return false;
      }
      return true;
    },
  },
  eventually: { "all are served": async ({ jobs }) => (await jobs.list({ limit: 1_000 })).items.every(({ isDone }) => isDone) },
});
