/** Leases: a node that stands still for longer than it holds a job, and goes on, changes nothing any more. */
import { z } from "zod";
import { app, post, queue, records, service } from "../../index.ts";
import { scenario, sometimes } from "../index.ts";

const sent = records("sent", { key: z.string(), value: z.int() });
const done = records("done", { key: z.string(), value: z.int() });
/** Of each job, the newest attempt that has begun, and the one whose effect is there. */
const Attempt = z.object({ id: z.string(), attempt: z.int() });
const begun = records("begun", { key: z.string(), value: z.int() });
const ended = records("ended", { key: z.string(), value: Attempt });
const digging = queue(
  "digging",
  { input: z.object({ id: z.string() }), uses: { done, ended }, retry: { attempts: 50, from: "20ms", upTo: "500ms" }, timeout: "120s" },
  async ({ id }, { done, ended }, { attempt }) => {
    sometimes("a job is given to another node", attempt > 1);
    const told = await fetch("http://site.app/begun", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ id, attempt }),
    });
    if (!told.ok) throw new Error(`the site answered ${told.status}`);
    await new Promise((resolve) => setTimeout(resolve, 500 + Math.random() * 3_000));
    // Neither reads anything, so no precondition stands beside the claim.
    done.add(id, 1);
    ended.put(id, { id, attempt });
  },
);
const site = service(
  "site",
  { uses: { sent, digging, begun } },
  {
    begin: post("/begun", { body: Attempt }, ({ body: { id, attempt } }, { begun }) => {
      begun.atLeast(id, attempt);
      return {};
    }),
    dig: post("/holes", { body: z.object({ id: z.string() }), idempotent: true }, ({ body: { id } }, { sent, digging }) => {
      sent.put(id, 1);
      digging.send({ id });
      return {};
    }),
  },
);

export const diggingOnce = scenario(app("site", [site, digging]), {
  uses: { site, sent, done, begun, ended },
  // Long enough for nodes that stand still, or are cut off, for longer than a lease.
  for: "90s",
  faults: { pause: true, partition: true, crash: true, "clock-skew": true },
  clients: { count: 3, times: 4, each: async ({ site }, chance) => void (await site.dig({ body: { id: chance.id() } })) },
  always: {
    "no hole is dug twice": async ({ done }) => (await done.list({ limit: 1_000 })).items.every((times) => times === 1),
    "nothing is done by an attempt after a later one had begun": async ({ begun, ended }) => {
      for (const { id, attempt } of (await ended.list({ limit: 1_000 })).items) if (((await begun.get(id)) ?? 0) > attempt) return false;
      return true;
    },
  },
  eventually: {
    "every hole is dug": async ({ sent, done }) => (await sent.list({ limit: 1_000 })).items.length === (await done.list({ limit: 1_000 })).items.length,
  },
});
