/** Turns between tenants: whoever sends little does not wait for the backlog of whoever sends much. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const Job = z.object({ tenant: z.string(), id: z.string() });
const served = records("served", { key: z.string(), value: z.array(Job) });
const waiting = records("waiting", { key: z.string(), value: Job });
const serving = queue(
  "serving",
  { input: Job, fairBy: ({ tenant }) => tenant, uses: { served, waiting }, concurrency: 1, retry: { attempts: 50, from: "20ms", upTo: "100ms" } },
  async (job, { served, waiting }) => {
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 20));
    waiting.remove(job.id);
    served.put("all", [...((await served.get("all")) ?? []), job]);
  },
);
const counter = service(
  "counter",
  { uses: { serving, waiting } },
  {
    ask: post("/jobs", { body: z.object({ jobs: z.array(Job) }), idempotent: true }, ({ body: { jobs } }, { serving, waiting }) => {
      for (const job of jobs) waiting.put(job.id, job);
      serving.sendMany(jobs);
      return {};
    }),
  },
);

/** Of others before a job that is its tenant's only one: one turn, what three nodes have begun or taken ahead when it comes, and what hurries by while it runs. */
const othersMost = 12;
const backlog = 24;

export const takingTurns = scenario(app("counter", [counter, serving]), {
  uses: { counter, served, waiting },
  for: "5s",
  // Where a node dies, stands still or is told late, what it was given waits, and others are served meanwhile: turns are about what is handed out.
  faults: { duplicate: true, "clock-skew": true, "slow-disk": true },
  clients: {
    count: 4,
    times: 2,
    each: async ({ counter }, chance) => {
      const one = { tenant: `small ${chance.id()}`, id: chance.id() };
      const many = Array.from({ length: backlog }, () => ({ tenant: "big", id: chance.id() }));
      await counter.ask({ body: { jobs: chance.next() < 0.3 ? many : [one] } });
    },
  },
  always: {
    "nobody waits for the backlog of another": async ({ served, waiting }, history) => {
      const all = (await served.get("all")) ?? [];
      // How many had been served when each of the small ones was first seen.
      const seen = new Map(history.history<string, number>().map(({ call, result }) => [call, result as number]));
      for (const { tenant, id } of (await waiting.list({ limit: 1_000 })).items)
        if (tenant !== "big" && !seen.has(id)) {
          history.invoke<number>(id).ok(all.length);
          seen.set(id, all.length);
        }
      sometimes("somebody has a backlog", all.length > backlog / 2);
      return (
        all.every(({ id }, at) => at - (seen.get(id) ?? at) <= othersMost) &&
        [...seen].every(([id, from]) => all.length - from <= othersMost || all.some((job) => job.id === id))
      );
    },
  },
  eventually: { "all are served": async ({ waiting }) => (await waiting.list({ limit: 1_000 })).items.length === 0 },
});
